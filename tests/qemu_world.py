"""A desktop with a neighbour, on whose networks a real QEMU's VMs run, and what may be left of them: nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from provision.natvm import NatVm
from provision.qemu import Qemu
from tests.probes_world import Node, child, link, nodes, until

LOCAL = IPv4Address("127.0.0.1")
DESKTOP, NEIGHBOUR = IPv4Address("10.1.5.89"), IPv4Address("10.1.5.90")

CONNECT = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as s:
        s.settimeout(float(sys.argv[3]))
        print(s.recv(200).decode(errors="replace").strip() or "closed")
except OSError as error:
    print(error.strerror or error)
"""


@dataclass
class Room:
    """A desktop with a neighbour, and a pid namespace in which the desktop's QEMUs live and with which they die.

    It is entered as the embedded lab is: QEMU sees the machine's files, and its process ids are other ones.
    """

    desktop: Node
    neighbour: Node
    init: int
    holder: subprocess.Popen[bytes]

    @property
    def prefix(self) -> list[str]:
        return [
            *("nsenter", f"--target={self.init}", "--pid"),
            *(f"--net=/proc/{self.desktop.pid}/ns/net", "--"),
        ]

    def processes(self) -> list[str]:
        """The command lines of what lives in the pid namespace, its first process apart."""
        space = Path(f"/proc/{self.init}/ns/pid").readlink()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if entry.joinpath("ns/pid").readlink() == space and int(entry.name) != self.init:
                    found.append(entry.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return [line for line in found if line]  # a zombie has no command line

    def signal(self, vm: NatVm, number: int, qemu: Qemu) -> None:
        pid = (qemu.folder / "vms" / vm.name / "pid").read_text()
        subprocess.run([*self.prefix, "sh", "-c", f"kill -{number} {pid}"], check=True, timeout=20)


@pytest.fixture
def room() -> Iterator[Room]:
    with nodes("desktop", "neighbour") as (desktop, neighbour):
        link(desktop, f"{DESKTOP}/16", neighbour, f"{NEIGHBOUR}/16")
        with child(["unshare", "--pid", "--fork", "--kill-child", "--", "cat"]) as holder:
            children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
            until(lambda: bool(children.read_text()), "the pid namespace's first process")
            yield Room(desktop, neighbour, int(children.read_text()), holder)


@pytest.fixture
def hypervisor(room: Room, tmp_path: Path) -> Iterator[Qemu]:
    """A QEMU in the room; its VMs are removed in the end, and only disks of the test's own folder may be left."""
    qemu = Qemu(tmp_path / "qemu", prefix=room.prefix)
    yield qemu
    for name in qemu.vms():
        qemu.vm(name).remove()
    assert room.processes() == []
    assert qemu.disks() == [] or all(disk.path.parent == tmp_path for disk in qemu.disks())
    assert list((tmp_path / "qemu/vms").iterdir()) == []


def image(*argv: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, argv)], check=True, capture_output=True, timeout=60)


def connect(node: Node, address: IPv4Address, port: int, within: float = 5) -> str:
    """What the first bytes of a TCP connection are within so many seconds, or why there is none."""
    argv = [*node.prefix, sys.executable, "-c", CONNECT, str(address), str(port), str(within)]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
