"""The cluster's nodes as sets of namespaces in the box: made, found again, entered, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path
from typing import IO

from provision.box import cluster_cgroups
from provision.box.cluster_build import Built
from provision.box.command import environment
from provision.box.namespaces import BoxError, Holder
from provision.box.paths import HERE

SCRIPTS = HERE / "kubernetes"
CODE = "/opt/labproof/code"
ENTERED = ("PATH=/opt/labproof/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8")
KUBECONFIG = "/etc/kubernetes/admin.conf"
START_LIMIT = 60.0
LINK = "cluster"
"""The bridge on the campus's upstream router that is the nodes' network."""


class ClusterError(BoxError):
    """The cluster could not be started, changed or ended: what was tried, what came back, what to do."""


@dataclass(frozen=True)
class Place:
    """Where a node is.

    Attributes:
        name: the node's, and its network namespace's.
        address: with its network's mask.
        data: the folder with what belongs to it.
    """

    name: str
    address: IPv4Interface
    data: Path

    @property
    def pid(self) -> int | None:
        """Process id, as the host sees it, of the node's process 1; None when it does not live."""
        try:
            recorded = (self.data / "init").read_text().split()
            now = Path(f"/proc/{recorded[0]}/stat").read_text()
        except (OSError, IndexError):
            return None
        # the 22nd field, when it started, tells it from another that was given the same id; the 3rd its state
        fields = now.rpartition(")")[2].split()
        return int(recorded[0]) if fields[19] == recorded[21] and fields[0] not in "ZX" else None

    def enter(self) -> tuple[str, ...]:
        """The command prefix that runs something in the node.

        Raises:
            ClusterError: the node does not live.
        """
        pid = self.pid
        if pid is None:
            raise ClusterError(f"the node {self.name} has ended: `python -m provision cluster up` starts it")
        spaces = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")
        clean = ("env", "-i", *ENTERED, f"KUBECONFIG={KUBECONFIG}")
        return ("nsenter", f"--target={pid}", *spaces, "--", *clean)

    def run(self, *argv: str, stdin: str = "", timeout: float = 60.0) -> str:
        """Runs a command in the node to its end; returns its output.

        Raises:
            ClusterError: it failed, or took longer; says what it said.
        """
        try:
            done = subprocess.run(
                [*self.enter(), *argv],
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout,
                cwd="/",
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(
                f"{self.name}: {' '.join(argv[:4])} did not end within {timeout:.0f} s"
            ) from None
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "it said nothing")[-600:]
            raise ClusterError(f"{self.name}: {' '.join(argv[:4])} failed: {said}")
        return done.stdout

    def service(self, action: str, name: str) -> None:
        """Starts or stops ``containerd`` or ``kubelet``; returns when that is done.

        Raises:
            ClusterError: it could not be.
        """
        self.run("bash", f"{CODE}/service.sh", action, name)


def wire(holder: Holder, router: IPv4Interface, places: Sequence[Place]) -> None:
    """Makes the nodes' networks, and theirs on the upstream router.

    Raises:
        ClusterError: a command failed.
    """
    upstream = [
        f"link add {LINK} type bridge forward_delay 0",
        f"address add {router} dev {LINK}",
        f"link set {LINK} up",
    ]
    for place in places:
        upstream += [
            f"link add name {place.name} type veth peer name eth0 netns {place.name}",
            f"link set dev {place.name} master {LINK} up",
        ]
    _ip(holder, "", [f"netns add {place.name}" for place in places])
    _ip(holder, "upstream", upstream)
    for place in places:
        _ip(
            holder,
            place.name,
            [
                "link set lo up",
                f"address add {place.address} dev eth0",
                "link set eth0 up",
                f"route add default via {router.ip}",
                # a cloud's metadata is looked for there, for six seconds, by whoever gets no answer
                "route add unreachable 169.254.0.0/16",
            ],
        )


