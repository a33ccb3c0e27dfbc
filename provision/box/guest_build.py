"""How a guest image is made: Debian's packages, a kernel for direct boot, an initramfs, and a disk.

:mod:`provision.box.guest` and :mod:`provision.box.docker_guest` say of what. An image is three files for a direct
kernel boot (no boot loader): an uncompressed kernel with its PVH entry, an initramfs of busybox and the virtio
modules, and one ext4 file system as a qcow2 disk without partitions.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.box import command, debian
from provision.box.command import CommandError, Log, run
from provision.box.cpio import write_initramfs

HOST_PACKAGES = ("mmdebstrap", "qemu-utils", "e2fsprogs", "lz4")
STOPS = ("poweroff", "reboot", "halt", "shutdown")
RAW = "root.raw"


class BuildError(command.BuildError):
    """A step of the build failed.

    Attributes:
        step: what was being done.
        output: what the program said.
    """

    def __init__(self, step: str, output: str) -> None:
        super().__init__(f"guest image: {step} failed\n    {output.strip() or '(no output)'}")
        self.step = step
        self.output = output


@dataclass(frozen=True)
class Recipe:
    """What a guest image is made of.

    Attributes:
        packages: Debian's; what they need comes with them.
        initramfs: the initramfs's first process.
        initramfs_modules: kernel modules that it loads.
        modules: those kept in the root file system besides.
        installed: files, by their path in the guest; those outside of `plain` are made executable.
        texts: files' contents, by their path in the guest.
        users: who can log in (no password), with the groups that each is in.
        disk_gib: the file system's size in GiB; the disk may be larger, it grows at the next boot.
        options: the kernel's command line.
    """

    suite: str
    packages: tuple[str, ...]
    initramfs: Path
    initramfs_modules: tuple[str, ...]
    modules: tuple[str, ...]
    installed: Mapping[str, Path]
    texts: Mapping[str, str]
    users: Mapping[str, tuple[str, ...]]
    disk_gib: int
    options: tuple[str, ...]
    plain: frozenset[str] = frozenset({"etc/inittab", "etc/labproof/json.awk"})


def make(recipe: Recipe, out: Path, log: Log) -> str:
    """Makes ``vmlinuz``, ``initrd.img`` and the disk `RAW` in the folder `out`; returns the kernel's version.

    Runs as root; needs HOST_PACKAGES and a Debian mirror (LABPROOF_DEBIAN_MIRROR, or mmdebstrap's own
    default), no loop device.

    Raises:
        BuildError: a step failed; nothing of use is in `out`.
    """
    if os.geteuid() != 0:
        raise BuildError("start", "it must run as root: packages are unpacked with their owners")
    out.mkdir(parents=True, exist_ok=True)
    # inside `out`: whoever clears away the folder of a build that was killed clears away all of it
    with tempfile.TemporaryDirectory(prefix="work-", dir=out) as scratch:
        root = Path(scratch) / "root"
        _bootstrap(recipe, root, log)
        version = _kernel(recipe, root, out / "vmlinuz", log)
        early = _keep_modules(recipe, root, version)
        _furnish(recipe, root)
        _initramfs(recipe, root, early, Path(scratch) / "initramfs", out / "initrd.img")
        _strip(root)
        _disk(recipe, root, out / RAW, log)
    return version


def pack(out: Path, log: Log, compression: str = "zlib") -> None:
    """Turns the disk `RAW` into ``root.qcow2``, compressed.

    Args:
        compression: ``zlib``, which every reader of qcow2 knows, or ``zstd``, which is quicker.

    Raises:
        BuildError: qemu-img failed.
    """
    log("guest image: packing the disk")
    raw = out / RAW
    step(
        "converting the disk (qemu-img)",
        *("qemu-img", "convert", "-c", "-W", "-O", "qcow2", "-o", f"compression_type={compression}"),
        *(raw, out / "root.qcow2"),
    )
    raw.unlink()


def describe(recipe: Recipe, out: Path, version: str, content_hash: str, **more: Any) -> None:
    """Writes ``guest.json``: what the image is, and how it is booted."""
    files = ("vmlinuz", "initrd.img", "root.qcow2")
    document = {
        "kernel": version,
        "suite": recipe.suite,
        "content_hash": content_hash,
        "login": next(iter(recipe.users)),
        "min_disk": recipe.disk_gib,
        "os_command_line": " ".join(recipe.options),
        **more,
        "sizes": {name: (out / name).stat().st_size for name in files},
    }
    (out / "guest.json").write_text(json.dumps(document, indent=2) + "\n")


def step(doing: str, *argv: str | Path, log: Log = lambda _: None, timeout: float = 120) -> str:
    """Runs a command of the build in namespaces of its own and returns its output.

    Raises:
        BuildError: it failed, while `doing` this.
    """
    try:
        return run([str(word) for word in argv], log=log, timeout=timeout, alone=True)
    except CommandError as error:
        raise BuildError(doing, str(error)) from error


def _bootstrap(recipe: Recipe, root: Path, log: Log) -> None:
    log(f"guest image: Debian {recipe.suite}, {len(recipe.packages)} packages and what they need")
    try:
        debian.bootstrap(
            recipe.suite, root, "--quiet", debian.MERGED_USR, packages=recipe.packages, log=log, timeout=900
        )
    except CommandError as error:
        raise BuildError("installing Debian's packages (mmdebstrap)", str(error)) from error


def _kernel(recipe: Recipe, root: Path, target: Path, log: Log) -> str:
    images = sorted((root / "boot").glob("vmlinuz-*"))
    if not images:
        raise BuildError("looking for the kernel", f"no vmlinuz-* in boot of {', '.join(recipe.packages)}")
    packed = images[-1].read_bytes()
    kernel = unpacked_kernel(packed)
    if kernel is None:
        log("guest image: the kernel stays compressed (unknown compression): boots take some 0.3 s longer")
    target.write_bytes(kernel or packed)
    return images[-1].name.removeprefix("vmlinuz-")


def unpacked_kernel(image: bytes) -> bytes | None:
    """The ELF kernel inside a bzImage, None where it cannot be had.

    Its place is in the header (Linux x86 boot protocol 2.08, ``payload_offset``).
    QEMU starts an ELF kernel by its PVH note: neither a boot loader nor a decompressor runs in the guest.
    """
    if len(image) < 0x250 or image[0x202:0x206] != b"HdrS":
        return None
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = ((image[0x1F1] or 4) + 1) * 512 + offset
    payload = image[start : start + length]
    body, (size,) = payload[:-4], struct.unpack("<I", payload[-4:])
    try:
        if body.startswith(b"\x02\x21\x4c\x18"):
            kernel = subprocess.run(
                ["lz4", "-dc"], input=body, capture_output=True, check=True, timeout=60
            ).stdout
        elif body.startswith(b"\xfd7zXZ\0"):
            kernel = lzma.decompress(body)
        elif body.startswith(b"\x1f\x8b"):
            kernel = gzip.decompress(body)
        else:
            return None
    except (OSError, subprocess.SubprocessError, lzma.LZMAError, EOFError):
        return None
    return kernel if len(kernel) == size and kernel.startswith(b"\x7fELF") else None


def _keep_modules(recipe: Recipe, root: Path, version: str) -> list[Path]:
    """Removes all modules but the recipe's and what they need; the initramfs's in load order."""
    tree = root / "lib/modules" / version

    def needed(module: str) -> list[Path]:
        lines = step(
            f"looking up the kernel module {module}",
            *("chroot", root, "modprobe", "-S", version, "--show-depends", module),
        ).splitlines()
        return [root / line.split()[1].lstrip("/") for line in lines if line.startswith("insmod")]

    early = list(dict.fromkeys(file for module in recipe.initramfs_modules for file in needed(module)))
    late = {file.resolve() for module in recipe.modules for file in needed(module)}
    kept = late.union(file.resolve() for file in early)
    for file in tree.rglob("*.ko"):
        if file.resolve() not in kept:
            file.unlink()
    step("indexing kernel modules", "chroot", root, "depmod", version)
    return early


def _furnish(recipe: Recipe, root: Path) -> None:
    for name, groups in recipe.users.items():
        step(
            f"adding the user {name}",
            *("chroot", root, "useradd", "--create-home", "--shell=/bin/bash"),
            *([f"--groups={','.join(groups)}"] if groups else []),
            name,
        )
        # -R: useradd leaves '!', which some SSH servers take for a locked account; '*' is only "no password"
        step(f"giving the user {name} no password", "chroot", root, "usermod", "--password=*", name)
        profile = root / f"home/{name}/.bashrc"
        profile.write_text(f"PATH=/usr/local/sbin:/usr/sbin:/sbin:$PATH\n{profile.read_text()}")
    for target, source in recipe.installed.items():
        path = root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        shutil.copyfile(source, path)
        path.chmod(0o644 if target in recipe.plain else 0o755)
    for target, text in recipe.texts.items():
        path = root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o440 if "sudoers" in target else 0o755 if text.startswith("#!") else 0o644)
    for name in STOPS:
        path = root / "sbin" / name
        path.unlink(missing_ok=True)
        path.symlink_to("/etc/labproof/stop")
    for folder in ("etc/dropbear", "var/lib/labproof"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    sectors = recipe.disk_gib * 2**30 // 512
    (root / "var/lib/labproof/disk-sectors").write_text(f"{sectors}\n")


def _initramfs(recipe: Recipe, root: Path, modules: list[Path], folder: Path, target: Path) -> None:
    for name in ("bin", "dev", "proc", "sys", "root", "modules"):
        (folder / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", folder / "bin/busybox")
    shutil.copyfile(recipe.initramfs, folder / "init")
    (folder / "init").chmod(0o755)
    for number, module in enumerate(modules, start=10):
        shutil.copy(module, folder / "modules" / f"{number}-{module.name}")
    write_initramfs(folder, target)


def _strip(root: Path) -> None:
    for pattern in (
        "boot/*",
        "vmlinuz*",
        "initrd.img*",
        "var/lib/apt/lists/*",
        "var/cache/apt/*",
        "var/log/*",
    ):
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in (
        "usr/lib/x86_64-linux-gnu/gconv",
        "usr/share/i18n",
        "var/cache/debconf",
        "usr/share/zoneinfo/right",
    ):
        shutil.rmtree(root / name, ignore_errors=True)


def _disk(recipe: Recipe, root: Path, raw: Path, log: Log) -> None:
    log("guest image: the disk")
    with raw.open("wb") as file:
        file.truncate(recipe.disk_gib * 2**30)
    step(
        "making the root file system (mke2fs)",
        *("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-m", "0", "-L", "labproof", "-J", "size=8"),
        # inode tables written now (zeros, which the image leaves out) are not written by each guest
        *("-E", "lazy_itable_init=0,lazy_journal_init=0,resize=4194304"),
        *("-O", "^metadata_csum", "-d", root, raw),
    )
