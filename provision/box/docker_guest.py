"""The embedded lab's guest image with Docker: the guest of :mod:`provision.box.guest`, a daemon, and its base image.

The image is finished by one boot of itself, in which its own Docker takes the base image into its storage:
whoever boots it later can run a container at once, without the internet.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from provision.box import accel, guest, guest_build, package_source, paths
from provision.box.command import Log
from provision.box.guest_build import BuildError

SCRIPTS = paths.HERE / "docker_guest"
IMAGE = "debian:12"
STRANGER = "stranger"
"""A user who may not use Docker (entered by ``sudo -u stranger``)."""
MEMORY_MIB = 768
"""What the guest needs to run the lab's containers, builds and commits."""
BAKED = "labproof-guest: BAKED"
BAKE_LIMIT = 400.0

DAEMON = {
    "storage-driver": "overlay2",
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
    # so that the last line of its log says why it did not start
    "log-level": "warn",
}

RECIPE = replace(
    guest.RECIPE,
    packages=(*guest.PACKAGES, "docker.io", "iptables"),
    modules=(*guest.MODULES, "xt_addrtype", "xt_nat", "xt_comment", "nf_conntrack_netlink", "xt_mark"),
    installed={
        **guest.RECIPE.installed,
        "etc/inittab": SCRIPTS / "inittab",
        "etc/init.d/docker": SCRIPTS / "docker",
    },
    texts={**guest.TEXTS, "etc/docker/daemon.json": f"{json.dumps(DAEMON, indent=2)}\n"},
    users={guest.LOGIN: ("sudo", "docker"), STRANGER: ()},
    disk_gib=4,
    # Docker takes AppArmor in the kernel for a sign that its tools are installed
    options=(*guest.KERNEL_OPTIONS, "apparmor=0"),
)


def content_hash() -> str:
    """Names the image by all that determines its content, the base image included."""
    base = package_source.path().name
    return paths.content_hash([guest.content_hash(), SCRIPTS, Path(__file__), base])


def ensure(log: Log) -> Path:
    """The image's folder in the cache, built first where the cache has none (about 75 s on two cores).

    Raises:
        BuildError: a step of the build failed.
    """
    return paths.once(paths.cache() / f"docker-guest-{content_hash()}", lambda scratch: build(scratch, log))


def build(out: Path, log: Log) -> None:
    """Makes ``vmlinuz``, ``initrd.img``, ``root.qcow2`` and ``guest.json`` in the folder `out`.

    Needs what `guest.build` does, and QEMU.

    Raises:
        BuildError: a step failed; nothing of use is in `out`.
    """
    with ThreadPoolExecutor(1) as pool:
        making_base = pool.submit(package_source.ensure, log)
        version = guest_build.make(RECIPE, out, log)
        base = making_base.result() / package_source.BASE
    _bake(out, base, log)
    guest_build.pack(out, log, "zstd")
    guest_build.describe(RECIPE, out, version, content_hash(), docker_image=IMAGE, memory_mib=MEMORY_MIB)


def _bake(out: Path, base: Path, log: Log) -> None:
    log(f"guest image: its own Docker takes in {IMAGE} (one boot)")
    files = out / "vmlinuz", out / "initrd.img"
    kvm = accel.kvm_works(*files, paths.cache())
    with tempfile.TemporaryDirectory(prefix="work-", dir=out) as scratch:
        console, drive = Path(scratch) / "console", Path(scratch) / "drive"
        folder = drive / "openstack/latest"
        folder.mkdir(parents=True)
        metadata = {"uuid": str(uuid.uuid4()), "hostname": "guest"}
        (folder / "meta_data.json").write_text(json.dumps(metadata))
        shutil.copyfile(SCRIPTS / "bake", folder / "user_data")
        try:
            guest_build.step(
                "booting it (qemu)",
                *("qemu-system-x86_64", "-machine", "pc", "-accel", "kvm" if kvm else "tcg"),
                *("-cpu", "host" if kvm else "max", "-m", "1024", "-no-reboot"),
                *("-nodefaults", "-no-user-config", "-display", "none", "-serial", f"file:{console}"),
                *("-kernel", files[0], "-initrd", files[1], "-append", " ".join(RECIPE.options)),
                *("-drive", f"file={out / guest_build.RAW},format=raw,if=virtio,cache=unsafe,discard=unmap"),
                # QEMU shows a folder as a disk without partitions, as a config drive is
                *("-drive", f"file=fat:floppy:{drive},format=raw,if=virtio,readonly=on"),
                *("-drive", f"file={base},format=raw,if=virtio,readonly=on"),
                # an address, as the guest's start-up waits for one, and nobody to talk to
                *("-netdev", "user,id=n,restrict=on", "-device", "virtio-net-pci,netdev=n,romfile="),
                *("-device", "virtio-rng-pci"),
                timeout=BAKE_LIMIT,
            )
        except BuildError as error:
            raise BuildError(error.step, f"{error.output}\n    {_last_words(console)}") from error
        if BAKED not in _last_words(console):
            raise BuildError(f"taking in {IMAGE}", _last_words(console))


def _last_words(console: Path) -> str:
    said = console.read_text(errors="replace") if console.exists() else "(QEMU never ran)"
    return "\n    ".join(said.strip().splitlines()[-60:])
