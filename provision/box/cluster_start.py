"""How the cluster starts: what each node is given, and in which order its parts are started.

What takes long at a cluster's start is not work but waiting: a part that asks the API before it answers waits ever
longer before it asks again. So whatever needs the API is started when it answers.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from string import Template
from typing import Any

from provision.box import cluster_images, cluster_keys, cluster_nodes
from provision.box.cluster_api import PORT, Api, ready
from provision.box.cluster_nodes import ClusterError, Place
from provision.box.command import Log

SCRIPTS = cluster_nodes.SCRIPTS
SYSTEM = "/apis/apps/v1/namespaces/kube-system/daemonsets"
RUNTIME_LIMIT = 60.0
API_LIMIT = 180.0
READY_LIMIT = 180.0
APPLY_LIMIT = 60.0
NODE_PREFIX = 24
FIRST = ("etcd", "kube-apiserver")
THEN = ("kube-controller-manager", "kube-scheduler")
ADDONS = ("kube-proxy", "labproof-cni")
LABELS = {"worker1": {"PoP": "space_1"}, "worker2": {"PoP": "space_2"}}


@dataclass
class Timeline:
    """When each part was there, in seconds from the beginning; told as it comes."""

    log: Log
    began: float = field(default_factory=time.monotonic)
    at: dict[str, float] = field(default_factory=dict)

    def reached(self, what: str) -> None:
        self.at[what] = round(time.monotonic() - self.began, 2)
        self.log(f"{what} after {self.at[what]:.1f} s")


def values(master: Place, pods: IPv4Network, services: IPv4Network) -> dict[str, str]:
    """What is put into the templates."""
    return {
        "MASTER": str(master.address.ip),
        "PODS": str(pods),
        "SERVICES": str(services),
        "PAUSE": cluster_images.PAUSE,
        "PLUGIN": cluster_images.PLUGIN,
        "ETCD": cluster_images.ETCD,
        "KUBE_PROXY": cluster_images.kubernetes("kube-proxy"),
        "KUBE_APISERVER": cluster_images.kubernetes("kube-apiserver"),
        "KUBE_CONTROLLER_MANAGER": cluster_images.kubernetes("kube-controller-manager"),
        "KUBE_SCHEDULER": cluster_images.kubernetes("kube-scheduler"),
    }


def furnish(data: Path, places: Sequence[Place], pods: IPv4Network, services: IPv4Network) -> None:
    """Writes what each node finds in its /etc, and the administrator's keys and kubeconfig.

    Args:
        places: the control plane's first.
    """
    master = places[0]
    put_in = values(master, pods, services)
    authority = cluster_keys.Authority()
    server = f"https://{master.address.ip}:{PORT}"
    for place in places:
        etc = place.data / "etc"
        (etc / "containerd").mkdir(parents=True)
        own = etc / "kubernetes"
        cluster_keys.write_node(own, authority, place.name, place.address.ip, server)
        (own / "manifests").mkdir()
        (own / "kubelet.yaml").write_text(render("kubelet.yaml", put_in))
        (own / "kubelet.options").write_text("\n".join(_options(place, place is master)) + "\n")
        (etc / "containerd/config.toml").write_text(render("containerd.toml", put_in))
        known = "".join(f"{each.address.ip} {each.name}\n" for each in places)
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
        (etc / "hostname").write_text(f"{place.name}\n")
    own = master.data / "etc/kubernetes"
    addresses = [master.address.ip, services[1]]
    cluster_keys.write_control_plane(own, authority, master.name, addresses, server)
    for part in FIRST:
        (own / "manifests" / f"{part}.yaml").write_text(render(f"static/{part}.yaml", put_in))
    (own / "later").mkdir()
    for part in THEN:
        (own / "later" / f"{part}.yaml").write_text(render(f"static/{part}.yaml", put_in))
    admin = authority.issue("kubernetes-admin", cluster_keys.ADMINISTRATORS)
    kubeconfig = authority.kubeconfig(server, admin, "kubernetes-admin")
    cluster_keys.private(data / "admin.conf", kubeconfig)
    cluster_keys.private(own / "admin.conf", kubeconfig)
    cluster_keys.private(data / "ca.crt", authority.certificate)
    cluster_keys.private(data / "admin.crt", admin.certificate)
    cluster_keys.private(data / "admin.key", admin.key)


def render(name: str, put_in: dict[str, str]) -> str:
    return Template((SCRIPTS / name).read_text()).substitute(put_in)


def _options(place: Place, control_plane: bool) -> list[str]:
    options = [
        "--config=/etc/kubernetes/kubelet.yaml",
        "--kubeconfig=/etc/kubernetes/kubelet.conf",
        "--container-runtime=remote",
        "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
        f"--hostname-override={place.name}",
        f"--node-ip={place.address.ip}",
        f"--pod-infra-container-image={cluster_images.PAUSE}",
    ]
    if control_plane:
        options.append("--register-with-taints=node-role.kubernetes.io/master=:NoSchedule")
    labels = LABELS.get(place.name)
    if labels:
        options.append(f"--node-labels={','.join(f'{key}={value}' for key, value in labels.items())}")
    return options


def start(
    api: Api, places: Sequence[Place], pods: IPv4Network, services: IPv4Network, timeline: Timeline
) -> None:
    """Starts runtimes, control plane, kubelets, kube-proxy and the network plug-in on nodes that have been made.

    Returns when all nodes are Ready, and kube-proxy and the plug-in run on each.

    Raises:
        ClusterError: a part did not come in time; says which.
    """
    master, workers, put_in = places[0], places[1:], values(places[0], pods, services)
    with ThreadPoolExecutor(len(places)) as pool:
        list(pool.map(lambda place: place.service("start", "containerd"), places))
        _runtime(master)
        timeline.reached("the control plane's container runtime")
        master.service("start", "kubelet")
        api.until("its API answers", lambda: api.get("/readyz") == "ok", API_LIMIT)
        timeline.reached("the API")
        beginning = [pool.submit(_join, worker) for worker in workers]
        beginning.append(pool.submit(_complete, master))
        apply(master, render("addons.yaml", put_in), render("plugin.yaml", put_in))
        for each in beginning:
            each.result()
    timeline.reached("kubelets started")
    for place, network in zip(places, pods.subnets(new_prefix=NODE_PREFIX), strict=False):
        told = {"spec": {"podCIDR": str(network), "podCIDRs": [str(network)]}}
        path = f"/api/v1/nodes/{place.name}"
        api.until(f"{place.name} is known", partial(_patched, api, path, told), 60)
    timeline.reached("three nodes known")
    roles = {f"node-role.kubernetes.io/{role}": "" for role in ("control-plane", "master")}
    api.patch(f"/api/v1/nodes/{master.name}", {"metadata": {"labels": roles}})
    wait_ready(api, len(places))
    timeline.reached("three nodes Ready")
    for name in ADDONS:
        api.until(f"{name} runs on each node", partial(everywhere, api, name, len(places)), 60)
    timeline.reached("kube-proxy and the plug-in on each node")


def _patched(api: Api, path: str, change: dict[str, Any]) -> bool:
    api.patch(path, change)
    return True


def _join(worker: Place) -> None:
    _runtime(worker)
    worker.service("start", "kubelet")


def _complete(master: Place) -> None:
    """The rest of the control plane, and a kubelet that asks the API now: it would wait for long to ask again."""
    master.run("sh", "-c", "mv /etc/kubernetes/later/* /etc/kubernetes/manifests/")
    master.service("stop", "kubelet")
    master.service("start", "kubelet")


def _runtime(place: Place) -> None:
    """Waits until a node's containerd answers."""
    end = time.monotonic() + RUNTIME_LIMIT
    while True:
        path = f"/proc/{place.pid}/root/run/containerd/containerd.sock"
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
            return
        except OSError as error:
            if time.monotonic() > end:
                raise ClusterError(
                    f"{place.name}: containerd does not answer within {RUNTIME_LIMIT:.0f} s: {error}"
                ) from None
        time.sleep(0.02)


