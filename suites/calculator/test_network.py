"""Objectives 9 to 11: the services on five VMs, from each other, from the desktop, and over two networks."""

from __future__ import annotations

import re

import pytest

from probes.calculator import calculation, service_state, state_of
from probes.reach import command, facts, not_reached, ping, reached, tcp, wait_until

TAKES_EFFECT = 30
OPENED = range(50000, 50051)
EXPRESSION, RESULT = "(5+6)*2", 22
LOOPBACK = "127.0.0.1"
# one beyond the ports that the group lets in, and the web's
CLOSED = (50051, 80)
on_the_cloud = pytest.mark.parametrize("app", ["two_tier", "over_two_networks"], indirect=True)


@pytest.mark.claim("APP-08")
def test_each_micro_service_answers_from_every_other_vm(two_tier):
    """Five VMs, one service each: every micro-service answers the calculator's VM and those of the other three."""
    hosts = list(two_tier.hosts.values())
    assert len({place.host.name for place in two_tier.places.values()}) == 5, "not a VM for each service"
    reached(
        *(
            tcp(host, each.address, each.port)
            for each in two_tier.micro
            for host in hosts
            if host is not each.host
        )
    )
    for name, result in {"sum": 12, "sub": 6, "mul": 27, "div": 3}.items():
        two_tier.service_answers(two_tier.calculator.host, name, {"9 3": result})


@pytest.mark.parametrize(
    "app", ["two_tier", pytest.param("over_two_networks", marks=pytest.mark.claim("TOP-07"))], indirect=True
)
@pytest.mark.claim("APP-09")
def test_from_the_desktop_the_floating_ip_answers(app, desktop):
    """Desktop -> the calculator's floating IP, on a port within 50000-50050: (5+6)*2 answers "result = 22"."""
    assert app.calculator.port in OPENED, (
        f"the calculator's port {app.calculator.port} is not within 50000-50050"
    )
    app.answers(desktop, EXPRESSION, RESULT, app.desktop_url)


@on_the_cloud
@pytest.mark.claim("APP-11")
def test_from_the_desktop_only_the_calculators_port_answers(app, desktop):
    """The desktop reaches none of the micro-services, at their VMs' addresses or the floating IP; inside they answer."""
    floating = app.desktop_url.removeprefix("http://").partition(":")[0]
    not_reached(
        *(tcp(desktop, place.address, place.port) for place in app.micro),
        *(tcp(desktop, floating, place.port) for place in app.micro),
        tcp(desktop, app.calculator.address, app.calculator.port),
        alive=[
            calculation(desktop, app.desktop_url, EXPRESSION),
            *(tcp(app.calculator.host, place.address, place.port) for place in app.micro),
        ],
    )


@pytest.mark.acts
@pytest.mark.claim("APP-11")
def test_other_ports_of_the_calculators_vm_do_not_answer_the_desktop(two_tier, desktop, listening):
    """Ports 80 and 50051, where something listens on the calculator's VM, stay out of the desktop's reach."""
    vm = two_tier.calculator
    floating = two_tier.desktop_url.removeprefix("http://").partition(":")[0]
    listening(vm.host, *CLOSED)
    not_reached(
        *(tcp(desktop, floating, port) for port in CLOSED),
        alive=[
            calculation(desktop, two_tier.desktop_url, EXPRESSION),
            *(tcp(vm.host, vm.address, port) for port in CLOSED),
        ],
    )


@pytest.mark.acts
@pytest.mark.claim("APP-10")
def test_the_services_ports_are_closed_until_the_group_opens_them(two_tier, two_tier_standing, port_closed):
    """Without the group's rule 50001-50004 no VM reaches a service that its own VM reaches; with it, it answers."""
    here = two_tier.calculator.host
    ways = [tcp(here, place.address, place.port) for place in two_tier.micro]
    alive = [
        *(ping(here, place.address) for place in two_tier.micro),
        *(tcp(place.host, place.address, place.port) for place in two_tier.micro),
    ]
    reached(*ways)
    with port_closed(two_tier_standing, "services", two_tier.micro[0].port):
        wait_until(ways[0], reached=False, within=TAKES_EFFECT)
        not_reached(*ways, alive=alive)
    for way in ways:
        wait_until(way, reached=True, within=TAKES_EFFECT)
    two_tier.answers(here, EXPRESSION, RESULT)


@pytest.mark.claim("TOP-07")
def test_over_both_networks_from_inside(over_two_networks):
    """From the calculator's own VM and from a micro-service's, over the static route: (5+3)*2 answers 16."""
    app = over_two_networks
    networks = {app.topology.host(place.host.name).network for place in app.micro}
    own = app.topology.host(app.calculator.host.name).network
    assert own not in networks, f"the micro-services are in the calculator's own network {own}"
    for source in (app.calculator.host, app.places["sum"].host):
        app.answers(source, "(5+3)*2", 16)


@pytest.mark.acts
@pytest.mark.claim("TOP-09")
def test_bound_to_its_internal_address_it_answers_there_alone(over_two_networks, desktop):
    """The calculator bound to its internal address answers there and by the floating IP, at no other address of its VM."""
    app = over_two_networks
    place = app.calculator
    seen = command(place.host, "ip -4 -o address show")
    others = [each for each in re.findall(r"inet ([0-9.]+)/", seen.output) if each != place.address]
    assert others, f"the VM has no address besides {place.address}: {seen}"
    reached(*(tcp(place.host, address, place.port) for address in others))
    try:
        app.running["calculator"].configure(bind=place.address)
        state = service_state(facts(state_of(place))[0])
        assert state.listens(place.port) == [place.address], (
            f"port {place.port} is listened on at {state.listens(place.port)}, not at {place.address} alone"
        )
        app.answers(place.host, EXPRESSION, RESULT)
        app.answers(desktop, EXPRESSION, RESULT, app.desktop_url)
        not_reached(
            *(tcp(place.host, address, place.port) for address in others),
            alive=[
                calculation(place.host, place.url, EXPRESSION),
                # there is a way to those addresses: SSH listens on them
                *(tcp(place.host, address, 22) for address in others),
            ],
        )
    finally:
        app.mend()
    reached(*(tcp(place.host, address, place.port) for address in others))
