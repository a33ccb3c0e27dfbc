"""A VM behind NAT on the student's machine: what every hypervisor's driver offers, and the words for its failures.

:mod:`provision.virtualbox` and :mod:`provision.qemu` are the drivers. A hypervisor keeps a registry of disks,
each with a UUID of its own, and of VMs; a VM has one network card behind NAT, with port-forwarding rules that
can be changed while it runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal, Protocol
from uuid import UUID

from provision.failures import FailureError

OnProgress = Callable[[float], None]
"""Called with the percentage done, 0 to 100."""

State = Literal["off", "running", "saved", "aborted"]
Kind = Literal["configuration", "missing", "conflict", "refused", "access", "timeout", "boot", "fault"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
# VirtualBox's own window calls its rules "Rule 1"
RULE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}")


class NatVmError(FailureError):
    """The hypervisor did not do what it was asked to: in one line what was tried, what came back, what to do.

    Attributes:
        kind: ``configuration`` (no such program, or it cannot run VMs), ``missing`` (no such VM, disk, file
            or rule), ``conflict`` (the name, UUID or port is taken; the disk is in use), ``refused`` (it will
            not do that, or not in this state), ``access`` (a file cannot be read or written), ``timeout``,
            ``boot`` (the VM ended, or its guest never answered), ``fault`` (anything else).
        answer: the hypervisor's own text.
    """

    def __init__(self, kind: Kind, tried: str, answer: str, advice: str = "") -> None:
        super().__init__(tried, answer, advice)
        self.kind: Kind = kind


@dataclass(frozen=True)
class Forwarding:
    """A port-forwarding rule of a VM's NAT: who connects to the host's port is led to the guest's.

    Attributes:
        name: unique among the VM's rules.
        host_ip: the host's address that it listens on; None for all of them.
        guest_ip: None for the address that NAT gave the guest.

    Raises:
        ValueError: a name, protocol or port that the hypervisor would take and not carry out.
    """

    name: str
    host_port: int
    guest_port: int
    protocol: Literal["tcp", "udp"] = "tcp"
    host_ip: IPv4Address | None = None
    guest_ip: IPv4Address | None = None

    def __post_init__(self) -> None:
        if not RULE_NAME.fullmatch(self.name):
            raise ValueError(
                f"forwarding rule {self.name!r}: a name has letters, digits, spaces, '_', '.' and '-' only"
            )
        if self.protocol not in ("tcp", "udp"):
            raise ValueError(
                f"forwarding rule {self.name}: protocol {self.protocol!r} is neither tcp nor udp"
            )
        for which, port in (("host", self.host_port), ("guest", self.guest_port)):
            if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
                raise ValueError(
                    f"forwarding rule {self.name}: {which} port {port!r} is not within 1 to 65535"
                )

    def __str__(self) -> str:
        host, guest = self.host_ip or "*", self.guest_ip or "guest"
        return f"{self.name}: {self.protocol} {host}:{self.host_port} -> {guest}:{self.guest_port}"


@dataclass(frozen=True)
class Disk:
    """A medium that the hypervisor has registered.

    Attributes:
        format: ``VDI``, ``VMDK``, ``QCOW2``..., as the hypervisor writes it, in capitals.
        size_mb: the size that a guest sees, in MiB.
        used_mb: what it takes on the host, in MiB.
    """

    uuid: UUID
    path: Path
    format: str
    size_mb: int
    used_mb: int


GUEST = "10.0.2.15"
"""The address that NAT gives every VM, VirtualBox's and QEMU's alike."""


@dataclass(frozen=True)
class VmSettings:
    """What a VM is made of.

    Attributes:
        name: unique on the hypervisor.
        disk: a registered, or not yet registered, disk image; the VM boots from it and writes to it.
        memory_mb: in MiB.
        seed: an image with the guest's settings (config drive), attached read-only; None for no such.
        kernel, initrd, command_line: boot these in place of a boot loader on the disk, where the hypervisor can.
        cpu_model: of the processor, where it is emulated and models can be chosen; empty for all that can be emulated.

    Raises:
        ValueError: a name that would need quoting, or sizes that are none.
    """

    name: str
    disk: Path
    memory_mb: int = 512
    cpus: int = 1
    seed: Path | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    command_line: str = ""
    cpu_model: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"VM {self.name!r}: a name has letters, digits, '_', '.' and '-' only")
        if self.memory_mb < 16 or self.cpus < 1:
            raise ValueError(
                f"VM {self.name}: {self.memory_mb} MiB and {self.cpus} processors are no machine"
            )


class NatVm(Protocol):
    """One VM. Every call returns when what it asks for is done, within a time limit, or raises NatVmError."""

    @property
    def name(self) -> str: ...

    @property
    def disk(self) -> Path:
        """The disk that it boots from."""

    def state(self) -> State: ...

    def start(self) -> None:
        """Boots it without a window; returns once the machine runs, its guest not yet.

        Raises:
            NatVmError: ``boot``, with the hypervisor's words; ``conflict``, its disk or a host port is in use.
        """

    def resume(self, snapshot: str) -> None:
        """Starts it from a snapshot that was taken of it while it ran: no boot. Its forwarding rules hold.

        Raises:
            NatVmError: ``missing``, no such snapshot.
        """

    def console(self) -> str:
        """What the guest has printed on its serial console so far; empty where the hypervisor keeps none."""

    def forward(self, rule: Forwarding) -> None:
        """Adds a rule, on the running VM too.

        Raises:
            NatVmError: ``conflict``, the rule's name or its host port is taken.
        """

    def unforward(self, name: str) -> None:
        """Deletes a rule, on the running VM too.

        Raises:
            NatVmError: ``missing``, no such rule.
        """

    def forwardings(self) -> list[Forwarding]: ...

    def snapshot(self, name: str) -> None:
        """Saves its disk, and its memory if it runs."""

    def stop(self, *, within: float = 30.0) -> None:
        """Asks the guest to shut down, and ends the VM if it has not within `within` seconds; 0 ends it at once."""

    def remove(self, *, disks: bool = True) -> None:
        """Ends it and takes it off the registry, its disk's file with it unless `disks` is false."""