def unwire(holder: Holder, names: Sequence[str]) -> None:
    """Takes the nodes' networks away, with all that is in them; those that there are."""
    for name in names:
        with contextlib.suppress(ClusterError):
            _ip(holder, "upstream", [f"link delete dev {name}"])
        with contextlib.suppress(ClusterError):
            _ip(holder, "", [f"netns delete {name}"])
    with contextlib.suppress(ClusterError):
        _ip(holder, "upstream", [f"link delete {LINK}"])


def _ip(holder: Holder, network: str, lines: Sequence[str]) -> None:
    # `ip netns` makes its names in the box's own mount namespace; its tool is the box's own too
    prefix = [*holder.enter(), "ip", *(["-n", network] if network else []), "-batch", "-"]
    done = subprocess.run(
        prefix, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False, cwd="/"
    )
    if done.returncode:
        raise ClusterError(f"the nodes' networks: ip {network} failed: {done.stderr.strip()}")


def start(holder: Holder, built: Built, store: Path, places: Sequence[Place]) -> None:
    """Makes the nodes' namespaces; returns when each node's process 1 runs in its own root file system.

    Args:
        store: containerd's, with the images in it.

    Raises:
        BoxError: this machine cannot, or a node did not start (which, and why).
    """
    parts = cluster_cgroups.hierarchies(holder.init)
    launched = {}
    for place in places:
        for folder in ("mnt", "log", "etc"):
            (place.data / folder).mkdir(parents=True, exist_ok=True)
        groups = cluster_cgroups.make(parts, cluster_cgroups.name_of(place.data.parent), place.name)
        launched[place] = _launch(holder, built, store, place, parts, groups)
    end = time.monotonic() + START_LIMIT
    for place in places:
        while place.pid is None:
            if launched[place].poll() is not None or time.monotonic() > end:
                said = (place.data / "log/node.out").read_text(errors="replace").strip() or "it said nothing"
                raise ClusterError(f"the node {place.name} did not start: {said[-600:]}")
            time.sleep(0.01)


def _launch(
    holder: Holder,
    built: Built,
    store: Path,
    place: Place,
    parts: Sequence[cluster_cgroups.Hierarchy],
    groups: Sequence[Path],
) -> subprocess.Popen[bytes]:
    into = [
        "nsenter",
        f"--target={holder.init}",
        *("--pid", f"--net={holder.network(place.name)}", "--"),
        *("unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--"),
    ]
    # the node's process 1 alone is in its cgroups, and their namespace begins there: what waits for its end is outside
    join = (
        f'n={len(groups)}; for g in "${{@:1:$n}}"; do echo 0 > "$g/cgroup.procs" || exit; done; '
        'shift $n; exec "$@"'
    )
    files = [str(path) for path in (place.data, built.root, built.programs, store, SCRIPTS)]
    inside = [
        *("bash", "-c", join, "join", *map(str, groups), "unshare", "--cgroup", "--"),
        *("bash", str(SCRIPTS / "node.sh"), place.name, *files, *(part.argument for part in parts)),
    ]
    gone, alive = os.pipe()
    try:
        with (place.data / "log/node.out").open("ab") as out:
            janitor = ["bash", str(SCRIPTS / "janitor.sh"), *map(str, groups)]
            _background(janitor, gone, out)
            return _background([*into, *inside], subprocess.DEVNULL, out, alive)
    finally:
        os.close(gone)
        os.close(alive)


def _background(argv: list[str], stdin: int, out: IO[bytes], *kept: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        stdin=stdin,
        stdout=out,
        stderr=out,
        env=environment(),
        cwd="/",
        start_new_session=True,
        pass_fds=kept,
    )


def end(places: Sequence[Place], within: float = 20.0) -> bool:
    """Ends the nodes and every process in them; returns whether one lived.

    Raises:
        ClusterError: one did not end in time.
    """
    living = [(place, pid) for place in places if (pid := place.pid) is not None]
    for _, pid in living:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + within
    for place, _ in living:
        while place.pid is not None:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the node {place.name} does not end: a process in it is stuck in the kernel"
                )
            time.sleep(0.01)
    return bool(living)
