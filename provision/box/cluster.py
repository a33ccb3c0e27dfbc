"""The embedded lab's Kubernetes cluster: three real nodes in namespaces of the standing box.

    desktop 10.1.5.89 --- campus --- upstream 12.7.5.1 --- cluster network 12.7.5.0/24
                                                             master .47   worker1 .118   worker2 .90

Everything of it is below the box's process 1 and ends with it. The desktop reaches the nodes' addresses;
it has no way to services' addresses (10.96.0.0/12) nor to pods' (172.16.0.0/16), which the nodes alone know.
The control plane runs as static pods, kube-proxy and the network plug-in as DaemonSets in kube-system.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from probes.host import Host, NamespaceHost
from provision.box import (
    cluster_api,
    cluster_build,
    cluster_cgroups,
    cluster_images,
    cluster_nodes,
    cluster_start,
    runtime,
)
from provision.box.cluster_api import Api
from provision.box.cluster_nodes import ClusterError, Place
from provision.box.command import Log
from provision.box.namespaces import BoxError, Holder
from provision.box.paths import state

__all__ = ["Cluster", "ClusterError", "Node", "down", "ensure", "running", "up"]

NETWORK = IPv4Network("12.7.5.0/24")
ROUTER = IPv4Interface("12.7.5.1/24")
PODS = IPv4Network("172.16.0.0/16")
SERVICES = IPv4Network("10.96.0.0/12")
ADDRESSES = {
    "master": IPv4Address("12.7.5.47"),
    "worker1": IPv4Address("12.7.5.118"),
    "worker2": IPv4Address("12.7.5.90"),
}
"""The nodes' names and InternalIPs; the first is the control plane."""
PLUGIN = "labproof-cni"
"""The network plug-in's DaemonSet and container, in kube-system: bridge, host-local and routes between the nodes."""
WITHOUT_PROXY = "labproof/without-kube-proxy"
"""The label of a node that kube-proxy's DaemonSet leaves out."""
PYTHON = cluster_images.PYTHON
"""An image with Python 3 and its standard library; on every node from the start."""
CLIENT = cluster_images.CLIENT
"""The test pods' image: curl, a shell, getent, ip, Python; on every node from the start."""


@dataclass(frozen=True)
class Node:
    """One of the cluster's nodes: namespaces of its own (network, mounts, processes, host name, cgroups).

    Attributes:
        name: as the API has it.
        address: its InternalIP, on NETWORK.
        control_plane: whether it runs the control plane.
        enter: the command prefix that runs something in the node, with the node's own files.
    """

    name: str
    address: IPv4Address
    control_plane: bool
    enter: tuple[str, ...]

    def host(self) -> Host:
        """The node as a place to look at (closed by the caller); `kubectl` and `ctr` are on its PATH.

        On the control plane's node `kubectl` is the administrator's, as on a real one.
        """
        return NamespaceHost(self.name, self.enter)


