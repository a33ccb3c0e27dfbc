"""Objectives 10 and 11: two private networks, two routers, and the static route between them."""

from __future__ import annotations

import re

import pytest

from probes.observation import Unproven
from probes.reach import command, not_reached, ping, reached

SERVICES = ("sum", "sub", "mul", "div")
# a reply's TTL is what is left of the 64 that Linux sends with (RFC 1700): each router on the way takes one
ONE_ROUTER, NO_ROUTER = 63, 64
PAIRS = [(a, b) for a in SERVICES for b in SERVICES if a != b]


@pytest.fixture
def calculator(two_networks):
    return two_networks.hosts["calculator"]


def route_of(two_networks):
    """The static route that the topology gives the calculator: destination and next hop."""
    route = two_networks.topology.host("calculator").routes[0]
    return str(route.destination), str(route.via)


@pytest.fixture(scope="module")
def looks(looked, two_networks, desktop):
    """What the checks see of the two networks as they are meant to be."""
    # one that cannot be entered is for the checks to tell that need it: the cloud's report is looked at all the same
    hosts, address = two_networks.hosts, two_networks.address

    def to_services():
        return [ping(hosts["calculator"], address(name)) for name in SERVICES]

    return looked(
        {
            "test_vms_of_the_same_network_reach_each_other": lambda: reached(
                *(ping(hosts[a], address(b)) for a, b in PAIRS)
            ),
            "test_with_the_route_it_can_one_hop_further": lambda: reached(*to_services()),
            "test_the_micro_services_vms_reach_the_calculators": lambda: reached(
                *(ping(hosts[name], address("calculator")) for name in SERVICES)
            ),
            "test_from_the_public_side_no_address_of_the_back_network_answers": lambda: not_reached(
                *(ping(desktop, address(name)) for name in SERVICES),
                alive=[ping(desktop, two_networks.floating_ip("calculator")), *to_services()],
            ),
        }
    )


@pytest.mark.acts
@pytest.mark.claim("TOP-04")
def test_before_the_route_the_calculator_cannot_reach_the_other_network(two_networks, calculator, desktop):
    """Linked though they are: without the static route on the calculator nothing of the back network answers."""
    network, via = route_of(two_networks)
    witness, target = two_networks.hosts["sum"], two_networks.address("mul")
    # while the route is away the witness cannot be spoken to; it notes on its own that the target lives
    note = "/tmp/labproof-witness"
    started = witness.run("ping -n -D -i 0.5 -c 60 %s > %s 2>&1 & echo $!", target, note)
    command(calculator, "sudo ip route del %s", network)
    try:
        from_desktop = ping(desktop, two_networks.floating_ip("calculator"))
        front_leg = ping(calculator, via)
        not_reached(
            *(ping(calculator, two_networks.address(name)) for name in SERVICES),
            alive=[front_leg, from_desktop],
        )
    finally:
        command(calculator, "sudo ip route replace %s via %s", network, via)
        witness.wait_ready(30)
        seen = command(
            witness, "kill %s; cat %s; rm -f %s", started.stdout.strip(), note, note, target=target
        )
    answered = len(re.findall(r"icmp_seq=\d+ ttl=", seen.output))
    if answered < 8:
        raise Unproven(
            f"{witness.name} had {answered} answers of {target} meanwhile: it cannot be told dead from cut off"
        )


@pytest.mark.usefixtures("looks")
@pytest.mark.claim("TOP-01")
def test_the_second_router_alone_links_the_two_networks(two_networks, inventory):
    """Front is linked to the public network by the first router; back to front by the second router alone."""
    legs = {router.name: {leg.network for leg in router.legs} for router in inventory.routers}
    gateways = {router.name for router in inventory.routers if router.external}
    assert gateways == {"RT1"}, (
        f"routers with a leg in the public network: {sorted(gateways)}; intended: RT1 alone"
    )
    assert legs["RT1"] == {"front"}, f"RT1 has legs in {sorted(legs['RT1'])}; intended: front alone"
    assert legs["RT2"] == {"front", "back"}, (
        f"RT2 has legs in {sorted(legs['RT2'])}; intended: front and back"
    )
    others = [name for name, networks in legs.items() if "back" in networks and name != "RT2"]
    assert not others, f"the back network is linked by {', '.join(others)} too"


