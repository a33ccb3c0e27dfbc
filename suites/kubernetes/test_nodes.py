"""Objective 12: the cluster's nodes, what they must be set to, and the system's own pods."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface

import pytest

from probes.observation import Unproven
from probes.reach import fact, facts
from provision.kubernetes_findings import PROXY, condition, is_ready, labels_of, name_of

CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
FORWARDING = (
    "net.ipv4.ip_forward",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
)


def runs_control_plane(node):
    return any(label in labels_of(node) for label in CONTROL_PLANE)


def on_every_node(inside_nodes, text):
    """What a command says on every node: name -> observation; all at once."""
    seen = facts(*(fact(host, text) for host in inside_nodes.values()))
    return dict(zip(inside_nodes, seen, strict=True))


@pytest.mark.claim("K8S-01")
def test_three_nodes_one_control_plane_and_two_workers(nodes):
    """The API lists three nodes: one has the control plane's role, two have not."""
    masters = [name_of(node) for node in nodes if runs_control_plane(node)]
    workers = [name_of(node) for node in nodes if not runs_control_plane(node)]
    assert (len(masters), len(workers)) == (1, 2), (
        f"control plane: {masters or 'none'}; workers: {workers or 'none'}"
    )


@pytest.mark.claim("K8S-01")
def test_every_node_is_ready_while_the_network_plugin_runs(nodes, heartbeats, system_pods, cluster_part):
    """Every node is Ready, its kubelet gives signs of life, and a pod of the network plug-in is Ready on it."""
    silent = [name for name, seconds in heartbeats.items() if seconds is None]
    assert not silent, f"the kubelet gives no sign of life on {', '.join(silent)}: its lease is not renewed"
    wrong = [
        f"{name_of(node)}: {condition(node, 'Ready').get('message')}" for node in nodes if not is_ready(node)
    ]
    assert not wrong, f"NotReady: {'; '.join(wrong)}"
    without = nodes_without(cluster_part.network_plugin, nodes, system_pods)
    assert not without, f"no pod of {cluster_part.network_plugin} is Ready on {', '.join(without)}"


@pytest.mark.claim("K8S-02")
def test_swap_is_off_on_every_node(inside_nodes):
    """No node swaps: /proc/swaps lists nothing."""
    seen = on_every_node(inside_nodes, "cat /proc/swaps")
    swapping = {name: each.output.splitlines()[1:] for name, each in seen.items() if swaps(each)}
    assert not swapping, f"swap is on: {swapping}"


def swaps(seen):
    if not seen.output.startswith("Filename"):
        raise Unproven(f"it cannot be read whether the node swaps: {seen}")
    return len(seen.output.splitlines()) > 1


@pytest.mark.claim("K8S-02")
def test_every_node_has_overlay_and_br_netfilter(inside_nodes):
    """The kernel of every node has the overlay file system and the bridges' packet filter."""
    seen = on_every_node(
        inside_nodes,
        "grep -qw overlay /proc/filesystems && echo overlay; test -d /proc/sys/net/bridge && echo br_netfilter; true",
    )
    missing = {
        name: sorted({"overlay", "br_netfilter"} - set(each.output.split()))
        for name, each in seen.items()
        if set(each.output.split()) != {"overlay", "br_netfilter"}
    }
    assert not missing, f"missing: {missing}"


@pytest.mark.claim("K8S-02")
def test_every_node_forwards_and_filters_what_it_bridges(inside_nodes):
    """ip_forward, bridge-nf-call-iptables and bridge-nf-call-ip6tables are 1 on every node."""
    files = " ".join(f"/proc/sys/{name.replace('.', '/')}" for name in FORWARDING)
    seen = on_every_node(inside_nodes, f"cat {files}")
    wrong = {
        name: dict(zip(FORWARDING, each.output.split(), strict=False))
        for name, each in seen.items()
        if each.output.split() != ["1", "1", "1"]
    }
    assert not wrong, f"not all are 1: {wrong}"


@pytest.mark.claim("K8S-02")
def test_kubelet_and_runtime_agree_on_the_cgroup_driver(inside_nodes, cgroup_drivers, cluster_part):
    """kubelet and containerd use the cgroup driver that the lab is to have (systemd, unless its file says otherwise)."""
    wanted = cluster_part.cgroup_driver
    runtimes = on_every_node(
        inside_nodes, "sudo -n containerd config dump 2>/dev/null || containerd config dump"
    )
    seen = {name: (cgroup_drivers[name], runtime_driver(each)) for name, each in runtimes.items()}
    wrong = {name: drivers for name, drivers in seen.items() if drivers != (wanted, wanted)}
    assert not wrong, f"kubelet's and containerd's driver are not both {wanted}: {wrong}"


def runtime_driver(seen):
    """The cgroup driver of containerd's runc (CRI plug-in, ``SystemdCgroup``)."""
    lines = [line.partition("=")[2].strip() for line in seen.output.splitlines() if "SystemdCgroup" in line]
    if not lines:
        raise Unproven(f"containerd's configuration cannot be read: {seen}")
    return "systemd" if "true" in lines else "cgroupfs"


@pytest.mark.claim("K8S-02")
def test_every_nodes_ip_is_of_the_nodes_own_network(nodes, inside_nodes):
    """Every node's InternalIP is on one of its interfaces, and the nodes' InternalIPs are of one network."""
    seen = on_every_node(inside_nodes, "ip -4 -o address show scope global")
    networks = {}
    for node in nodes:
        name = name_of(node)
        internal = next(
            each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP"
        )
        words = [line.split()[3] for line in seen[name].output.splitlines() if len(line.split()) > 3]
        own = [each for each in map(IPv4Interface, words) if each.ip == IPv4Address(internal)]
        assert own, f"{name} has no interface with its node-ip {internal}: {', '.join(words)}"
        networks[name] = str(own[0].network)
    assert len(set(networks.values())) == 1, f"the nodes' addresses are of several networks: {networks}"


@pytest.mark.claim("K8S-03")
def test_the_systems_pods_run(nodes, system_pods, cluster_part):
    """The control plane's four pods, kube-proxy and the network plug-in on each node, and the name service are Running."""
    missing = []
    for node in nodes:
        if runs_control_plane(node):
            missing += [
                f"{component} on {name_of(node)}"
                for component in COMPONENTS
                if name_of(node) not in nodes_with(component, system_pods)
            ]
    for everywhere in (PROXY, cluster_part.network_plugin):
        missing += [f"{everywhere} on {name}" for name in nodes_without(everywhere, nodes, system_pods)]
    if cluster_part.dns and not nodes_with(cluster_part.dns, system_pods):
        missing.append(cluster_part.dns)
    assert not missing, f"not Running: {', '.join(missing)}"


def nodes_with(name, pods):
    """The nodes on which a pod whose name begins or goes on so is Running and Ready."""
    return {
        pod["spec"].get("nodeName")
        for pod in pods
        if name in name_of(pod) and pod["status"].get("phase") == "Running" and is_ready(pod)
    }


def nodes_without(name, nodes, pods):
    return sorted({name_of(node) for node in nodes} - nodes_with(name, pods))
