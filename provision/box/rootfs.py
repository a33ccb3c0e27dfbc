"""The embedded lab's own root file system: Debian 12 with its OpenStack, never the host's packages."""

from __future__ import annotations

import shutil
from pathlib import Path

from provision.box import debian
from provision.box.command import Log
from provision.box.paths import HERE, cache, content_hash, once

PACKAGES = HERE / "packages.txt"
PRESEED = HERE / "preseed.txt"
SUITE = "bookworm"
# Debian 12's own emulates all processors of a guest on one of this machine's safely only (see provision.qemu_vm), and
# slower: the lab's guests boot and work in half of the time on this one
BACKPORTED = ("qemu-*", "seabios")


def path() -> Path:
    return cache() / f"rootfs-{content_hash([PACKAGES, PRESEED, Path(__file__), HERE / 'debian.py'])}"


def ensure(log: Log) -> Path:
    """The root file system's folder, built first where the cache has none (about two minutes).

    Raises:
        CommandError: a package could not be had or installed.
    """
    return once(path(), lambda scratch: _build(scratch, log))


def _build(root: Path, log: Log) -> None:
    hook = root.with_suffix(".hook")
    # services must not start while they are installed, and none of them may ask a question
    hook.write_text(
        "#!/bin/sh\nset -e\n"
        'printf "#!/bin/sh\\nexit 101\\n" > "$1/usr/sbin/policy-rc.d"; chmod 755 "$1/usr/sbin/policy-rc.d"\n'
        f'chroot "$1" debconf-set-selections < "{PRESEED}"\n'
    )
    hook.chmod(0o755)
    try:
        debian.bootstrap(
            SUITE,
            root,
            f"--essential-hook={hook}",
            packages=PACKAGES.read_text().split(),
            backported=BACKPORTED,
            log=log,
        )
        _finish(root)
    finally:
        hook.unlink(missing_ok=True)


def _finish(root: Path) -> None:
    for folder in ("var/lib/apt/lists", "var/cache/apt", "var/cache/debconf"):
        shutil.rmtree(root / folder, ignore_errors=True)
    (root / "etc/hosts").write_text("127.0.0.1 localhost box\n::1 localhost\n")
    (root / "etc/hostname").write_text("box\n")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text("")
    for folder in ("box", "labproof"):
        (root / folder).mkdir()
