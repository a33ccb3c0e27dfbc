"""The containers' base image, and the packages that can be installed in it without the internet.

Both are of one build, so that the packages fit the image: each comes with just those dependencies that the
image lacks. The packages are a flat apt repository, which the lab's *outside* host serves at `URL`.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from provision.box import debian
from provision.box.command import BuildError, Log, run
from provision.box.paths import HERE, cache, content_hash, once

SUITE = "bookworm"
OUTSIDE = "198.51.100.8"
URL = f"http://{OUTSIDE}/debian"
PACKAGES = ("nano", "net-tools", "iputils-ping", "dropbear-bin")
"""What a container may install: an editor, the network tools of the lab, and a small SSH server."""

ARCHIVE = "debian"
BASE = "base.tar"
TEXTS = {
    "etc/apt/sources.list": f"deb [trusted=yes] {URL} ./\n",
    # as in Debian's own image: no translations, no copies of packages, and dpkg need not wait for the disk
    "etc/apt/apt.conf.d/container": (
        'Acquire::Languages "none";\nAPT::Install-Recommends "false";\n'
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\n'
    ),
    "etc/dpkg/dpkg.cfg.d/container": "force-unsafe-io\n",
    "etc/hostname": "container\n",
    "etc/resolv.conf": "",
}


def path() -> Path:
    return cache() / f"packages-{content_hash([Path(__file__), HERE / 'debian.py'])}"


def ensure(log: Log) -> Path:
    """The folder with the packages (`ARCHIVE`, to be served as it is) and the image's file system (`BASE`).

    Built first where the cache has none: as root, with mmdebstrap and a Debian mirror, in about half a minute.

    Raises:
        BuildError: a package could not be had or installed.
    """
    return once(path(), lambda scratch: _build(scratch, log))


def _build(out: Path, log: Log) -> None:
    log(f"containers: Debian {SUITE} and the packages {', '.join(PACKAGES)}")
    archive, root, hook = out / ARCHIVE, out / "root", out / "hook"
    (archive / "partial").mkdir(parents=True)
    # mmdebstrap's own apt, which knows the mirror and what is installed already
    hook.write_text(
        "#!/bin/sh\nset -e\n"
        f'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qq --yes --download-only --no-install-recommends \\\n'
        f'    -o APT::Sandbox::User=root -o Dir::Cache::archives="{archive}" install {" ".join(PACKAGES)}\n'
    )
    hook.chmod(0o755)
    debian.bootstrap(
        SUITE, root, "--quiet", debian.MERGED_USR, f"--customize-hook={hook}", log=log, timeout=900
    )
    shutil.rmtree(archive / "partial")
    (archive / "lock").unlink(missing_ok=True)
    (archive / "Packages").write_text(index(archive))
    _finish(root)
    run(
        # devices are the engine's to make
        ["tar", "--numeric-owner", "--exclude=./dev/*", "-C", str(root), "-cf", str(out / BASE), "."],
        log=log,
        timeout=120,
    )
    shutil.rmtree(root)
    hook.unlink()


def index(archive: Path) -> str:
    """The ``Packages`` file of a folder of packages (Debian repository format, "Packages" indices).

    Raises:
        BuildError: there is no package, or one is damaged.
    """
    entries = []
    for package in sorted(archive.glob("*.deb")):
        control = run(["dpkg-deb", "--field", str(package)], log=lambda _: None, timeout=30).strip()
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        size = package.stat().st_size
        entries.append(f"{control}\nFilename: ./{package.name}\nSize: {size}\nSHA256: {digest}\n")
    if not entries:
        raise BuildError(f"the packages {', '.join(PACKAGES)} were to be fetched: none came")
    return "\n".join(entries)


def _finish(root: Path) -> None:
    for pattern in ("var/lib/apt/lists/*", "var/cache/apt/*", "var/cache/debconf/*-old", "var/log/*"):
        for entry in root.glob(pattern):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for name in ("usr/lib/x86_64-linux-gnu/gconv", "usr/share/i18n", "usr/share/zoneinfo/right"):
        shutil.rmtree(root / name, ignore_errors=True)
    for target, text in TEXTS.items():
        (root / target).unlink(missing_ok=True)
        (root / target).write_text(text)
