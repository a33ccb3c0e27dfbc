"""Objective 12: the service follows the vehicle from one PoP to the other, and goes on answering."""

from __future__ import annotations

import pytest

from probes.observation import Unproven
from probes.steady import breaches

ENOUGH = 20


def sla(cluster_part):
    return {"max_lost": cluster_part.max_lost, "max_latency_ms": cluster_part.max_latency_ms}


def measured(course):
    """Refuses to judge a course with too few requests, or one that was broken before anything moved."""
    few = {
        phase: len(course.of(phase))
        for phase in ("before", "during", "after")
        if len(course.of(phase)) < ENOUGH
    }
    if few:
        raise Unproven(f"fewer than {ENOUGH} requests were made: {few}")


@pytest.mark.acts
@pytest.mark.claim("K8S-09")
def test_a_rolling_move_keeps_the_sla(moves, nodes, cluster_part):
    """While it moves from space_1 to space_2 a client loses no more requests, and waits no longer, than agreed."""
    course = moves.rolling
    measured(course)
    found = breaches(course, **sla(cluster_part))
    assert not found, "the move breaks the SLA: " + "; ".join(found)
    pops = {node["metadata"]["name"]: node["metadata"].get("labels", {}).get("PoP") for node in nodes}
    for phase, pop in (("before", "space_1"), ("after", "space_2")):
        # an application of the lab's own need not say who answers
        by = {pops.get(server.split()[0]) for server in course.servers(phase)}
        assert by <= {pop}, f"{phase} the move {by} answered, not {pop} alone: {dict(course.servers(phase))}"


@pytest.mark.acts
@pytest.mark.claim("K8S-09")
def test_a_naive_move_breaks_the_sla(moves, cluster_part):
    """Deleted and made anew elsewhere, the service loses requests: the client sees what a move costs."""
    course = moves.naive
    measured(course)
    if before := [each.lost for each in course.of("before") if each.lost]:
        raise Unproven(f"requests were lost before anything moved: {before[:3]}")
    found = breaches(course, **sla(cluster_part))
    assert found, f"nothing is seen of a service that was away: {len(course.requests)} requests, none lost"
    assert [each for each in course.of("during") if each.lost], f"no request was lost while it moved: {found}"
