"""The ``[kubernetes]`` part of a lab file: the cluster, how its nodes are entered, and what is agreed of its service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from provision import tables
from provision.tables import Key, Table

CGROUP_DRIVERS = ("systemd", "cgroupfs")
PREFIX = "kubernetes_"


@dataclass(frozen=True)
class Kubernetes:
    """A cluster, as the lab file states it.

    Attributes:
        kubeconfig: the file; None for ``KUBECONFIG``, or ``~/.kube/config``. The embedded lab has its own.
        context: entry of it; None for its current one.
        images: an image's name in ``labs/kubernetes/`` -> the cluster's; a name not here stands for itself.
        application: image of an application of the lab's own, which answers on port 5000, in place of the project's
            (that is put into a Python image by a ConfigMap).
        network_plugin: how the DaemonSet of the network plug-in is named, in part.
        may_remove_network_plugin: whether the nodes' network may be taken away for a moment (K8S-01).
        dns: how the pods of the cluster's name service are named, in part; empty where there is none.
        cgroup_driver: of kubelet and container runtime.
        enter_nodes: whether the nodes can be entered: over SSH as ``login`` with ``ssh_key``.
        addresses: a node's name -> the address by which it is reached from where the suites run; without it the
            node's ExternalIP, or else InternalIP.
        max_lost: of the SLA: requests that may be lost while the service moves.
        max_latency_ms: of the SLA: milliseconds that no answer may take, before, during and after.
        ready_seconds: how long pods may take to be Ready, images pulled.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    application: str | None = None
    network_plugin: str = "calico"
    may_remove_network_plugin: bool = False
    dns: str = "coredns"
    cgroup_driver: str = "systemd"
    enter_nodes: bool = False
    login: str = "user"
    ssh_key: Path | None = None
    addresses: Mapping[str, IPv4Address] = field(default_factory=dict)
    max_lost: int = 0
    max_latency_ms: int = 1000
    ready_seconds: int = 120

    @classmethod
    def taken_from(cls, values: dict[str, Any]) -> Kubernetes:
        """Takes what :data:`KUBERNETES` has read out of a lab file's values."""
        mine = [key for key in values if key.startswith(PREFIX)]
        return cls(**{key.removeprefix(PREFIX): values.pop(key) for key in mine})


def _addresses(value: Any, source: Path) -> dict[str, IPv4Address]:
    if not isinstance(value, Mapping):
        raise ValueError('must be a table, node = "address"')
    found = {}
    for name, item in value.items():
        try:
            found[name] = tables.address(item, source)
        except ValueError as error:
            raise ValueError(f"{name!r} {error}") from None
    return found


def _text_or_none(value: Any, source: Path) -> str:
    return "" if value == "" else tables.text(value, source)


def _key(name: str, read: tables.Reader) -> Key:
    return Key(f"{PREFIX}{name}", read)


KUBERNETES: Table = {
    "kubeconfig": _key("kubeconfig", tables.file),
    "context": _key("context", tables.text),
    "application": _key("application", tables.text),
    "images": _key("images", tables.names),
    "network_plugin": _key("network_plugin", tables.text),
    "may_remove_network_plugin": _key("may_remove_network_plugin", tables.flag),
    "dns": _key("dns", _text_or_none),
    "cgroup_driver": _key("cgroup_driver", tables.one_of(CGROUP_DRIVERS)),
    "ready_seconds": _key("ready_seconds", tables.at_least(1)),
    "addresses": _key("addresses", _addresses),
    "nodes": {
        "enter": _key("enter_nodes", tables.flag),
        "login": _key("login", tables.text),
        "ssh_key": _key("ssh_key", tables.file),
    },
    "sla": {
        "max_lost": _key("max_lost", tables.at_least(0)),
        "max_latency_ms": _key("max_latency_ms", tables.at_least(1)),
    },
}
