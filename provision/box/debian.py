"""Debian file systems, by mmdebstrap: without documents, recommended packages, or anything of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
    backported: Iterable[str] = (),
    log: Log,
    timeout: float = 1800,
) -> None:
    """Makes a Debian file system in the new folder `root`, as root, in namespaces of its own.

    Args:
        options: further ones of mmdebstrap.
        packages: to be installed beside the essential ones.
        backported: patterns of the packages that are taken from the suite's backports (apt_preferences(5)).

    Raises:
        CommandError: a package could not be had or installed.
    """
    include = ",".join(packages)
    mirror = os.environ.get(MIRROR)
    with _backports(suite, root, list(backported)) as more:
        run(
            [
                *("mmdebstrap", "--mode=root", "--variant=minbase", *options, *more),
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


@contextmanager
def _backports(suite: str, root: Path, patterns: list[str]) -> Iterator[list[str]]:
    """Options that make `patterns` come from the suite's backports, on the mirror that the suite comes from."""
    if not patterns:
        yield []
        return
    hook = root.with_suffix(".backports")
    sources, pin = '"$1/etc/apt/sources.list.d/backports.list"', '"$1/etc/apt/preferences.d/backports"'
    hook.write_text(
        "#!/bin/sh\nset -e\n"
        # of the suite alone: its updates and security have no backports of their own
        f"sed -n 's/^\\(deb .*\\) {suite} /\\1 {suite}-backports /p' \"$1/etc/apt/sources.list\" > {sources}\n"
        f"[ -s {sources} ] || {{ echo 'no line of the suite {suite} in its sources' >&2; exit 1; }}\n"
        f"printf 'Package: %s\\nPin: release n={suite}-backports\\nPin-Priority: 990\\n' "
        f"'{' '.join(patterns)}' > {pin}\n"
    )
    hook.chmod(0o755)
    try:
        yield [f"--setup-hook={hook}"]
    finally:
        hook.unlink(missing_ok=True)
