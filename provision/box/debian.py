"""Debian file systems, by mmdebstrap: without documents, recommended packages, or anything of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from provision.box.command import Log, run

DROPPED = ("doc/*", "man/*", "locale/*", "info/*", "lintian/*")
"""Of /usr/share: what nobody reads in a lab."""
# /bin, /sbin and /lib are links from the start: made later, by the package usrmerge, they cost 55 MB of Perl
MERGED_USR = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
MIRROR = "LABPROOF_DEBIAN_MIRROR"
"""Names the variable with the mirror to use in place of mmdebstrap's own choice."""


def bootstrap(
    suite: str,
    root: Path,
    *options: str,
    packages: Iterable[str] = (),
    log: Log,
    timeout: float = 1800,
) -> None:
    """Makes a Debian file system in the new folder `root`, as root, in namespaces of its own.

    Args:
        options: further ones of mmdebstrap.
        packages: to be installed beside the essential ones.

    Raises:
        CommandError: a package could not be had or installed.
    """
    include = ",".join(packages)
    mirror = os.environ.get(MIRROR)
    run(
        [
            *("mmdebstrap", "--mode=root", "--variant=minbase", *options),
            *([f"--include={include}"] if include else []),
            "--dpkgopt=force-unsafe-io",
            *(f"--dpkgopt=path-exclude=/usr/share/{name}" for name in DROPPED),
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            '--aptopt=Apt::Install-Recommends "false"',
            *(suite, str(root), *([mirror] if mirror else [])),
        ],
        log=log,
        timeout=timeout,
        alone=True,
    )
