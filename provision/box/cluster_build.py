"""What the cluster's nodes run: Kubernetes, built once from Debian's own source package, and a node's root file system."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provision.box import debian
from provision.box.command import Log, run
from provision.box.paths import HERE, cache, content_hash, once

SUITE = "bookworm"
SOURCE = "kubernetes"
SCRIPT = HERE / "kubernetes" / "build.sh"
PROGRAMS = ("pause", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
TOOLS = ("golang-go", "gcc", "libc6-dev", "dpkg-dev", "golang-github-modern-go-reflect2-dev")
PACKAGES = (
    *("containerd", "runc", "containernetworking-plugins", "etcd-server", "kubernetes-client"),
    *("iptables", "conntrack", "ipset", "iproute2", "procps", "python3-minimal", "tini", "util-linux"),
    *("curl", "ca-certificates", "ethtool", "socat", "mount", "kmod"),
)
STEP_LIMIT = 3600.0
EVERY = 15.0


@dataclass(frozen=True)
class Built:
    """What a cluster starts from.

    Attributes:
        programs: a folder with Kubernetes' own programs, statically linked.
        root: a node's root file system: container runtime, CNI plug-ins, etcd, iptables.
    """

    programs: Path
    root: Path


def ensure(log: Log) -> Built:
    """Both from the cache, built first where it has none (about ten minutes of two cores, once).

    Raises:
        CommandError: a package could not be had, or a step of the build failed.
    """
    with ThreadPoolExecutor(2) as pool:
        programs, root = pool.submit(ensure_programs, log), pool.submit(ensure_root, log)
    return Built(programs.result(), root.result())


def ensure_programs(log: Log) -> Path:
    """The folder with PROGRAMS, built first where the cache has none.

    Raises:
        CommandError: a package could not be had, or a step of the build failed.
    """
    key = content_hash([SCRIPT, SUITE, *PROGRAMS, *TOOLS])
    return once(cache() / f"kubernetes-{key}", lambda scratch: _build_programs(scratch, log))


def ensure_root(log: Log) -> Path:
    """A node's root file system, built first where the cache has none.

    Raises:
        CommandError: a package could not be had or installed.
    """
    key = content_hash([HERE / "debian.py", SUITE, *PACKAGES])
    return once(cache() / f"node-{key}", lambda scratch: _build_root(scratch, log))


def _build_programs(out: Path, log: Log) -> None:
    out.mkdir()
    root, hook = out / "root", out / "hook"
    log(f"Kubernetes: Debian {SUITE} with Go, and the source package (1 of {len(PROGRAMS) + 2})")
    # mmdebstrap's own apt, which knows the mirror: the source lies where the packages do
    hook.write_text(
        "#!/bin/sh\nset -e\n"
        'sources="$1/etc/apt/sources.list"\n'
        'cp "$sources" "$1/tmp/sources.list"\n'
        'sed -n \'s/^deb /deb-src /p\' "$1/tmp/sources.list" >> "$sources"\n'
        'export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"\n'
        'apt-get -qq update\nmkdir "$1/build"\ncd "$1/build"\n'
        f"apt-get -qq -o APT::Sandbox::User=root source --download-only {SOURCE}\n"
    )
    hook.chmod(0o755)
    debian.bootstrap(SUITE, root, debian.MERGED_USR, f"--customize-hook={hook}", packages=TOOLS, log=log)
    shutil.copy(SCRIPT, root / "build" / "build.sh")
    for number, step in enumerate(("unpack", *PROGRAMS), 2):
        words = f"Kubernetes: {step} ({number} of {len(PROGRAMS) + 2}; the first programs take longest)"
        with _compiling(words, root / "build/cache", log):
            run(
                ["chroot", str(root), "/bin/sh", "/build/build.sh", step],
                log=lambda _: None,
                timeout=STEP_LIMIT,
                alone=True,
            )
    for program in PROGRAMS:
        shutil.move(root / "build/bin" / program, out / program)
    shutil.rmtree(root)
    hook.unlink()


@contextmanager
def _compiling(words: str, compiled: Path, log: Log) -> Iterator[None]:
    """Tells what is being compiled, again and again: how much is done by how much the compiler's cache holds."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(EVERY):
            log(f"{words}, {len(list(compiled.glob('*/*-d')))} packages compiled")

    log(words)
    teller = threading.Thread(target=tell, name="compiling", daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _build_root(root: Path, log: Log) -> None:
    log("nodes: a root file system with containerd, CNI plug-ins and etcd")
    debian.bootstrap(SUITE, root, debian.MERGED_USR, packages=PACKAGES, log=log)
    for folder in ("var/lib/apt/lists", "var/cache/apt", "var/cache/debconf"):
        shutil.rmtree(root / folder, ignore_errors=True)
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text("")
