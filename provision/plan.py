"""The steps from what a cloud has to what a topology asks for: only the difference becomes a step."""

from __future__ import annotations

from openstack.exceptions import raise_from_response

from provision.draft import Draft
from provision.guests import Guests
from provision.holdings import Holdings, holdings
from provision.plan_hosts import plan_floating_ip, plan_keypair, plan_ports, plan_server
from provision.plan_networks import plan_group, plan_network, plan_rules
from provision.plan_routers import plan_router

LOOK = "look at what was made"
COLLECTIONS = {"network": "networks", "router": "routers", "security group": "security-groups"}


def plan(draft: Draft, key_public: str, within: float) -> None:
    """Adds every step that is needed.

    Args:
        within: seconds that a server has to become ACTIVE.

    Raises:
        Refused: what stands cannot be changed into what is asked.
        CloudError: something that the topology names is not on the cloud.
    """
    topology, guests = draft.topology, Guests(draft.cloud, draft.mark, draft.graph.cancelled)
    for network in topology.internal_networks:
        plan_network(draft, network)
    for group in topology.security_groups:
        plan_group(draft, group)
    plan_keypair(draft, key_public)
    for network in topology.internal_networks:
        plan_ports(draft, network.name)
    for group in topology.security_groups:
        plan_rules(draft, group)
    for router in topology.routers:
        plan_router(draft, router)
    # Boots take longest, and on a cloud with few processors they take all of them: five servers asked for first made
    # the routers' legs take 12 s each in place of 3, and the whole 40 s in place of 23.
    ways = [step for step in draft.graph.names() if step.startswith(("router ", "leg "))]
    for host in topology.hosts:
        plan_server(draft, host, guests, within, after=ways)
    for host in topology.hosts:
        plan_floating_ip(draft, host)
    _afterwards(draft)


def _afterwards(draft: Draft) -> None:
    """What nothing hangs on: tags (a call each), and a look at all of it while the guests boot."""
    if draft.untagged:
        tagged = [f"{kind} {name}" for kind, name in draft.untagged]
        draft.step("tags", lambda: _tag(draft), cost="tags", after=tagged)
    before = [step for step in draft.graph.names() if not step.endswith(" ACTIVE")]
    if before:
        draft.step(LOOK, lambda: holdings(draft.cloud, draft.mark), cost="look", after=before)


def _tag(draft: Draft) -> None:
    for kind, name in draft.untagged:
        path = f"/{COLLECTIONS[kind]}/{draft.ids[kind, name]}/tags"
        raise_from_response(draft.cloud.api.network.put(path, json={"tags": draft.mark.tags}))


def result(draft: Draft) -> Holdings:
    """What there is, once the steps have run."""
    seen: Holdings = draft.graph.results.get(LOOK, draft.have)
    return seen
