"""A root file system with Debian's VirtualBox: what the driver is proven against where none is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

from provision.box import debian
from provision.box.command import Log
from provision.box.paths import HERE, cache, content_hash, once

# the only Debian suite that has it
SUITE = "unstable"
COMPONENTS = "main,contrib"
PACKAGES = ("virtualbox",)
USER, USER_ID = "student", 1000
PROGRAM = Path("/usr/lib/virtualbox/VBoxManage")
"""The real program in it; the one on PATH is Debian's wrapper, which says more than it was asked for."""


def path() -> Path:
    return cache() / f"virtualbox-{content_hash([Path(__file__), HERE / 'debian.py'])}"


def ensure(log: Log) -> Path:
    """The root file system's folder, built first where the cache has none (about a minute, a gigabyte).

    Raises:
        CommandError: a package could not be had or installed.
    """
    return once(path(), lambda scratch: _build(scratch, log))


def _build(root: Path, log: Log) -> None:
    # a mirror that is frozen, or behind, is good enough for a test
    stale = '--aptopt=Acquire::Check-Valid-Until "false"'
    debian.bootstrap(SUITE, root, f"--components={COMPONENTS}", stale, packages=PACKAGES, log=log)
    _finish(root)


def _finish(root: Path) -> None:
    for folder in ("var/lib/apt/lists", "var/cache/apt", "var/cache/debconf"):
        shutil.rmtree(root / folder, ignore_errors=True)
    with (root / "etc/passwd").open("a") as passwd:
        passwd.write(f"{USER}:x:{USER_ID}:{USER_ID}::/home/{USER}:/bin/sh\n")
    with (root / "etc/group").open("a") as group:
        group.write(f"{USER}:x:{USER_ID}:\n")