@dataclass(frozen=True)
class Cluster:
    """The running cluster.

    Attributes:
        holder: the box that it is in.
        data: the folder with what belongs to it; goes with the box.
    """

    holder: Holder
    data: Path

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig (mode 0600); its server answers on the box's desktop and on the nodes."""
        return self.data / "admin.conf"

    @property
    def nodes(self) -> Mapping[str, Node]:
        """By name: master, worker1, worker2.

        Raises:
            ClusterError: one has ended.
        """
        places = _places(self.data)
        return {
            place.name: Node(place.name, place.address.ip, place is places[0], place.enter())
            for place in places
        }

    @property
    def timeline(self) -> Mapping[str, float]:
        """How the start went: seconds from its beginning to each part."""
        told: dict[str, float] = json.loads((self.data / "status.json").read_text())["timeline"]
        return told

    def cni_off(self, within: float = 60.0) -> None:
        """Takes the network plug-in away, its configuration on the nodes too; returns when all nodes are NotReady.

        Raises:
            ClusterError: it did not come to that within so many seconds.
        """
        self._master.run(
            *("kubectl", "delete", "--ignore-not-found", "--wait=true", "-f", "-"),
            stdin=cluster_start.render("plugin.yaml", self._values()),
            timeout=within,
        )
        with self._api() as api:
            # each of its pods takes its node's away as it ends: one that is put back must not lose its own to it
            api.until(
                "the network plug-in's configuration is gone from the nodes",
                lambda: not any(_configured(place) for place in _places(self.data)),
                within,
            )
            cluster_start.wait_ready(api, len(ADDRESSES), wanted=False, within=within)

    def cni_on(self, within: float = 60.0) -> None:
        """Puts the network plug-in back; returns when all nodes are Ready. Changes nothing where it is there.

        Raises:
            ClusterError: they were not Ready within so many seconds.
        """
        cluster_start.apply(self._master, cluster_start.render("plugin.yaml", self._values()))
        with self._api() as api:
            api.until(
                "the network plug-in runs on each node",
                lambda: cluster_start.everywhere(api, PLUGIN, len(ADDRESSES)),
                within,
            )
            cluster_start.wait_ready(api, len(ADDRESSES), within=within)

    def stop_kubelet(self, node: str) -> None:
        """Ends a node's kubelet; returns when it has ended (the API shows the node NotReady some 15 s later).

        The node's containers go on running.

        Raises:
            ClusterError: there is no such node, or it did not end.
        """
        self._place(node).service("stop", "kubelet")

    def start_kubelet(self, node: str, within: float = 60.0) -> None:
        """Starts a node's kubelet again; returns when the node is Ready.

        Raises:
            ClusterError: there is no such node, or it was not Ready within so many seconds.
        """
        place = self._place(node)
        with self._api() as api:
            # what the API tells of a node is what its kubelet told last: it has to tell anew
            before = _sign_of_life(api, node)
            place.service("start", "kubelet")
            api.until(
                f"{node} is Ready with its kubelet back",
                lambda: (
                    _sign_of_life(api, node) != before and cluster_api.ready(api.get(f"/api/v1/nodes/{node}"))
                ),
                within,
            )

    def stop_proxy(self, node: str, within: float = 60.0) -> None:
        """Takes kube-proxy off a node, and its rules out of the node's packet filter, as on a node where it never ran.

        Raises:
            ClusterError: there is no such node, or it did not end within so many seconds.
        """
        place = self._place(node)
        with self._api() as api:
            api.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": {WITHOUT_PROXY: ""}}})
            api.until(f"kube-proxy has ended on {node}", lambda: not _proxies(api, node), within)
        place.run("kube-proxy", "--cleanup")

    def start_proxy(self, node: str, within: float = 60.0) -> None:
        """Puts kube-proxy back on a node; returns when it runs and has written its rules.

        Raises:
            ClusterError: there is no such node, or it did not come within so many seconds.
        """
        place = self._place(node)
        with self._api() as api:
            api.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": {WITHOUT_PROXY: None}}})
            api.until(f"kube-proxy runs on {node}", lambda: "Running" in _proxies(api, node), within)
            api.until(f"kube-proxy has written its rules on {node}", lambda: _has_rules(place), within)

    def load_image(self, tar: Path) -> tuple[str, ...]:
        """Imports an image (``docker save`` or OCI archive) on every node; returns the names that it brought.

        Raises:
            ClusterError: the archive is not one, or a node did not take it.
        """

        def take(place: Place) -> list[str]:
            with tar.open("rb") as file:
                argv = [*place.enter(), "ctr", "--namespace", "k8s.io", "images", "import", "-"]
                done = subprocess.run(argv, stdin=file, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ClusterError(f"{place.name} did not take {tar.name}: {done.stderr.strip()[-400:]}")
            return [line.split()[1] for line in done.stdout.splitlines() if line.startswith("unpacking ")]

        with ThreadPoolExecutor(len(ADDRESSES)) as pool:
            names = list(pool.map(take, _places(self.data)))
        return tuple(dict.fromkeys(name for each in names for name in each))

    @property
    def _master(self) -> Place:
        return _places(self.data)[0]

    def _place(self, node: str) -> Place:
        found = {place.name: place for place in _places(self.data)}
        if node not in found:
            raise ClusterError(f"there is no node {node!r}; there are: {', '.join(found)}")
        return found[node]

    def _values(self) -> dict[str, str]:
        return cluster_start.values(self._master, PODS, SERVICES)

    def _api(self) -> Api:
        return Api(self.holder.network(self._master.name), self._master.address.ip, self.data)


def _proxies(api: Api, node: str) -> list[str]:
    """The phases of a node's kube-proxy pods."""
    pods = api.get(f"/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-proxy&{_on(node)}")
    return [pod["status"]["phase"] for pod in pods["items"]]


def _on(node: str) -> str:
    return f"fieldSelector=spec.nodeName%3D{node}"


def _sign_of_life(api: Api, node: str) -> str:
    lease = api.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}")
    return str(lease["spec"]["renewTime"])


