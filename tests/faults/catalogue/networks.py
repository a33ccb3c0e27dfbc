"""Faults of objectives 10 and 11: two networks, two routers, the static route."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from probes.reach import Probe, ping
from tests.faults.catalogue.one_vm import of_protocol, rule_removed
from tests.faults.fault import fault
from tests.faults.scopes import NETWORKS
from tests.faults.world import World

BACK, SECOND_LEG, FIRST_LEG = "30.4.5.0/24", "20.4.5.4", "20.4.5.1"
BEYOND = "TOP-03 TOP-06 TOP-08"
"""What is seen from the micro-services' VMs, which are entered through the calculator's."""


def _beyond(world: World) -> Probe:
    """Ping from the calculator's VM to one behind the second router."""
    two = world.standing("two-networks")
    return ping(two.hosts["calculator"], two.address("sum"))


@contextmanager
def _other_route(world: World, wrong: str) -> Iterator[None]:
    """Takes the calculator's static route away, and puts another in its place ("" for none)."""
    two = world.standing("two-networks")
    calculator, meant = two.hosts["calculator"], two.topology.host("calculator").routes[0]
    world.guest(calculator, "sudo ip route del %s", meant.destination)
    if wrong:
        world.guest(calculator, f"sudo ip route replace {wrong}")
    try:
        yield
    finally:
        if wrong:
            world.guest(calculator, f"sudo ip route del {wrong}")
        world.guest(calculator, "sudo ip route replace %s via %s", meant.destination, meant.via)


@fault(
    "route-missing", "The static route was never set on the calculator's VM", NETWORKS,
    red="TOP-05", open_=BEYOND, words=f"no route to {BACK}", everyday=True,
)  # fmt: skip
def route_missing(world: World) -> Iterator[None]:
    with _other_route(world, ""):
        yield


@fault(
    "route-through-the-first-router", "The static route leads to the first router in place of the second", NETWORKS,
    red="TOP-05", open_=BEYOND, words=SECOND_LEG,
)  # fmt: skip
def route_through_the_first_router(world: World) -> Iterator[None]:
    with _other_route(world, f"{BACK} via {FIRST_LEG}"):
        yield


@fault(
    "route-to-the-wrong-network", "The static route has a typo in its network: 30.4.6.0/24", NETWORKS,
    red="TOP-05", open_=BEYOND, words="30.4.6.0/24",
)  # fmt: skip
def route_to_the_wrong_network(world: World) -> Iterator[None]:
    with _other_route(world, f"30.4.6.0/24 via {SECOND_LEG}"):
        yield


@fault(
    "second-gateway", "The second router was made a default gateway of the calculator's VM too", NETWORKS,
    red="TOP-02", words="default routes",
)  # fmt: skip
def second_gateway(world: World) -> Iterator[None]:
    calculator = world.standing("two-networks").hosts["calculator"]
    route = "default via %s metric 500"
    with world.changed(calculator, f"sudo ip route add {route}", f"sudo ip route del {route}", SECOND_LEG):
        yield


@contextmanager
def _leg_detached(world: World, router: str, network: str) -> Iterator[None]:
    two = world.standing("two-networks").deployment
    made, address = two.routers[router], str(two.routers[router].legs[network])
    world.cloud.remove_leg(made.id, port_id=made.ports[network])
    world.has_effect(_beyond(world), reached=False)
    try:
        yield
    finally:
        port = world.network.create_port(
            network_id=two.networks[network].id,
            fixed_ips=[{"subnet_id": two.networks[network].subnet_id, "ip_address": address}],
            description=two.mark.description("leg"),
        )
        world.cloud.add_leg(made.id, port_id=port.id)
        world.refresh()
    world.has_effect(_beyond(world), reached=True)


@fault(
    "front-leg-detached", "The second router has no leg in the calculator's network", NETWORKS,
    red="TOP-01", open_=f"{BEYOND} TOP-05", words="RT2", everyday=True,
)  # fmt: skip
def front_leg_detached(world: World) -> Iterator[None]:
    with _leg_detached(world, "RT2", "front"):
        yield


@fault(
    "back-leg-detached", "The second router has no leg in the micro-services' network", NETWORKS,
    red="TOP-01", open_=f"{BEYOND} TOP-05", words="RT2",
)  # fmt: skip
def back_leg_detached(world: World) -> Iterator[None]:
    with _leg_detached(world, "RT2", "back"):
        yield


