"""Objective 12: without its network plug-in a node is not Ready."""

from __future__ import annotations

import pytest

from probes.observation import Unproven
from provision.kubernetes_findings import condition, is_ready, name_of

NETWORK = ("cni", "network plugin", "networkplugin")


@pytest.mark.acts
@pytest.mark.claim("K8S-01")
def test_without_the_network_plugin_no_node_is_ready(without_plugin):
    """The plug-in taken away, every node is NotReady for want of it, kubelets alive; put back, all are Ready again."""
    dead = [
        name_of(node) for node in without_plugin.away if condition(node, "Ready").get("status") == "Unknown"
    ]
    if dead:
        raise Unproven(
            f"the kubelet of {', '.join(dead)} does not answer: it is not the network that makes it NotReady"
        )
    ready = [name_of(node) for node in without_plugin.away if is_ready(node)]
    assert not ready, f"Ready without a network plug-in: {', '.join(ready)}"
    for node in without_plugin.away:
        said = condition(node, "Ready").get("message", "")
        assert any(word in said.lower() for word in NETWORK), (
            f"{name_of(node)} is NotReady for another reason: {said}"
        )
    late = [
        f"{name_of(node)}: {condition(node, 'Ready').get('message')}"
        for node in without_plugin.back
        if not is_ready(node)
    ]
    assert not late, f"NotReady with the plug-in back: {'; '.join(late)}"
