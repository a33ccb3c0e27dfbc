"""The box's one set of namespaces: made, found again, entered, ended.

All of the box is below one process, process 1 of its pid namespace: when that ends, the kernel ends every
process in it, and with the last of them go mounts, networks and everything else.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from provision.box.command import HOME_NETWORK, environment, from_home
from provision.box.paths import INSIDE

CLONE_NEWNET = 0x40000000
END_LIMIT = 20.0
KINDS = ("mount", "net", "pid", "uts", "ipc")


class BoxError(Exception):
    """The box could not be started, entered or ended: what was tried, what came back, what to do."""


@dataclass(frozen=True)
class Holder:
    """The running box.

    Attributes:
        outer: process id of the `unshare` that waits for process 1, and takes it along when it ends.
        init: process id, as the host sees it, of the box's process 1.
    """

    outer: int
    init: int

    def enter(self, netns: str = "") -> list[str]:
        """The command prefix that runs something in the box: on the cloud's host or in network `netns`."""
        net = [f"--net={self.network(netns)}"] if netns else ["--net"]
        return ["nsenter", f"--target={self.init}", "--mount", "--pid", "--uts", "--ipc", *net, "--"]

    def beside(self, netns: str) -> list[str]:
        """The command prefix that runs something on a network of the box, ended with the box, with this machine's files."""
        return ["nsenter", f"--target={self.init}", "--pid", f"--net={self.network(netns)}", "--"]

    def network(self, name: str) -> Path:
        """The path by which any process of the host can enter one of the box's networks."""
        return Path(f"/proc/{self.init}/root/run/netns/{name}")

    @property
    def own_network(self) -> Path:
        """The path to the network of the cloud's own host."""
        return Path(f"/proc/{self.init}/ns/net")


def _record(run: Path) -> Path:
    return run / "holder.pid"


def start(run: Path, rootfs: Path, mode: str) -> Holder:
    """Makes the namespaces and starts process 1 in them (`mode`: ``up`` or ``seed``)."""
    (run / "mnt").mkdir(parents=True, exist_ok=True)
    (run / "data" / "log").mkdir(parents=True, exist_ok=True)
    unshare = ["unshare", *(f"--{kind}" for kind in KINDS), "--fork", "--kill-child", "--"]
    inside = ["bash", str(INSIDE / "enter.sh"), str(rootfs), str(run), str(INSIDE), mode]
    # it writes its own process id down before it becomes `unshare`: its starter may be killed at any moment
    script = 'read -r stat < /proc/self/stat; echo "$stat" > "$0"; exec "$@"'
    with (run / "data" / "log" / "box.out").open("ab") as out:
        subprocess.Popen(
            ["bash", "-c", script, str(_record(run)), *unshare, *inside],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment(),
            cwd="/",
            start_new_session=True,
        )
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if holder := find(run):
            return holder
        time.sleep(0.01)
    raise BoxError(f"the box's namespaces could not be made: see {run / 'data/log/box.out'}")


def find(run: Path) -> Holder | None:
    """The box that was started in `run`, if it lives; a recycled process id is not taken for it."""
    try:
        recorded = _record(run).read_text().split()
        outer = int(recorded[0])
        if _started(outer) != int(recorded[21]):
            return None
        children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        return Holder(outer, int(children[0])) if children else None
    except (OSError, ValueError, IndexError):
        return None


def _started(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def end(run: Path) -> bool:
    """Ends everything of the box; returns whether there was something to end.

    Raises:
        BoxError: it did not end within 20 s.
    """
    with contextlib.ExitStack() as held:
        try:
            recorded = _record(run).read_text().split()
            outer = int(recorded[0])
            processes = [_hold(outer, held)]
            if _started(outer) != int(recorded[21]):
                return False
        except (OSError, ValueError, IndexError):
            return False
        if holder := find(run):
            with contextlib.suppress(ProcessLookupError):
                processes.insert(0, _hold(holder.init, held))
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        deadline = time.monotonic() + END_LIMIT
        for process in processes:
            if not has_ended(process, max(0.0, deadline - time.monotonic())):
                raise BoxError(
                    f"the box (process {holder.init if holder else outer}) does not end: a process in it is stuck "
                    "in the kernel"
                )
    return True


def _hold(pid: int, held: contextlib.ExitStack) -> int:
    process = os.pidfd_open(pid)
    held.callback(os.close, process)
    return process


def has_ended(process: int, within: float) -> bool:
    """Waits for a process to end with all of its threads.

    ``/proc/PID/stat`` tells the state of the first thread only: process 1 of the box is a zombie there while another
    thread of it still waits for the other processes of its namespace to end.

    Args:
        process: a descriptor of it: readable as soon as its last thread has ended (pidfd_open(2)).
        within: seconds.
    """
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(within * 1000))


def enter_desktop(holder: Holder) -> None:
    """Moves this process, and those that it starts, to the box's desktop; builds still find the way home.

    Raises:
        BoxError: as :func:`enter_network`.
    """
    if not from_home():
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)  # kept open for as long as this process lives
        os.environ[HOME_NETWORK] = f"/proc/{os.getpid()}/fd/{home}"
    enter_network(holder.network("desktop"))


def enter_network(path: Path) -> None:
    """Moves the calling thread, and the threads it starts from now on, into a network namespace.

    Raises:
        BoxError: the kernel refused, or the thread is where it was.
    """
    before = str(Path("/proc/thread-self/ns/net").readlink())
    descriptor = os.open(path, os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, CLONE_NEWNET):
            raise BoxError(f"cannot enter the network {path.name}: {os.strerror(ctypes.get_errno())}")
        inode = os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)
    if str(Path("/proc/thread-self/ns/net").readlink()) != f"net:[{inode}]":
        raise BoxError(f"this process is not in the network {path.name} but still in {before}")
