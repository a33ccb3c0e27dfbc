"""A booted machine, saved: the NAT VM with Docker in it goes on from there in place of booting.

The state is only good for the program, accelerator and machine that it was saved with: all of them name it.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from provision.box import docker_guest, guest_vm, paths
from provision.box.command import Log
from provision.nat_machines import NatMachines, Source
from provision.qemu import Qemu
from provision.runs import make_key

STATE = "ready"
CPUS = 2
"""Where they run at the same time; where they share one thread (see :mod:`provision.qemu_vm`), two are no quicker."""
WARM = "sudo docker run --rm %s true && sync"


def docker_source(image: Path, hypervisor: Qemu) -> Source:
    """The machine that boots the guest with Docker from the folder `image`, on this hypervisor.

    Raises:
        NatVmError: ``configuration``, QEMU cannot be run.
    """
    return guest_vm.source(image, docker_guest.MEMORY_MIB, CPUS if hypervisor.threaded() else 1)


def ensure(
    image: Path, hypervisor: Qemu, accelerator: str, log: Log, asking: NatMachines
) -> tuple[Source, Path]:
    """The saved machine from the cache, made first where the cache has none; and the key that opens it.

    Args:
        image: folder of the guest with Docker.
        hypervisor: runs it once to be saved.
        accelerator: of the hypervisor.
        asking: the machines of the run that it is for: what is made for it is that run's until it is saved.

    Raises:
        NatVmError: it did not boot, or could not be saved.
    """
    cold = docker_source(image, hypervisor)
    shape = f"{hypervisor.version()} {accelerator} {cold.memory_mb} {cold.cpus} {cold.cpu_model} {cold.command_line}"
    sources = [
        Path(__file__),
        *(paths.HERE.parent / f"{name}.py" for name in ("qemu", "qemu_vm", "config_drive")),
    ]
    done = paths.once(
        paths.cache() / f"saved-{paths.content_hash([image.name, shape, *sources])}",
        lambda scratch: _make(scratch, cold, hypervisor, log, asking),
    )
    return _source(done, cold), done / "id_ed25519"


def _source(folder: Path, cold: Source) -> Source:
    return replace(cold, disk=folder / "root.qcow2", saved=STATE, seed=folder / "config.iso")


def _make(folder: Path, cold: Source, hypervisor: Qemu, log: Log, asking: NatMachines) -> None:
    log("saving the state of a booted machine with Docker (once, about half a minute)")
    folder.mkdir()
    key = make_key(folder / "id_ed25519")
    name = asking.name("saving")
    machines = NatMachines(
        hypervisor, folder / "vm", asking.run, key.file, key.public, asking.journal, log,
        only=frozenset({name, f"{name}.qcow2"}),
    )  # fmt: skip
    try:
        disk = machines.folder / f"{name}.qcow2"
        disk.parent.mkdir()
        if asking.journal:
            asking.journal.intend("disk", disk.name)
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(cold.disk), str(disk)],
            check=True,
        )
        machine = machines.start("saving", disk, cold)
        machine.host.run(WARM, docker_guest.IMAGE, timeout=120)
        machine.host.close()
        machine.vm.snapshot(STATE)
        machine.vm.stop(within=0)
        disk.rename(folder / "root.qcow2")
        (machines.folder / f"{name}-config.iso").rename(folder / "config.iso")
    finally:
        machines.remove_all()
    shutil.rmtree(machines.folder)