def _configured(place: Place) -> bool:
    return bool(place.run("ls", "/etc/cni/net.d").strip())


def _has_rules(place: Place) -> bool:
    return "-A KUBE-SERVICES" in place.run("iptables", "-w", "-t", "nat", "-S")


def folder() -> Path:
    """Where the cluster keeps what belongs to it: below the box's own, which goes with the box."""
    return runtime.folder() / runtime.CLUSTER


def _places(data: Path) -> list[Place]:
    return [
        Place(name, IPv4Interface(f"{address}/{NETWORK.prefixlen}"), data / name)
        for name, address in ADDRESSES.items()
    ]


def ensure(log: Log) -> Path:
    """What a cluster starts from, built first where the cache has none (about ten minutes of two cores, once).

    Returns:
        the folder of the nodes' root file system.

    Raises:
        BuildError: a package could not be had, or a step of the build failed.
    """
    built, _ = _ensure(log)
    return built.root


def _ensure(log: Log) -> tuple[cluster_build.Built, Path]:
    with ThreadPoolExecutor(1) as pool:
        base = pool.submit(cluster_images.base, log)
        built = cluster_build.ensure(log)
        base.result()
    return built, cluster_images.ensure(built, cluster_images.recipes(built), log)


def up(log: Log) -> Cluster:
    """Starts the cluster in the standing box; returns it when its three nodes are Ready, at once when it is up.

    Raises:
        ClusterError: the box is down, this machine cannot, or a part did not start (which, and why).
        BuildError: a build failed.
    """
    box = runtime.running()
    if box is None:
        raise ClusterError("the box is down: `python -m provision lab up` starts it")
    return begin(box.holder, folder(), log)


def begin(holder: Holder, data: Path, log: Log) -> Cluster:
    """As :func:`up`, in the namespaces of `holder`, which has a network `upstream`, with its files in `data`."""
    with _lock():
        if cluster := _find(holder, data):
            return cluster
        built, store = _ensure(log)
        clear(holder, data)
        data.mkdir(parents=True)
        places, timeline = _places(data), cluster_start.Timeline(log)
        try:
            cluster_start.furnish(data, places, PODS, SERVICES)
            cluster_nodes.wire(holder, ROUTER, places)
            cluster_nodes.start(holder, built, store, places)
            timeline.reached("three nodes")
            cluster = Cluster(holder, data)
            with cluster._api() as api:
                cluster_start.start(api, places, PODS, SERVICES, timeline)
        except BaseException as error:
            _keep_logs(data)
            clear(holder, data)
            if isinstance(error, BoxError):
                raise ClusterError(f"{error} (logs kept in {kept_logs()})") from None
            raise
        (data / "status.json").write_text(
            json.dumps({"holder": holder.init, "timeline": timeline.at}, indent=1)
        )
        return cluster


def running() -> Cluster | None:
    """The cluster, if it is up."""
    box = runtime.running()
    return _find(box.holder, folder()) if box else None


def _find(holder: Holder, data: Path) -> Cluster | None:
    living = all(place.pid is not None for place in _places(data))
    return Cluster(holder, data) if living and (data / "status.json").exists() else None


def down() -> bool:
    """Ends the cluster and all that is in it; returns whether there was one. The box stands on."""
    box = runtime.running()
    with _lock():
        return clear(box.holder if box else None, folder())


def clear(holder: Holder | None, data: Path) -> bool:
    """Ends what lives of a cluster, and takes its networks, cgroups and files away."""
    was = cluster_nodes.end(_places(data)) or data.exists()
    if holder:
        cluster_nodes.unwire(holder, list(ADDRESSES))
    left = cluster_cgroups.remove(cluster_cgroups.name_of(data))
    shutil.rmtree(data, ignore_errors=True)
    if left:
        raise ClusterError(f"cgroups of the cluster could not be removed: {', '.join(map(str, left))}")
    return was


def kept_logs() -> Path:
    """The nodes' logs of the last start that failed."""
    return state() / "failed-cluster"


def _keep_logs(data: Path) -> None:
    shutil.rmtree(kept_logs(), ignore_errors=True)
    for place in _places(data):
        if (place.data / "log").is_dir():
            shutil.copytree(
                place.data / "log", kept_logs() / place.name, symlinks=True, ignore_dangling_symlinks=True
            )


@contextmanager
def _lock() -> Iterator[None]:
    """One start or end at a time; waits for the other."""
    state().mkdir(parents=True, exist_ok=True)
    with (state() / "cluster.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