@pytest.mark.usefixtures("looks")
@pytest.mark.claim("TOP-02")
def test_the_front_network_has_one_gateway_and_it_is_the_first_router(two_networks, inventory, calculator):
    """The second router's leg in the front network is not its gateway; the guest's default route is the first's."""
    gateway = inventory.network("front").gateway
    front = {
        r.name: [str(leg.address) for leg in r.legs if leg.network == "front"] for r in inventory.routers
    }
    assert gateway and str(gateway) in front["RT1"], (
        f"front's gateway is {gateway}; RT1 has {front['RT1']} there"
    )
    assert str(gateway) not in front["RT2"], f"RT2's leg in front is the network's gateway {gateway}"
    seen = command(calculator, "ip -4 route show default")
    vias = re.findall(r"default via (\S+)", seen.output)
    assert vias == [str(gateway)], f"the calculator's default routes are {vias}; intended: {gateway} alone"


@pytest.mark.usefixtures("looks")
@pytest.mark.claim("TOP-01")
def test_the_cloud_reports_the_intended_topology(two_networks, differences):
    """Networks, routers, legs, servers and addresses are as the document says."""
    assert not (found := differences(two_networks)), "not as intended:\n" + "\n".join(found)


@pytest.mark.claim("TOP-03")
def test_vms_of_the_same_network_reach_each_other(seen):
    """Every micro-service's VM pings every other one, directly: no router takes a hop off."""
    for (a, b), observation in zip(PAIRS, seen(), strict=True):
        ttl = observation.numbers["ttl"]
        assert ttl == NO_ROUTER, (
            f"{a} -> {b}: TTL {ttl:.0f}, so the way leads through a router; {observation}"
        )


@pytest.mark.claim("TOP-05")
def test_with_the_route_it_can_one_hop_further(two_networks, calculator, seen):
    """With the static route through the second router the VMs behind it answer, with TTL 63."""
    network, via = route_of(two_networks)
    table = command(calculator, "ip -4 route")
    assert re.search(rf"^{re.escape(network)} via {re.escape(via)} ", table.output, re.MULTILINE), (
        f"the calculator has no route to {network}; RT2's leg {via} would lead there. Its routes:\n{table.output}"
    )
    for observation in seen():
        ttl = observation.numbers["ttl"]
        assert ttl == ONE_ROUTER, f"TTL {ttl:.0f}; one router on the way leaves {ONE_ROUTER}; {observation}"


@pytest.mark.claim("TOP-06")
def test_the_micro_services_vms_reach_the_calculators(seen):
    """Every micro-service's VM pings the calculator's."""
    seen()


@pytest.mark.claim("TOP-08")
def test_from_the_public_side_no_address_of_the_back_network_answers(seen):
    """The desktop reaches the calculator's floating IP, and none of the VMs behind it."""
    seen()


@pytest.mark.acts
@pytest.mark.claim("TOP-08")
def test_a_floating_ip_for_the_back_network_is_refused(two_networks, cloud, refused):
    """No router joins the back network and the public one, so a floating IP cannot be led there."""
    refusal = refused(
        "floating IP for a VM of the back network",
        lambda: cloud.api.network.create_ip(
            floating_network_id=cloud.external_network(), port_id=two_networks.deployment.hosts["sum"].port_id
        ),
        undo=lambda ip: cloud.api.network.delete_ip(ip),
    )
    assert "not reachable" in refusal.text or refusal.status in (400, 404, 409), (
        f"refused otherwise: {refusal}"
    )


@pytest.mark.acts
@pytest.mark.claim("TOP-10")
def test_applying_the_document_again_changes_nothing(two_networks, apply_again):
    """The one JSON document is applied a second time to what stands: nothing is made, changed or removed."""
    changes = apply_again(two_networks)
    assert not changes, "the second run changed what stood:\n" + "\n".join(str(change) for change in changes)