class Hypervisor(Protocol):
    """A hypervisor: its VMs and its registry of disks."""

    @property
    def name(self) -> str:
        """``virtualbox`` or ``qemu``."""

    def version(self) -> str: ...

    def cannot_start(self) -> str:
        """Why no VM can be started on this machine, in one line; empty if one can."""

    def create(self, settings: VmSettings) -> NatVm:
        """Registers a VM with one card behind NAT and the disk attached; it is off.

        Raises:
            NatVmError: ``conflict``, the name is taken or the disk in use; ``missing``, ``access``, the disk.
        """

    def vm(self, name: str) -> NatVm:
        """A VM that is there.

        Raises:
            NatVmError: ``missing``.
        """

    def vms(self) -> list[str]: ...

    def unregistered(self) -> list[str]:
        """Names of VMs of which there is something and that are not registered: whoever made or removed them died."""

    def clear(self, name: str) -> None:
        """Removes what there is of a VM that is not registered."""

    def disks(self) -> list[Disk]: ...

    def register_disk(self, path: Path) -> Disk:
        """Adds a disk's file to the registry.

        Raises:
            NatVmError: ``conflict``, a disk of that UUID is registered (a plain copy is refused by this);
                ``missing`` or ``access``, the file.
        """

    def clone_disk(self, source: Path, target: Path, on_progress: OnProgress | None = None) -> Disk:
        """Copies a disk to a new file of the same format with a UUID of its own, and registers it.

        Raises:
            NatVmError: ``missing`` or ``access``, the source; ``conflict``, the target is there. Nothing is left.
        """

    def remove_disk(self, path: Path) -> None:
        """Takes a disk off the registry and deletes its file.

        Raises:
            NatVmError: ``conflict``, a VM uses it; ``missing``, it is not registered.
        """

    def used_by(self, path: Path) -> str:
        """The VM that a disk is attached to; empty if none."""
