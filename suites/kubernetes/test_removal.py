"""Objective 12: what is deleted is gone."""

from __future__ import annotations

import pytest

from probes.hello import hello
from probes.reach import not_reached, ping

NODE_PORT = "fastapi-app-nodeport-service"


@pytest.mark.acts
@pytest.mark.removes
@pytest.mark.claim("K8S-08")
def test_a_deleted_deployment_leaves_nothing(
    application,
    second_app,
    nowhere_app,
    moving_app,
    deleted_deployments,
    pods_of,
    service,
    desktop,
    node_addresses,
):
    """Each deployment deleted: no replica set, no pod, no endpoint of it is left, and nobody answers at its port."""
    deployments = {"fastapi-app", "space-2", "space-3", "moving-app"}
    assert deployments <= set(deleted_deployments), (
        f"there was no deployment {', '.join(deployments - set(deleted_deployments))} to delete"
    )
    left = {name: rest for name, rest in deleted_deployments.items() if rest}
    assert not left, f"left behind: {left}"
    for name in sorted(deployments):
        assert not pods_of(name), f"pods of {name} are back"
    found = service(NODE_PORT)
    assert not found.endpoints, f"the service still has endpoints: {', '.join(found.endpoints)}"
    addresses = node_addresses.values()
    not_reached(
        *(hello(desktop, address, found.node_port) for address in addresses),
        alive=[ping(desktop, address) for address in addresses],
    )
