"""Objective 11, the end: the removal of what one JSON document made leaves nothing."""

from __future__ import annotations

import pytest


@pytest.mark.acts
@pytest.mark.removes
@pytest.mark.claim("TOP-10")
def test_removing_the_topology_leaves_nothing(two_networks, remove):
    """Networks, routers, servers, ports, floating IPs and security groups of the two networks are gone."""
    left = remove(two_networks)
    assert not left, "left behind:\n" + "\n".join(str(thing) for thing in left)
