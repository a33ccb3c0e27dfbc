"""One VM in QEMU: started, stopped, saved and resumed, its port-forwarding rules changed while it runs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from provision.natvm import NAME, Forwarding, NatVmError, State, VmSettings
from provision.qemu_disks import Disks, Machine
from provision.qemu_image import Image, kind_of, one_line
from provision.qmp import Monitor, MonitorError, MonitorGone

LAUNCH_LIMIT = 120.0
SNAPSHOT_LIMIT = 300.0
QUIT_LIMIT = 15.0
NETWORK = "user,id=nat,net=10.0.2.0/24,host=10.0.2.2,dns=10.0.2.3,dhcpstart=10.0.2.15"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")

# Why a rule's port cannot be listened on, which QEMU does not say. Two UDP sockets can share a port, and QEMU
# asks for that: it would not even notice.
_TRY_PORTS = """
import json, socket, sys
for name, protocol, address, port in json.loads(sys.argv[1]):
    with socket.socket(type=socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM) as s:
        try:
            if protocol == "tcp":
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((address, port))
            if protocol == "tcp":
                s.listen(1)
        except OSError as error:
            print(json.dumps([name, error.errno, error.strerror]))
            break
"""


# QEMU before 8.1 reads the instructions that it translates without a lock: one that another thread writes meanwhile,
# as Linux does when a static key changes, stays for ever in the translation, and the guest's processors spin on a
# breakpoint that is no longer there. There, one thread runs them all.
THREADS_SAFE = (8, 1)


def last_lines(console: str, count: int = 6) -> str:
    """The end of what a guest printed, on one line without its terminal's codes: for an error's message."""
    lines = [ESCAPES.sub("", line).strip() for line in re.split(r"[\r\n]+", console)]
    return " | ".join(list(filter(None, lines))[-count:]) or "(nothing on the console)"


@dataclass(frozen=True)
class Program:
    """QEMU itself, and where it is run; its attributes are those of :class:`provision.qemu.Qemu`."""

    argv: tuple[str, ...]
    prefix: tuple[str, ...]
    accelerator: Literal["tcg", "kvm"]

    @cached_property
    def version(self) -> str:
        """Such as ``7.2.22``.

        Raises:
            NatVmError: ``configuration``, it cannot be run.
        """
        said = self.run([*self.argv, "--version"], "asking QEMU for its version", 30)
        found = re.search(r"version (\d[\w.]*)", said.stdout)
        if said.returncode or not found:
            raise NatVmError(
                "configuration",
                f"running {self.argv[0]} --version",
                one_line(said.stderr or said.stdout) or f"exit status {said.returncode}",
                "install QEMU (Debian: apt install qemu-system-x86 qemu-utils)",
            )
        return found[1]

    @property
    def threads_are_safe(self) -> bool:
        """Whether each processor that it emulates can have a thread of its own."""
        numbers = [int(number) for number in re.findall(r"\d+", self.version)[:2]]
        return tuple(numbers) >= THREADS_SAFE

    def run(
        self,
        argv: Sequence[str],
        tried: str,
        limit: float,
        *,
        cwd: Path | None = None,
        keep: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command where QEMU runs; `keep` is a descriptor that it gets.

        Raises:
            NatVmError: ``configuration``, it cannot be started; ``timeout``.
        """
        command = [*self.prefix, *argv]
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=limit,
                cwd=cwd,
                pass_fds=() if keep is None else (keep,),
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise NatVmError(
                "configuration",
                tried,
                f"{command[0]}: {error.strerror}",
                "install QEMU (Debian: apt install qemu-system-x86 qemu-utils)",
            ) from error
        except OSError as error:
            raise NatVmError("configuration", tried, f"{command[0]}: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            said = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else ""
            raise NatVmError("timeout", tried, f"not done within {limit:.0f} s {one_line(said)}") from error


class QemuVm:
    """One VM; see :class:`provision.natvm.NatVm`.

    QEMU inherits a lock on the file ``alive`` of the VM's folder and has it until it ends, however it ends.
    Nothing else is asked whether it runs: a process id says nothing outside of its pid namespace. Its file
    ``pid`` is removed by itself when it ends in order, and left when it is killed.
    """

    def __init__(self, program: Program, disks: Disks, name: str, disk: Path) -> None:
        self._program = program
        self._disks = disks
        self._registry = disks.registry
        self._name = name
        self._disk = disk
        self.folder = disks.registry.folder / "vms" / name

    @property
    def name(self) -> str:
        return self._name

    @property
    def disk(self) -> Path:
        return self._disk

    def state(self) -> State:
        """``aborted``: QEMU was killed, or died. A guest that shuts itself down leaves it ``off``."""
        self._record()
        if self._runs():
            return "running"
        return "aborted" if (self.folder / "pid").exists() else "off"

    def start(self) -> None:
        self._launch(f"starting the VM {self._name}")

    def resume(self, snapshot: str) -> None:
        """See the protocol. The guest's clock goes on from the time of the snapshot, and connections that it
        had then are dead: to set the one and open the others anew is up to the caller.
        """
        tried = f"resuming the VM {self._name} from {snapshot}"
        self._record()
        if self._runs():
            raise NatVmError("refused", tried, "it is running", "stop it first")
        snapshots = self._image(tried, in_use=False).snapshots
        if snapshot not in snapshots:
            there = ", ".join(snapshots) or "there is none"
            raise NatVmError("missing", tried, f"no snapshot of that name ({there})")
        if not snapshots[snapshot]:
            raise NatVmError(
                "refused", tried, "the snapshot was taken while it was off: there is no memory in it"
            )
        self._launch(tried, snapshot)

    def console(self) -> str:
        self._record()
        try:
            return (self.folder / "console").read_bytes().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def forwardings(self) -> list[Forwarding]:
        return list(self._record().rules)

    def forward(self, rule: Forwarding) -> None:
        tried = f"adding the rule {rule} to the VM {self._name}"
        with self._registry.changing() as document:
            rules = document.vm(self._name).rules
            for other in rules:
                if other.name == rule.name:
                    raise NatVmError("conflict", tried, f"a rule of this name already exists ({other})")
                if _same_port(other, rule):
                    raise NatVmError(
                        "conflict", tried, f"a rule for this host port and host IP already exists ({other})"
                    )
            if self._runs():
                with self._monitor(tried) as monitor:
                    self._open(monitor, [rule], tried)
            rules.append(rule)

    def unforward(self, name: str) -> None:
        """See the protocol. Connections that the rule has made stay."""
        tried = f"deleting the rule {name} of the VM {self._name}"
        with self._registry.changing() as document:
            rules = document.vm(self._name).rules
            rule = next((each for each in rules if each.name == name), None)
            if rule is None:
                there = ", ".join(each.name for each in rules) or "there is none"
                raise NatVmError("missing", tried, f"no rule of that name ({there})")
            if self._runs():
                with self._monitor(tried) as monitor:
                    said = monitor.human(
                        f"hostfwd_remove nat {rule.protocol}:{rule.host_ip or ''}:{rule.host_port}"
                    )
                if not said.endswith("removed"):
                    raise NatVmError("fault", tried, said)
            rules.remove(rule)

    def snapshot(self, name: str) -> None:
        """See the protocol. It is kept inside the disk's image, and with it in a plain copy of that.

        Of a copy with a UUID of its own (:func:`provision.qemu_image.set_uuid`) another VM with the same memory,
        processors and drives can be resumed.

        Raises:
            ValueError: a name that would need quoting.
            NatVmError: ``conflict``, the name is taken; ``refused``, the disk's format has no snapshots.
        """
        tried = f"taking the snapshot {name} of the VM {self._name}"
        if not NAME.fullmatch(name):
            raise ValueError(f"snapshot {name!r}: a name has letters, digits, '_', '.' and '-' only")
        self._record()
        runs = self._runs()
        if name in self._image(tried, in_use=runs).snapshots:
            raise NatVmError("conflict", tried, "a snapshot of this name already exists")
        if not runs:
            self._disks.images.snapshot(self._disk, name, tried)
            return
        with self._monitor(tried) as monitor:
            if said := monitor.human(f"savevm {name}", within=SNAPSHOT_LIMIT):
                raise NatVmError("refused" if "does not support" in said else "fault", tried, said)

    def stop(self, *, within: float = 30.0) -> None:
        self._record()
        if within > 0 and self._runs():
            with contextlib.suppress(MonitorGone, MonitorError), Monitor(self.folder / "qmp") as monitor:
                monitor.execute("system_powerdown")
            self._ended(within)
        self._end()

    def remove(self, *, disks: bool = True) -> None:
        tried = f"removing the VM {self._name}"
        with self._registry.changing() as document:
            document.vm(self._name)
            self.clear(tried)
            if disks:
                self._disks.forget(document, self._disk, tried)
            del document.vms[self._name]

    def clear(self, tried: str) -> None:
        """Ends its QEMU, and removes its folder, whether it is registered or not."""
        self._end()
        try:
            shutil.rmtree(self.folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise NatVmError("access", tried, f"{error.filename}: {error.strerror}") from error

    def _record(self) -> Machine:
        return self._registry.read().vm(self._name)

    def _image(self, tried: str, *, in_use: bool) -> Image:
        form = self._registry.read().disks[self._disk].format
        return self._disks.images.info(self._disk, tried, form=form, in_use=in_use)

    def _runs(self) -> bool:
        try:
            lock = os.open(self.folder / "alive", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def _ended(self, within: float) -> bool:
        end = time.monotonic() + within
        while self._runs():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    @contextmanager
    def _monitor(self, tried: str) -> Iterator[Monitor]:
        try:
            with Monitor(self.folder / "qmp") as monitor:
                yield monitor
        except MonitorGone as error:
            raise NatVmError("boot", tried, f"QEMU has ended ({error})") from error
        except MonitorError as error:
            raise NatVmError("fault", tried, str(error)) from error

    def _launch(self, tried: str, snapshot: str = "") -> None:
        _ = self._program.version  # asked while no lock is held that a child could inherit
        with self._registry.changing() as document:
            machine = document.vm(self._name)
            if self._runs():
                raise NatVmError("refused", tried, "it is running already")
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)  # whoever has it now only looks whether it runs
            for name in ("pid", "qmp", "console"):
                (self.folder / name).unlink(missing_ok=True)
            argv = self._argv(machine.settings, document.disks[self._disk].format)
            argv += ["-loadvm", snapshot] if snapshot else []
            try:
                try:
                    done = self._program.run(argv, tried, LAUNCH_LIMIT, cwd=self.folder, keep=lock)
                finally:
                    os.close(lock)
                if done.returncode:
                    said = one_line(done.stderr) or f"QEMU ended with status {done.returncode}"
                    # a command prefix ends so when it cannot execute what it is to start
                    absent = done.returncode in (126, 127)
                    raise NatVmError("configuration" if absent else kind_of(said, "boot"), tried, said)
                # not on the command line: a saved state is without them, whatever is there
                with self._monitor(tried) as monitor:
                    self._open(monitor, machine.rules, tried)
                    monitor.execute("cont")
            except BaseException:
                self._end()
                raise

    def _argv(self, settings: VmSettings, form: str) -> list[str]:
        kvm = self._program.accelerator == "kvm"
        emulated = f"tcg,thread={'multi' if self._program.threads_are_safe else 'single'}"
        argv = [
            *self._program.argv,
            *("-name", settings.name, "-nodefaults", "-no-user-config", "-display", "none"),
            *("-machine", "pc", "-accel", "kvm" if kvm else emulated),
            *("-cpu", "host" if kvm else settings.cpu_model or "max"),
            *("-smp", str(settings.cpus), "-m", str(settings.memory_mb)),
            *("-chardev", f"file,id=console,path={_quoted(self.folder / 'console')}"),
            *("-serial", "chardev:console"),
            # a Unix socket's address has 108 bytes at most: this one is relative to the folder it is started in
            *("-qmp", "unix:qmp,server=on,wait=off", "-pidfile", str(self.folder / "pid")),
            *("-netdev", NETWORK, "-device", "virtio-net-pci,netdev=nat,romfile="),
            *("-device", "virtio-rng-pci"),
            *_drive("disk", settings.disk, form, read_only=False),
            # no rule, no guest: it is let go when all of them are open
            *("-S", "-daemonize"),
        ]
        if settings.seed:
            argv += _drive("seed", settings.seed, "raw", read_only=True)
        if settings.kernel:
            argv += ["-kernel", str(settings.kernel), "-append", settings.command_line]
            argv += ["-initrd", str(settings.initrd)] if settings.initrd else []
        return argv

    def _open(self, monitor: Monitor, rules: Iterable[Forwarding], tried: str) -> None:
        rules = list(rules)
        self._can_listen(rules, tried)
        for rule in rules:
            said = monitor.human(
                f"hostfwd_add nat {rule.protocol}:{rule.host_ip or ''}:{rule.host_port}"
                f"-{rule.guest_ip or ''}:{rule.guest_port}"
            )
            if said:
                raise NatVmError("conflict", tried, f"{said} ({rule})")

    def _can_listen(self, rules: list[Forwarding], tried: str) -> None:
        if not rules:
            return
        asked = [(rule.name, rule.protocol, str(rule.host_ip or ""), rule.host_port) for rule in rules]
        argv = [sys.executable, "-I", "-S", "-c", _TRY_PORTS, json.dumps(asked)]
        done = self._program.run(argv, tried, 30)
        if done.returncode:
            raise NatVmError("fault", tried, one_line(done.stderr))
        if not done.stdout:
            return
        name, number, text = json.loads(done.stdout)
        rule = next(each for each in rules if each.name == name)
        where = f"{rule.protocol} port {rule.host_port} of {rule.host_ip or 'any address'}"
        if number == errno.EADDRINUSE:
            raise NatVmError("conflict", tried, f"{where}: {text}", "choose another host port")
        if number in (errno.EACCES, errno.EPERM):
            raise NatVmError("access", tried, f"{where}: {text}", "choose a host port above 1023")
        raise NatVmError("refused", tried, f"{where}: {text}", "the rule needs an address of this host")

    def _end(self) -> None:
        """Ends QEMU, by force if it does not listen; its state is ``off`` after that."""
        end = time.monotonic() + QUIT_LIMIT
        while self._runs():
            with (
                contextlib.suppress(MonitorGone, MonitorError),
                Monitor(self.folder / "qmp", within=5) as monitor,
            ):
                monitor.execute("quit", within=5)
                self._ended(QUIT_LIMIT)
            # one whose starter was killed may not listen yet, nor have written its process id
            if self._runs() and (self._kill() or time.monotonic() > end):
                if not self._ended(QUIT_LIMIT):
                    raise NatVmError(
                        "timeout", f"ending the VM {self._name}",
                        f"QEMU does not end within {QUIT_LIMIT:.0f} s of being killed",
                    )  # fmt: skip
            elif self._runs():
                time.sleep(0.05)
        (self.folder / "pid").unlink(missing_ok=True)

    def _kill(self) -> bool:
        """Whether there was a process id to kill: QEMU's for certain, for it runs; in its own pid namespace."""
        try:
            pid = int((self.folder / "pid").read_text())
        except (OSError, ValueError):
            return False
        self._program.run(["sh", "-c", f"kill -9 {pid}"], f"ending the VM {self._name}", 10)
        return True


def _same_port(one: Forwarding, other: Forwarding) -> bool:
    same = (one.protocol, one.host_port) == (other.protocol, other.host_port)
    return same and (None in (one.host_ip, other.host_ip) or one.host_ip == other.host_ip)


def _quoted(path: Path) -> str:
    """For a value in QEMU's comma-separated options."""
    return str(path).replace(",", ",,")


def _drive(name: str, path: Path, form: str, *, read_only: bool) -> list[str]:
    node = {
        "driver": form,
        "node-name": name,
        "read-only": read_only,
        "discard": "unmap",
        # nothing of a lab's VM is worth waiting for the host's disk
        "cache": {"no-flush": True},
        "file": {"driver": "file", "filename": str(path)},
    }
    return ["-blockdev", json.dumps(node), "-device", f"virtio-blk-pci,drive={name}"]
