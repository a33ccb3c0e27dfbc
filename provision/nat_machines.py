"""The NAT VMs of a run: made from an image, entered over SSH, found again, removed.

Each is entered by a forwarding rule of its own, on a free port of 127.0.0.1: what a check does with other
rules does not touch it.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from probes.ending import check
from probes.shell import HostError
from probes.ssh import SshHost
from provision.config_drive import write_config_drive
from provision.host_keys import ConsoleKeys
from provision.journal import Journal
from provision.mark import Mark
from provision.natvm import Disk, Forwarding, Hypervisor, NatVm, NatVmError, OnProgress, VmSettings
from provision.qemu_image import set_uuid
from provision.qemu_vm import last_lines

LOOPBACK = IPv4Address("127.0.0.1")
CONTROL = "labproof"
SSH_PORT = 22
CONFIG = "-config.iso"
BOOT_LIMIT = 300.0
STANDING_LIMIT = 30.0
# a name that does not resolve would have each sudo wait for the name server
RENEW = (
    'date -s "@$0" >/dev/null; hostname "$1"; echo "$1" >/etc/hostname; '
    r'sed -i "/^127\.0\.1\.1/d" /etc/hosts; printf "127.0.1.1\t%s\n" "$1" >>/etc/hosts'
)
PASSWORD = "LABPROOF_NATVM_PASSWORD"  # noqa: S105 - the name of the variable
OnLine = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """What NAT VMs are made of.

    Attributes:
        disk: disk image that each VM's disk is cloned from.
        login: user of its guest.
        key: private key that opens the guest as it is; None gives it the run's key by a config drive, or
            else the password in LABPROOF_NATVM_PASSWORD opens it.
        kernel, initrd, command_line, cpu_model: as in :class:`provision.natvm.VmSettings`.
        takes_config_drive: whether its guest reads a config drive.
        saved: name of the state that `disk` holds of a booted machine; empty for a cold boot.
        seed: the config drive that it was booted with: the state is of a machine that has it.
    """

    disk: Path
    login: str
    memory_mb: int
    cpus: int
    key: Path | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    command_line: str = ""
    cpu_model: str = ""
    takes_config_drive: bool = False
    saved: str = ""
    seed: Path | None = None

    def settings(self, name: str, disk: Path, seed: Path | None) -> VmSettings:
        """What a VM of that name is created with, on a disk of its own and with its config drive."""
        return VmSettings(
            name, disk, self.memory_mb, self.cpus, seed,
            self.kernel, self.initrd, self.command_line, self.cpu_model,
        )  # fmt: skip


@dataclass(frozen=True)
class NatMachine:
    """A NAT VM that runs and can be entered.

    Attributes:
        vm: the hypervisor's handle.
        host: its guest, over SSH.
        how: ``booted cold``, ``resumed from a saved state`` or ``left standing by an earlier run``.
        seconds: from the start to the first command that it ran.
    """

    vm: NatVm
    host: SshHost
    how: str
    seconds: float


@dataclass
class NatMachines:
    """Makes and removes a run's NAT VMs. Safe to use from several threads for machines of different names.

    Attributes:
        folder: of the VMs' disks.
        key: the run's private key; ``public_key`` is what guests are given of it.
        boot_limit: seconds that a guest may take to answer.
        only: names of the VMs and files of the disks that may be removed; None for all that are named as the run's.
    """

    hypervisor: Hypervisor
    folder: Path
    run: str
    key: Path
    public_key: str
    journal: Journal | None = None
    on_progress: OnLine = print
    boot_limit: float = BOOT_LIMIT
    made: list[NatMachine] = field(default_factory=list)
    only: Collection[str] | None = None

    def name(self, what: str) -> str:
        """The VM's name with the hypervisor."""
        return Mark(self.run).name(what)

    def make(self, what: str, source: Source) -> NatMachine:
        """Clones the disk, makes the VM, starts it, and returns when its guest runs commands.

        Raises:
            NatVmError: what the hypervisor says, or ``boot`` with the console's last lines.
        """
        check(f"making the VM {what}")
        self.clear(what)
        disk = self.folder / f"{self.name(what)}{source.disk.suffix}"
        self.clone(source.disk, disk)
        return self.start(what, disk, source)

    def clone(self, source: Path, disk: Path, on_progress: OnProgress | None = None) -> Disk:
        """Copies a disk for a VM of the run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._intend("disk", disk.name)
        return self.hypervisor.clone_disk(source, disk, on_progress)

    def forward(self, vm: NatVm, rule: Forwarding) -> None:
        """Adds a forwarding rule to a VM of the run, and writes it down first: it goes with the VM at the latest."""
        self._intend("forwarding rule", f"{vm.name} {rule.name}")
        vm.forward(rule)

    def start(self, what: str, disk: Path, source: Source) -> NatMachine:
        """Makes a VM on a disk that is there, starts it, and returns when its guest runs commands.

        Raises:
            NatVmError: as :meth:`make`.
        """
        name, began = self.name(what), time.monotonic()
        seed = None
        if source.takes_config_drive:
            seed = self.folder / f"{name}{CONFIG}"
            self._intend("file", str(seed))
            write_config_drive(seed, name=what, public_key=self.public_key)
        vm, port = self._create(name, disk, source, seed)
        vm.start()
        host = self._host(what, port, source, vm)
        return self._noted(what, NatMachine(vm, host, "booted cold", self._entered(vm, host, began)))

    def resume(self, what: str, source: Source, key: Path) -> NatMachine:
        """Makes a VM on a copy of a disk that holds a booted machine's state, and goes on from that.

        Args:
            key: what opens the guest in the saved state; it is replaced by the run's.

        Raises:
            NatVmError: as :meth:`make`.
        """
        check(f"making the VM {what}")
        self.clear(what)
        name, began = self.name(what), time.monotonic()
        disk = self.folder / f"{name}{source.disk.suffix}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._intend("disk", disk.name)
        # not a clone: the saved state is inside
        shutil.copyfile(source.disk, disk)
        set_uuid(disk)
        vm, port = self._create(name, disk, source, source.seed)
        vm.resume(source.saved)
        with SshHost(what, str(LOOPBACK), source.login, key, port) as first:
            self._entered(vm, first, began)
            # its clock stood still, and its key is known to other runs
            first.run(
                "sudo sh -c %s %s %s; echo %s > ~/.ssh/authorized_keys",
                RENEW,
                int(time.time()),
                what,
                self.public_key,
            )
            known = first.public_host_key
        host = SshHost(what, str(LOOPBACK), source.login, self.key, port, host_key=known)
        return self._noted(
            what, NatMachine(vm, host, "resumed from a saved state", self._entered(vm, host, began))
        )

    def find(self, what: str, source: Source, *, off: bool = False) -> NatMachine | None:
        """A VM that an earlier run left standing, running (or also one that is `off`); None where there is none."""
        began = time.monotonic()
        try:
            vm = self.hypervisor.vm(self.name(what))
            rule = next((rule for rule in vm.forwardings() if rule.name == CONTROL), None)
        except NatVmError:
            return None
        running = vm.state() == "running"
        if rule is None or not (running or off):
            return None
        host = self._host(what, rule.host_port, source, vm)
        seconds = self._entered(vm, host, began, STANDING_LIMIT) if running else 0.0
        machine = NatMachine(vm, host, "left standing by an earlier run", seconds)
        self.made.append(machine)
        return machine

    def clear(self, what: str) -> None:
        """Removes what is left of a VM of that name: one that died, of a run that was left standing."""
        name = self.name(what)
        if name in self.hypervisor.vms():
            self._remove_vm(name)
        for disk in self.hypervisor.disks():
            if disk.path.stem == name:
                self.hypervisor.remove_disk(disk.path)

    def remove_all(self) -> list[str]:
        """Ends and removes every VM and disk of the run; says what is left, and why."""
        for machine in self.made:
            machine.host.close()
        self.made.clear()
        left: list[str] = []
        for name in self._vms():
            left += self._away(f"VM {name}", partial(self._remove_vm, name))
        for name in self._halves():
            left += self._away(f"VM {name}", partial(self.hypervisor.clear, name))
        for disk in self._disks():
            left += self._away(f"disk {disk}", partial(self.hypervisor.remove_disk, disk))
        for file in self._files():
            file.unlink(missing_ok=True)
        return left

    def there(self) -> list[tuple[str, str]]:
        """Kind and name of what there is of the run.

        Raises:
            NatVmError: the hypervisor could not be asked.
        """
        disks = self._disks()
        files = [path for path in self._files() if path not in disks]
        return [
            *(("vm", name) for name in (*self._vms(), *self._halves())),
            *(("disk", path.name) for path in disks),
            *(("file", str(path)) for path in files),
        ]

    def _vms(self) -> list[str]:
        return [name for name in self.hypervisor.vms() if self._may(name)]

    def _halves(self) -> list[str]:
        """VMs that a run began to make, or to remove, when it was killed."""
        return [name for name in self.hypervisor.unregistered() if self._may(name)]

    def _disks(self) -> list[Path]:
        """The disks of the run's VMs, and those in a folder of the run's."""
        prefix = Mark(self.run).prefix
        paths = [disk.path for disk in self.hypervisor.disks()]
        return [path for path in paths if self._may(path.name) or path.parent.name.startswith(prefix)]

    def _files(self) -> list[Path]:
        """What belongs to the VMs and is no disk, and copies that were not finished (``.NAME.PROCESS-...``)."""
        prefix = Mark(self.run).prefix
        if not self.folder.is_dir():
            return []
        found = [*self.folder.glob(f"{prefix}*"), *self.folder.glob(f".{prefix}*")]
        return [path for path in found if self.only is None or self._belongs(path.name)]

    def _belongs(self, file: str) -> bool:
        of = self.only or ()
        return (
            file in of or file.removesuffix(CONFIG) in of or any(file.startswith(f".{disk}.") for disk in of)
        )

    def _may(self, name: str) -> bool:
        """Whether a VM or disk may be removed: it is named as the run's, and is one of those allowed."""
        return name.startswith(Mark(self.run).prefix) and (self.only is None or name in self.only)

    def _create(self, name: str, disk: Path, source: Source, seed: Path | None) -> tuple[NatVm, int]:
        """The VM, off, and the host's port that will lead to its SSH."""
        self._intend("vm", name)
        vm = self.hypervisor.create(source.settings(name, disk, seed))
        port = free_port()
        vm.forward(Forwarding(CONTROL, port, SSH_PORT, host_ip=LOOPBACK))
        return vm, port

    def _noted(self, what: str, machine: NatMachine) -> NatMachine:
        self.made.append(machine)
        self.on_progress(f"{what} {machine.how} in {machine.seconds:.1f} s")
        return machine

    def _remove_vm(self, name: str) -> None:
        self.hypervisor.vm(name).remove()

    def _away(self, what: str, remove: Callable[[], None]) -> list[str]:
        try:
            remove()
        except NatVmError as error:
            return [] if error.kind == "missing" else [f"{what}: {error}"]
        return []

    def _host(self, what: str, port: int, source: Source, vm: NatVm) -> SshHost:
        key = source.key or (self.key if source.takes_config_drive or source.saved else None)
        password = None if key else os.environ.get(PASSWORD)
        if key is None and password is None:
            raise NatVmError(
                "configuration", f"entering the VM {what}", "the lab file names no key to its guest",
                f"name one (natvm.ssh_key), or put the login's password into {PASSWORD}",
            )  # fmt: skip
        # not waited for: what is between it and us is the hypervisor's own process, and many guests print nothing
        keys = ConsoleKeys(partial(_console, vm), patience=0.0)
        return SshHost(what, str(LOOPBACK), source.login, key, port, password=password, host_keys=keys)

    def _entered(self, vm: NatVm, host: SshHost, began: float, within: float = 0.0) -> float:
        try:
            host.wait_ready(within or self.boot_limit)
        except HostError as error:
            raise NatVmError(
                "boot", f"waiting for the guest of VM {vm.name}", str(error),
                f"the end of its console: {last_lines(vm.console())}",
            ) from error  # fmt: skip
        return time.monotonic() - began

    def _intend(self, kind: str, name: str) -> None:
        if self.journal:
            self.journal.intend(kind, name)


def _console(vm: NatVm) -> str:
    try:
        return vm.console()
    except NatVmError:
        return ""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((str(LOOPBACK), 0))
        return int(listener.getsockname()[1])
