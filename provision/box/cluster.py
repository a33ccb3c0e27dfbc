"""The embedded lab's Kubernetes cluster: three real nodes in namespaces of the standing box.

    desktop 10.1.5.89 --- campus --- upstream 12.7.5.1 --- cluster network 12.7.5.0/24
                                                             master .47   worker1 .118   worker2 .90

Everything of it is below the box's process 1 and ends with it. The desktop reaches the nodes' addresses;
it has no way to services' addresses (10.96.0.0/12) nor to pods' (172.16.0.0/16), which the nodes alone know.
The control plane runs as static pods, kube-proxy and the network plug-in as DaemonSets in kube-system.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from probes.host import Host
from provision.box.command import Log
from provision.box.namespaces import BoxError, Holder

NETWORK = IPv4Network("12.7.5.0/24")
PODS = IPv4Network("172.16.0.0/16")
SERVICES = IPv4Network("10.96.0.0/12")
ADDRESSES = {
    "master": IPv4Address("12.7.5.47"),
    "worker1": IPv4Address("12.7.5.118"),
    "worker2": IPv4Address("12.7.5.90"),
}
"""The nodes' names and InternalIPs; the first is the control plane."""
PLUGIN = "labproof-cni"
"""The network plug-in's DaemonSet, container and image, in kube-system: bridge, host-local and routes between the nodes."""
APP = "labproof/hello:1"
"""The application's image: Python 3, and the service in it; on every node from the start."""
CLIENT = "labproof/client:1"
"""The test pods' image: curl, a shell, getent, ip; on every node from the start."""


class ClusterError(BoxError):
    """The cluster could not be started, changed or ended: what was tried, what came back, what to do."""


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
        """The node as a place to look at (closed by the caller); as on a real one, `kubectl` and `crictl` are on its PATH."""
        raise NotImplementedError


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
        """By name: master, worker1, worker2."""
        raise NotImplementedError

    def cni_off(self) -> None:
        """Takes the network plug-in away, its configuration on the nodes too; returns when all nodes are NotReady.

        Raises:
            ClusterError: it did not come to that within 60 s.
        """
        raise NotImplementedError

    def cni_on(self) -> None:
        """Puts the network plug-in back; returns when all nodes are Ready. Does nothing where it is there.

        Raises:
            ClusterError: they were not Ready within 60 s.
        """
        raise NotImplementedError

    def stop_kubelet(self, node: str) -> None:
        """Ends a node's kubelet; returns when it has ended (the API shows the node NotReady some 15 s later).

        The node's containers go on running.
        """
        raise NotImplementedError

    def start_kubelet(self, node: str) -> None:
        """Starts a node's kubelet again; returns when the node is Ready."""
        raise NotImplementedError

    def stop_proxy(self, node: str) -> None:
        """Takes kube-proxy off a node, and its rules out of the node's packet filter, as on a node where it never ran."""
        raise NotImplementedError

    def start_proxy(self, node: str) -> None:
        """Puts kube-proxy back on a node; returns when it runs and has written its rules."""
        raise NotImplementedError

    def load_image(self, tar: Path) -> tuple[str, ...]:
        """Imports an image (``docker save`` or OCI archive) on every node; returns the names that it brought.

        Raises:
            ClusterError: the archive is not one, or a node did not take it.
        """
        raise NotImplementedError


def ensure(log: Log) -> Path:
    """What a cluster starts from, built first where the cache has none (about ten minutes of two cores, once).

    Returns:
        the folder of the nodes' root file system.

    Raises:
        CommandError: a package could not be had, or a step of the build failed.
    """
    raise NotImplementedError


def up(log: Log) -> Cluster:
    """Starts the cluster in the standing box; returns it when its three nodes are Ready, at once when it is up.

    Raises:
        ClusterError: the box is down, this machine cannot, or a part did not start (which, and why).
        CommandError: a build failed.
    """
    raise NotImplementedError


def running() -> Cluster | None:
    """The cluster, if it is up."""
    raise NotImplementedError


def down() -> bool:
    """Ends the cluster and all that is in it; returns whether there was one. The box stands on."""
    raise NotImplementedError