def apply(master: Place, *documents: str) -> None:
    """`kubectl apply` of YAML documents, on the control plane's node; again where the API was too busy to answer.

    Raises:
        ClusterError: the API refused one, or did not answer for a minute.
    """
    text = "\n---\n".join(documents)
    # the API would be asked for the whole of its schema, to check what is ours
    argv = ("kubectl", "apply", "--validate=false", "-f", "-")
    end = time.monotonic() + APPLY_LIMIT
    while True:
        try:
            master.run(*argv, stdin=text)
        except ClusterError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
        else:
            return


def nodes(api: Api) -> list[dict[str, Any]]:
    """The nodes, as the API has them."""
    found: list[dict[str, Any]] = api.get("/api/v1/nodes")["items"]
    return found


def wait_ready(api: Api, count: int, *, wanted: bool = True, within: float = READY_LIMIT) -> None:
    """Waits until `count` nodes are Ready (or, with ``wanted=False``, until that many are not).

    Raises:
        ClusterError: they were not in time.
    """
    word = "Ready" if wanted else "NotReady"

    def holds() -> bool:
        return sum(ready(node) == wanted for node in nodes(api)) == count

    api.until(f"{count} nodes are {word}", holds, within)


def everywhere(api: Api, name: str, count: int) -> bool:
    """Whether a DaemonSet of kube-system is ready on so many nodes."""
    status = api.get(f"{SYSTEM}/{name}")["status"]
    return bool(status.get("numberReady", 0) == count)
