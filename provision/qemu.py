"""A VM behind NAT in QEMU, by its user-mode network, with what VirtualBox has besides: a registry, rules, states.

The guest is 10.0.2.15 on 10.0.2.0/24, its gateway 10.0.2.2 and name server 10.0.2.3, as with VirtualBox's NAT,
whose engine has the same ancestor. QEMU answers a ping of the gateway itself; one of any other address it
sends for the guest from a socket of its own. As root it may (CAP_NET_RAW, libslirp 4.7 and later); to others
the kernel grants it by group, with the sysctl ``net.ipv4.ping_group_range`` of QEMU's network namespace,
which is ``1 0`` in a new one: nobody.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from provision.natvm import Disk, NatVmError, OnProgress, VmSettings
from provision.qemu_disks import Disks, Machine, Registry
from provision.qemu_image import QemuImg
from provision.qemu_vm import Program, QemuVm, last_lines

__all__ = ["Qemu", "QemuVm", "last_lines"]


class Qemu:
    """QEMU's VMs and disks in a folder; they outlive the process, and another finds them there.

    Args:
        folder: for the registry and the VMs' own files; their disks are where the caller has them.
        prefix: a command prefix with which QEMU is started, into a network namespace and a pid namespace for
            instance. It must leave the files as they are here. All traffic of the guests is QEMU's there.
        accelerator: ``kvm`` where `provision.box.accel.kvm_works`.
        qemu: the program with arguments that it always gets, as of `provision.box.accel.qemu_of`.
        qemu_img: its program for disk images, likewise.
    """

    name = "qemu"

    def __init__(
        self,
        folder: Path,
        *,
        prefix: Sequence[str] = (),
        accelerator: Literal["tcg", "kvm"] = "tcg",
        qemu: str | Sequence[str] = "qemu-system-x86_64",
        qemu_img: str | Sequence[str] = "qemu-img",
    ) -> None:
        argv = (qemu,) if isinstance(qemu, str) else tuple(qemu)
        self._program = Program(argv, tuple(prefix), accelerator)
        self._images = QemuImg((qemu_img,) if isinstance(qemu_img, str) else qemu_img)
        self.folder = folder.resolve()
        self._registry = Registry(self.folder)
        self._disks = Disks(self._registry, self._images)

    def version(self) -> str:
        """QEMU's, such as ``7.2.22``.

        Raises:
            NatVmError: ``configuration``, QEMU cannot be run.
        """
        return self._program.version

    def threaded(self) -> bool:
        """Whether the processors of a guest run at the same time: under KVM, and emulated by QEMU 8.1 or later.

        Raises:
            NatVmError: ``configuration``, QEMU cannot be run.
        """
        return self._program.accelerator == "kvm" or self._program.threads_are_safe

    def cannot_start(self) -> str:
        try:
            self.version()
            self._images.version()
        except NatVmError as error:
            return str(error)
        if self._program.accelerator == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
            return "QEMU is to use KVM, and /dev/kvm cannot be opened: give the right to it, or use emulation"
        return ""

    def create(self, settings: VmSettings) -> QemuVm:
        tried = f"creating the VM {settings.name}"
        settings = replace(
            settings,
            disk=settings.disk.resolve(),
            **{
                key: path.resolve()
                for key in ("seed", "kernel", "initrd")
                if (path := getattr(settings, key)) is not None
            },
        )
        for path in filter(None, (settings.seed, settings.kernel, settings.initrd)):
            if not path.is_file():
                raise NatVmError("missing", tried, f"{path}: No such file or directory")
        if settings.kernel is None and (settings.initrd or settings.command_line):
            raise NatVmError("refused", tried, "an initrd and a command line are of no use without a kernel")
        with self._registry.changing() as document:
            if settings.name in document.vms:
                raise NatVmError(
                    "conflict", tried, f"a VM named {settings.name} already exists", "choose another name"
                )
            if user := document.user_of(settings.disk):
                raise NatVmError(
                    "conflict", tried, f"the disk {settings.disk} is attached to the VM {user}", "clone it"
                )
            vm = self._vm(settings.name, settings.disk)
            vm.clear(tried)  # of one of this name that was there before the registry was lost
            self._disks.register(document, settings.disk, tried)
            vm.folder.mkdir(parents=True)
            document.vms[settings.name] = Machine(settings)
        return vm

    def vm(self, name: str) -> QemuVm:
        return self._vm(name, self._registry.read().vm(name).settings.disk)

    def _vm(self, name: str, disk: Path) -> QemuVm:
        return QemuVm(self._program, self._disks, name, disk)

    def vms(self) -> list[str]:
        return list(self._registry.read().vms)

    def unregistered(self) -> list[str]:
        known = self._registry.read().vms
        return sorted(path.name for path in (self.folder / "vms").glob("*") if path.name not in known)

    def clear(self, name: str) -> None:
        tried = f"clearing away the VM {name}"
        with self._registry.changing() as document:
            if name in document.vms:
                raise NatVmError("refused", tried, "it is registered: remove it")
            self._vm(name, self.folder).clear(tried)

    def disks(self) -> list[Disk]:
        return self._disks.all()

    def register_disk(self, path: Path) -> Disk:
        """See the protocol. A qcow2 that has no UUID yet is given one, in its header."""
        path = path.resolve()
        with self._registry.changing() as document:
            return self._disks.register(document, path, f"registering the disk {path}")

    def clone_disk(self, source: Path, target: Path, on_progress: OnProgress | None = None) -> Disk:
        """See the protocol. The content as it is now, without internal snapshots or a backing file."""
        return self._disks.clone(source.resolve(), target.resolve(), on_progress)

    def remove_disk(self, path: Path) -> None:
        self._disks.remove(path.resolve())

    def used_by(self, path: Path) -> str:
        return self._registry.read().user_of(path.resolve())
