"""What the NAT VMs of a lab run on, and what they are made of: the lab file's choice, or the embedded lab's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from provision.box import accel, docker_guest, guest, guest_vm, package_source, rootfs, runtime, saved_vm
from provision.box.paths import state
from provision.lab import Lab
from provision.nat_machines import NatMachine, NatMachines, Source
from provision.natvm import Hypervisor, NatVmError
from provision.qemu import Qemu
from provision.tied import tied
from provision.virtualbox import VirtualBox

OnLine = Callable[[str], None]
PLAIN_MEMORY_MIB = 192
BOOTED = "systemctl is-system-running --wait 2>/dev/null || sudo service docker start"
"""Ends when the boot is over, the services included."""
COLD = "LABPROOF_COLD_BOOT"
"""Set to anything: the VM with Docker is booted, though there may be a saved state."""


@dataclass
class NatLab:
    """A lab's NAT VMs.

    Attributes:
        folder: for what the VMs write.
        plain: the machine that is duplicated.
        docker: the machine with Docker in it; made on the first use.
    """

    lab: Lab
    hypervisor: Hypervisor
    folder: Path
    plain: Source
    on_progress: OnLine
    accelerator: str = ""
    _docker: Source | None = None

    @property
    def boot_limit(self) -> float:
        """Seconds that a guest may take to answer."""
        return float(self.lab.natvm_boot_seconds)

    @property
    def docker(self) -> Source:
        """The machine with Docker in it, cold."""
        if self._docker is None:
            self._docker = self._docker_source()
        return self._docker

    def _docker_source(self) -> Source:
        if self.lab.natvm_image:
            return self.plain
        assert isinstance(self.hypervisor, Qemu)  # the embedded lab's
        return saved_vm.docker_source(docker_guest.ensure(self.on_progress), self.hypervisor)

    def docker_machine(self, machines: NatMachines) -> NatMachine:
        """The VM with Docker: as an earlier run left it, from a saved state where that is sound, or booted."""
        source = self.docker
        if found := machines.find("natvm", source):
            return found
        if isinstance(self.hypervisor, Qemu) and not self.lab.natvm_image and not os.environ.get(COLD):
            saved, key = saved_vm.ensure(
                source.disk.parent, self.hypervisor, self.accelerator, self.on_progress, machines
            )
            return machines.resume("natvm", saved, key)
        machine = machines.make("natvm", source)
        # SSH opens before the boot is over
        machine.host.run(BOOTED, timeout=self.boot_limit)
        return machine


def nat_lab(lab: Lab, on_progress: OnLine) -> NatLab:
    """Decides by the lab file what its NAT VMs run on.

    Raises:
        NatVmError: ``configuration``, there is no hypervisor that can, or no image to make VMs of.
    """
    folder = state() / "natvm"
    if lab.driver == "box" and lab.hypervisor != "virtualbox":
        return _on_the_box(lab, on_progress)
    hypervisor = _hypervisor(lab, folder)
    if lab.natvm_image is None:
        raise NatVmError(
            "configuration", f"looking for the NAT VM's image in {lab.source}", "natvm.image is missing",
            "name a disk image that a guest with SSH boots from",
        )  # fmt: skip
    source = Source(lab.natvm_image, lab.natvm_login, lab.natvm_memory, lab.natvm_cpus, lab.natvm_key)
    return NatLab(lab, hypervisor, folder, source, on_progress)


def serve_packages(box: runtime.Box) -> subprocess.Popen[bytes]:
    """Starts serving the containers' packages on the box's outside host; for the caller to end.

    It is this process's own child, and not of the box's process ids: one there whose parent is killed before it is
    left to process 1 of this machine, and until that reaps it the box cannot end.
    """
    return subprocess.Popen(
        ["nsenter", f"--net={box.holder.network('outside')}", "--", *tied(
            [sys.executable, "-m", "http.server", "80", "--bind", package_source.OUTSIDE,
             "--directory", str(package_source.path())],
        )],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def build(on_progress: OnLine) -> None:
    """Makes what the embedded lab's NAT VMs need and the cache does not have; needs a way to Debian's packages."""
    guest.ensure(on_progress)
    docker_guest.ensure(on_progress)
    package_source.ensure(on_progress)


def _hypervisor(lab: Lab, folder: Path) -> Hypervisor:
    """VirtualBox where it can start VMs or is asked for, else QEMU."""
    tried = f"choosing a hypervisor ({lab.hypervisor})"
    why_not = []
    if lab.hypervisor in ("auto", "virtualbox"):
        try:
            virtualbox = VirtualBox(folder=folder / "virtualbox")
            if not (reason := virtualbox.cannot_start()):
                return virtualbox
            why_not.append(f"VirtualBox: {reason}")
        except NatVmError as error:
            why_not.append(f"VirtualBox: {error.answer}")
    if lab.hypervisor in ("auto", "qemu"):
        qemu = Qemu(folder / "qemu", accelerator="kvm" if lab.natvm_kvm else "tcg")
        if not (reason := qemu.cannot_start()):
            return qemu
        why_not.append(f"QEMU: {reason}")
    raise NatVmError(
        "configuration", tried, "; ".join(why_not), "install VirtualBox or QEMU, or see docs/admin.md"
    )


def _on_the_box(lab: Lab, on_progress: OnLine) -> NatLab:
    """QEMU on the box's desktop: of its network, ended with it, and with the files of this machine."""
    box = runtime.running()
    if box is None:
        raise NatVmError("configuration", "looking for the embedded lab", "it is not up")
    accelerator: Literal["kvm", "tcg"] = "kvm" if box.accelerator == "kvm" else "tcg"
    # in the box's folder: what is left of it goes with the box
    folder = box.data / "natvm"
    hypervisor = Qemu(
        folder,
        prefix=box.holder.beside("desktop"),
        accelerator=accelerator,
        qemu=accel.qemu_of(rootfs.path()),
    )
    plain = guest_vm.source(guest.ensure(on_progress), PLAIN_MEMORY_MIB, 1)
    if lab.natvm_image:
        plain = Source(lab.natvm_image, lab.natvm_login, lab.natvm_memory, lab.natvm_cpus, lab.natvm_key)
    return NatLab(lab, hypervisor, folder, plain, on_progress, accelerator)