@fault(
    "gateway-on-the-second-router", "The second router was given a gateway to the public network", NETWORKS,
    red="TOP-01", words="RT2",
)  # fmt: skip
def gateway_on_the_second_router(world: World) -> Iterator[None]:
    router = world.standing("two-networks").deployment.routers["RT2"].id
    outside = {"network_id": world.cloud.external_network()}
    world.network.update_router(router, external_gateway_info=outside)
    yield
    world.network.update_router(router, external_gateway_info={})


@fault(
    "back-linked-to-the-first-router", "The micro-services' network is linked to the first router as well", NETWORKS,
    red="TOP-01", words="RT1",
)  # fmt: skip
def back_linked_to_the_first_router(world: World) -> Iterator[None]:
    two = world.standing("two-networks").deployment
    port = world.network.create_port(
        network_id=two.networks["back"].id, description=two.mark.description("leg"),
        fixed_ips=[{"subnet_id": two.networks["back"].subnet_id, "ip_address": "30.4.5.250"}],
    )  # fmt: skip
    world.cloud.add_leg(two.routers["RT1"].id, port_id=port.id)
    yield
    world.cloud.remove_leg(two.routers["RT1"].id, port_id=port.id)


@fault(
    "second-router-down", "The second router was set administratively down", NETWORKS,
    red="TOP-05", open_=BEYOND, words="RT2",
)  # fmt: skip
def second_router_down(world: World) -> Iterator[None]:
    router = world.standing("two-networks").deployment.routers["RT2"].id
    with world.switched_off(world.network.update_router, router, _beyond(world)):
        yield


@fault(
    "no-way-in", "The calculator's floating IP was taken away", NETWORKS,
    red="TOP-01", open_=f"{BEYOND} TOP-02 TOP-05", words="floating IP",
)  # fmt: skip
def no_way_in(world: World) -> Iterator[None]:
    host = world.standing("two-networks").deployment.hosts["calculator"]
    pinged = ping(world.desktop, str(host.floating_ip))
    world.network.update_ip(host.floating_ip_id, port_id=None)
    yield
    world.network.update_ip(host.floating_ip_id, port_id=host.port_id)
    world.has_effect(pinged, reached=True)


@fault(
    "no-ping-between", "The security group's rule for ICMP was forgotten", NETWORKS,
    red="TOP-01 TOP-03 TOP-05 TOP-06", open_="TOP-08", words="icmp",
)  # fmt: skip
def no_ping_between(world: World) -> Iterator[None]:
    with rule_removed(world, "two-networks", "lab", of_protocol("icmp")):
        world.has_effect(_beyond(world), reached=False)
        yield
    world.has_effect(_beyond(world), reached=True)


@fault(
    "service-vm-stopped", "One of the micro-services' VMs was stopped", NETWORKS,
    red="TOP-01", open_=f"{BEYOND} TOP-05", words="SHUTOFF",
)  # fmt: skip
def service_vm_stopped(world: World) -> Iterator[None]:
    with world.stopped("two-networks", "sum"):
        yield


@fault(
    "same-address-twice", "SubService's VM was given the address of SumService's by hand", NETWORKS,
    open_=f"{BEYOND} TOP-05", words="sub",
)  # fmt: skip
def same_address_twice(world: World) -> Iterator[None]:
    two = world.standing("two-networks")
    sub, own, others = two.hosts["sub"], two.address("sub"), two.address("sum")
    # nobody can enter it meanwhile: it puts its own address back by itself
    world.guest(
        sub,
        "sudo setsid sh -c %s >/dev/null 2>&1 &",
        f"sleep 1; ip addr add {others}/24 dev eth0; ip addr del {own}/24 dev eth0; sleep 40; "
        f"ip addr add {own}/24 dev eth0; ip addr del {others}/24 dev eth0; "
        f"ip route replace default via 30.4.5.1",
    )
    pinged = ping(two.hosts["calculator"], own)
    world.has_effect(pinged, reached=False)
    yield
    world.has_effect(pinged, reached=True, within=90)


@fault(
    "answers-dropped", "The second router lets packets through one way only", NETWORKS,
    red="TOP-05", open_="TOP-08", words="was seen at",
)  # fmt: skip
def answers_dropped(world: World) -> Iterator[None]:
    router = f"qrouter-{world.standing('two-networks').deployment.routers['RT2'].id}"
    answers = ("-s", BACK, "-d", "20.4.5.0/24", "-p", "icmp", "--icmp-type", "echo-reply")
    with world.dropped(router, "FORWARD", *answers):
        yield
