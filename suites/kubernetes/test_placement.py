"""Objective 12: the nodes' PoP labels say where the application's pods land."""

from __future__ import annotations

import pytest

from probes.observation import Unproven
from provision.kubernetes_findings import UNSCHEDULABLE, condition, is_ready, labels_of, name_of


def lands_on(pods, nodes, pop):
    """Asserts that every pod runs, and on a node labelled with the PoP."""
    pops = {name_of(node): labels_of(node).get("PoP", "none") for node in nodes}
    assert pods, "there is no pod"
    waiting = [name_of(pod) for pod in pods if not is_ready(pod)]
    assert not waiting, f"not Ready: {', '.join(waiting)}"
    elsewhere = {
        name_of(pod): f"{pod['spec'].get('nodeName')} (PoP={pops.get(pod['spec'].get('nodeName'))})"
        for pod in pods
        if pops.get(pod["spec"].get("nodeName")) != pop
    }
    assert not elsewhere, f"not on a node labelled PoP={pop}: {elsewhere}"


@pytest.mark.acts
@pytest.mark.claim("K8S-05")
def test_pods_for_the_first_pop_land_there(application, pods_of, nodes):
    """fastapi-app asks for PoP=space_1: its three pods run on nodes labelled so."""
    pods = pods_of("fastapi-app")
    assert len(pods) == 3, f"fastapi-app has {len(pods)} pods"
    lands_on(pods, nodes, "space_1")


@pytest.mark.acts
@pytest.mark.claim("K8S-05")
def test_pods_for_the_second_pop_land_there(second_app, pods_of, nodes):
    """space-2 asks for PoP=space_2 by affinity: its pod runs on a node labelled so."""
    lands_on(pods_of("space-2"), nodes, "space_2")


@pytest.mark.acts
@pytest.mark.claim("K8S-05")
def test_pods_for_a_pop_that_no_node_has_stay_pending(nowhere_app, second_app, pods_of, nodes):
    """space-3 asks for PoP=space_3: its pod is Pending and says why, while the same application runs at space_2."""
    if any(labels_of(node).get("PoP") == "space_3" for node in nodes):
        raise Unproven("a node is labelled PoP=space_3, which none should have")
    lands_on(pods_of("space-2"), nodes, "space_2")
    assert nowhere_app, "space-3 has no pod"
    for pod in [*nowhere_app, *pods_of("space-3")]:
        assert pod["status"]["phase"] == "Pending", f"{name_of(pod)} is {pod['status']['phase']}"
        assert not pod["spec"].get("nodeName"), f"{name_of(pod)} is on {pod['spec']['nodeName']}"
        scheduled = condition(pod, "PodScheduled")
        assert scheduled.get("reason") == UNSCHEDULABLE, f"{name_of(pod)} does not say why: {scheduled}"
        said = scheduled.get("message", "")
        assert "node" in said and ("match" in said or "affinity" in said), (
            f"it waits for something else: {said}"
        )
