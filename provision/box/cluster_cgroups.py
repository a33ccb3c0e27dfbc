"""The nodes' part of the machine's cgroups: made, found by the nodes, and taken away again.

Cgroups are the one thing of a node that no namespace takes along. They are below the cgroups that the box's process 1
is in (version 1), or at the top (version 2, where a cgroup with processes cannot hand controllers down).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from provision.box.namespaces import BoxError

PROC = Path("/proc")
CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb")
"""Of version 2, those that a kubelet asks for."""
NEEDED = frozenset({"cpu", "memory", "pids"})


@dataclass(frozen=True)
class Hierarchy:
    """One of the machine's cgroup hierarchies.

    Attributes:
        mount: where it is mounted.
        options: what a mount of the same one is asked for with; empty for the one of version 2.
        parent: the folder below which the cluster's groups are.
    """

    mount: Path
    options: str
    parent: Path

    @property
    def argument(self) -> str:
        """As node.sh takes it."""
        return f"{self.mount.name}={self.options}" if self.options else "2"


def hierarchies(pid: int | str = "self", proc: Path = PROC) -> list[Hierarchy]:
    """The hierarchies that nodes get a part of: those of version 1 where these have the controllers, else version 2's.

    Args:
        pid: the process whose groups the nodes' are to be below.

    Raises:
        BoxError: neither is mounted with what a kubelet needs.
    """
    mounts = _mounts(proc / "self" / "mountinfo")
    found, unified = [], None
    for line in (proc / str(pid) / "cgroup").read_text().splitlines():
        _, options, path = line.split(":", 2)
        # a named one has no controllers and is asked for by its name alone
        wanted = f"none,{options}" if options.startswith("name=") else options
        mount = mounts.get(options)
        if mount is None:
            continue
        below = mount / path.lstrip("/")
        if options:
            # in a container that has no cgroup namespace of its own the path is the host's
            found.append(Hierarchy(mount, wanted, below if below.is_dir() else mount))
        else:
            unified = Hierarchy(mount, "", mount)
    held = {name for each in found for name in each.options.split(",")}
    if NEEDED - {"pids"} <= held:
        return found
    if unified and (unified.mount / "cgroup.controllers").is_file():
        have = set((unified.mount / "cgroup.controllers").read_text().split())
        if have >= NEEDED:
            return [unified]
    raise BoxError(
        "the nodes' cgroups cannot be made: neither version 1 nor version 2 is mounted with the controllers "
        f"{', '.join(sorted(NEEDED))}"
    )


def _mounts(file: Path) -> dict[str, Path]:
    """Mount points of cgroup file systems, by the controllers as /proc/PID/cgroup writes them; version 2's by ''."""
    found: dict[str, Path] = {}
    for line in file.read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        where = Path(before.split()[4])
        if kind == "cgroup2":
            found.setdefault("", where)
        elif kind == "cgroup":
            names = [name for name in options.split(",") if name not in ("rw", "ro", "xattr")]
            names = [name for name in names if not name.startswith("release_agent=")]
            found.setdefault(",".join(names), where)
    return found


def name_of(folder: Path) -> str:
    """The name of the groups of the cluster that keeps its files in `folder`."""
    return f"labproof-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


def make(parts: list[Hierarchy], name: str, node: str) -> list[Path]:
    """Makes a node's groups; returns their folders, in the order of `parts`.

    Raises:
        BoxError: the kernel refused.
    """
    made = []
    try:
        for part in parts:
            for folder in (part.parent / name, part.parent / name / node):
                folder.mkdir(exist_ok=True)
                if "cpuset" in part.options.split(","):
                    # empty ones of version 1 take no process
                    for file in ("cpuset.cpus", "cpuset.mems"):
                        (folder / file).write_text((folder.parent / file).read_text())
                if not part.options:
                    _hand_down(folder.parent)
            made.append(part.parent / name / node)
    except OSError as error:
        raise BoxError(f"the cgroups of {node} could not be made: {error}") from None
    return made


def _hand_down(folder: Path) -> None:
    """Lets the groups below `folder` have controllers (version 2)."""
    have = (folder / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{name}" for name in CONTROLLERS if name in have)
    (folder / "cgroup.subtree_control").write_text(wanted)


def remove(name: str, within: float = 10.0) -> list[Path]:
    """Takes away all groups of a cluster, and ends the processes in them; returns those that would not go in time."""
    end = time.monotonic() + within
    tops = [found for mount in _mounts(PROC / "self" / "mountinfo").values() for found in _named(mount, name)]
    while tops:
        for top in tops:
            # the deepest first; a cgroup's files go with its folder, and its janitor may be at it too
            for folder in [Path(name) for name, _, _ in os.walk(top, topdown=False)]:
                with contextlib.suppress(OSError):
                    _end(folder)
                    folder.rmdir()
        tops = [top for top in tops if top.exists()]
        if time.monotonic() > end:
            break
        if tops:
            time.sleep(0.05)
    return tops


def _end(group: Path) -> None:
    for pid in (group / "cgroup.procs").read_text().split():
        # one of another pid namespace is shown as 0, and would be everybody
        if int(pid) > 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _named(mount: Path, name: str) -> list[Path]:
    """Whoever removes them may be in other groups than who made them was: they are looked for everywhere."""
    return [Path(folder) / name for folder, below, _ in os.walk(mount) if name in below]
