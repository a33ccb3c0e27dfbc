"""Of any topology: what it intends explains nothing, and whatever is taken out of a path is named."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from probes.guest import ANYWHERE
from probes.observation import Outcome
from provision.paths.configuration import ICMP, Configuration, Traffic
from provision.paths.explain import ARRIVES, address_of, explain, fate
from provision.paths.intention import intended, questions
from provision.paths.matrix import asked_of, matrix
from provision.paths.steps import Path, Step
from provision.paths.walk import walk
from provision.topology import Topology, TopologyError
from tests.paths_world import (
    BEYOND,
    Break,
    floating,
    guest,
    listening,
    no_leg,
    no_router,
    port,
    router,
    rules,
    server,
)

MANY = settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
EGRESS = {"direction": "egress", "ethertype": "IPv4"}


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Up to three networks in a row, each joined to the next by a router; hosts, groups, services and routes."""
    count = draw(st.integers(1, 3))
    nets = [{"name": f"net{n}", "cidr": f"10.{n}.0.0/24", "dhcp": True} for n in range(count)]
    routers: list[dict[str, Any]] = [{"name": "RT0", "external": "public", "legs": [{"network": "net0"}]}]
    for n in range(1, count):
        front = {"network": f"net{n - 1}", "address": f"10.{n - 1}.0.{draw(st.integers(200, 210))}"}
        routers.append({"name": f"RT{n}", "legs": [front, {"network": f"net{n}"}]})
    groups = [
        {"name": f"g{n}", "rules": draw(st.lists(rule(), max_size=4)) + [EGRESS] * draw(st.integers(0, 1))}
        for n in range(3)
    ]
    hosts, services = [], []
    for n in range(draw(st.integers(2, 4))):
        at = draw(st.integers(0, count - 1))
        host: dict[str, Any] = {"name": f"h{n}", "network": f"net{at}", "flavor": "nano"}
        if draw(st.booleans()):
            host["address"] = f"10.{at}.0.{20 + n}"
        host["security_groups"] = draw(st.lists(st.sampled_from(["g0", "g1", "g2"]), unique=True))
        host["floating_ip"] = at == 0 and draw(st.booleans())
        if at + 1 < count and draw(st.booleans()):
            via = routers[at + 1]["legs"][0]["address"]
            host["routes"] = [{"destination": f"10.{at + 1}.0.0/24", "via": via}]
        hosts.append(host)
        if draw(st.booleans()):
            service: dict[str, Any] = {
                "name": f"s{n}",
                "host": f"h{n}",
                "port": draw(st.integers(50000, 50004)),
            }
            services.append(service)
    document = {
        "name": "any",
        "networks": [{"name": "public", "type": "external", "cidr": "192.168.37.0/24"}, *nets],
        "routers": routers,
        "security_groups": groups,
        "hosts": hosts,
        "services": services,
    }
    try:
        return Topology.from_json(json.loads(json.dumps(document)))
    except TopologyError:
        assume(False)
        raise


def rule() -> st.SearchStrategy[dict[str, Any]]:
    remotes = st.sampled_from(["0.0.0.0/0", "group:g0", "group:g1", "10.0.0.0/24", "10.1.0.0/24"])
    return st.one_of(
        st.fixed_dictionaries(
            {"direction": st.just("ingress"), "protocol": st.just("icmp"), "remote": remotes}
        ),
        st.fixed_dictionaries({"direction": st.just("ingress"), "remote": remotes}),
        st.fixed_dictionaries(
            {
                "direction": st.just("ingress"),
                "protocol": st.just("tcp"),
                "ports": st.sampled_from(["22", "50000-50004", "50001"]),
                "remote": remotes,
            }
        ),
    )


def standing(topology: Topology) -> Configuration:
    made = intended(topology, Configuration(beyond=BEYOND))
    return replace(made, promised={f.meant: f.address for f in made.floating_ips if f.meant})


@MANY
@given(topologies())
def test_the_intended_configuration_explains_nothing(topology: Topology) -> None:
    made = standing(topology)
    for source, target, traffic in asked_of(topology, made):
        assert explain(topology, made, source, target, traffic) == []
    assert matrix(topology, made).unlike == ()


@MANY
@given(topologies())
def test_the_intention_of_what_stands_as_intended_is_what_stands(topology: Topology) -> None:
    made = standing(topology)
    again = intended(topology, made)
    assert (again.networks, again.routers, again.servers) == (made.networks, made.routers, made.servers)
    assert (again.groups, again.floating_ips, again.guests) == (made.groups, made.floating_ips, made.guests)


@MANY
@given(topologies())
def test_paths_agree_with_the_topologys_own_account_of_its_routers(topology: Topology) -> None:
    """Reckoned apart, from the document: with everything let through, who is connected is who arrives."""
    made = standing(topology)
    everything = tuple(
        replace(s, ports=tuple(replace(p, port_security=False) for p in s.ports)) for s in made.servers
    )
    made = replace(made, servers=everything)
    for one in topology.hosts:
        for other in topology.hosts:
            if one is other:
                continue
            address = made.server(other.name).ports[0].addresses[0]  # type: ignore[union-attr]
            path = walk(made, made, one.name, address, ICMP)
            assert path.arrives == topology.connected(one, other), str(path)
            routers = [step.of for step in path.steps if step.way == "there" and step.kind == "router"]
            if path.arrives:
                assert tuple(routers) == topology.path(one, other)
        public = walk(made, made, one.name, BEYOND[1].address or IPv4Address(0), ICMP)
        assert public.arrives == (topology.reach_public(one) is not None), str(public)


def taken_out(step: Step, path: Path, made: Configuration) -> Break | None:
    """The configuration without what a step of a path needs; None for a step that needs nothing of its own."""
    if step.kind == "server":
        return server(step.of, status="SHUTOFF")
    if step.kind in ("ingress", "egress"):
        groups = {g.name for g in made.groups}
        breaks = [
            rules(name, lambda there: tuple(r for r in there if r.direction != step.kind)) for name in groups
        ]

        def without(configuration: Configuration) -> Configuration:
            for each in breaks:
                configuration = each(configuration)
            return configuration

        return without
    if step.kind == "process":
        return guest(step.of, lambda g: replace(g, listening=frozenset()))
    if step.kind == "floating IP":
        host = made.floating_ip(IPv4Address(step.of)).server  # type: ignore[union-attr]
        return floating(str(host), server=None, fixed=None)
    if step.kind == "gateway":
        return router(step.of, external=None, external_address=None)
    if step.kind == "route":
        asker = path.target if step.way == "there" else address_of(made, path.source, path.source)
        towards = asker or IPv4Address("192.0.2.1")
        if made.outsider(path.source) and step.way == "back":
            towards = IPv4Address("192.0.2.1")
        taken = made.guests[step.of].route_to(towards)
        return guest(step.of, lambda g: replace(g, routes=tuple(r for r in g.routes if r != taken)))
    return None


@MANY
@given(topologies(), st.data())
def test_whatever_is_taken_out_of_a_path_is_named(topology: Topology, data: st.DataObject) -> None:
    made = standing(topology)
    arriving = [
        (source, target, traffic)
        for source, target, traffic in asked_of(topology, made)
        if fate(walk(made, made, source, address_of(made, source, target) or IPv4Address(0), traffic).outcome)
        == ARRIVES
    ]
    assume(arriving)
    source, target, traffic = data.draw(st.sampled_from(arriving))
    address = address_of(made, source, target)
    assert address is not None
    path = walk(made, made, source, address, traffic)
    steps = [step for step in path.steps if taken_out(step, path, made)]
    step = data.draw(st.sampled_from(steps))
    broken = taken_out(step, path, made)
    assert broken is not None
    lines = explain(topology, broken(made), source, address, traffic)
    assert lines, f"{step} taken out of\n{path}"
    if step.kind == "ingress":
        assert f"{traffic} in from {source}" in lines[0], lines
        return
    named = str(made.floating_ip(address).server) if step.kind == "floating IP" else step.of  # type: ignore[union-attr]
    assert named in lines[0], f"{step} taken out of\n{path}\n" + "\n".join(lines)


@MANY
@given(topologies(), st.data())
def test_any_router_taken_away_is_named_where_it_was_needed(topology: Topology, data: st.DataObject) -> None:
    made = standing(topology)
    name = data.draw(st.sampled_from([r.name for r in topology.routers]))
    legs = [leg.network for leg in topology.router(name).legs]
    broken = data.draw(st.sampled_from([no_router(name), *(no_leg(name, each) for each in legs)]))(made)
    for source, target, traffic in asked_of(topology, made):
        address = address_of(made, source, target)
        if address is None:
            continue
        before, after = (
            walk(made, made, source, address, traffic),
            walk(broken, made, source, address, traffic),
        )
        lines = explain(topology, broken, source, address, traffic)
        if before.arrives and not after.arrives:
            assert name in lines[0], f"{before}\n{after}\n" + "\n".join(lines)
        if fate(before.outcome) == fate(after.outcome) == ARRIVES:
            assert lines == []


@settings(MANY, max_examples=40)
@given(topologies(), st.data())
def test_no_configuration_makes_it_fall_over(topology: Topology, data: st.DataObject) -> None:
    """Several things broken at once: always an outcome of the known words, and sentences that are lines."""
    made = standing(topology)
    names = [h.name for h in topology.hosts]
    host = st.sampled_from(names)
    address = st.sampled_from(
        [IPv4Address("10.0.0.20"), IPv4Address("10.9.9.9"), IPv4Address("192.168.37.9")]
    )
    breaks = st.one_of(
        st.builds(lambda n, a: port(n, addresses=(a,)), host, address),
        st.builds(lambda n: port(n, security_groups=("gone",)), host),
        st.builds(lambda n: server(n, ports=()), host),
        st.builds(lambda n, a: floating(n, fixed=a), host, address),
        st.builds(lambda n: floating(n, server="stranger"), host),
        st.builds(lambda n: guest(n, lambda g: replace(g, routes=(), addresses=())), host),
        st.builds(lambda n, s: listening(n, *s), host, st.just(())),
        st.builds(lambda: lambda c: replace(c, networks=())),
        st.builds(lambda: lambda c: replace(c, groups=())),
        st.builds(lambda: lambda c: replace(c, routers=())),
        st.builds(lambda: lambda c: replace(c, servers=(), guests={})),
    )
    for each in data.draw(st.lists(breaks, min_size=1, max_size=3)):
        made = each(made)
    for source, target, traffic in asked_of(topology, intended(topology, made)):
        for mend in (False, True):
            for address_ in {address_of(intended(topology, made), source, target), IPv4Address("10.1.0.21")}:
                if address_ is None:
                    continue
                path = walk(made, intended(topology, made), source, address_, traffic, mend=mend)
                assert path.outcome in list(Outcome)
                json.dumps(path.as_json())
        for outcome in (None, Outcome.REACHABLE, Outcome.FILTERED, Outcome.REFUSED):
            lines = explain(topology, made, source, IPv4Address("10.0.0.21"), traffic, outcome)
            assert all(line and "\n" not in line for line in lines)
    matrix(topology, made)
    json.dumps(made.as_json())


def test_questions_are_ping_ssh_and_the_services_ports() -> None:
    topology = Topology.from_json(
        {
            "name": "t",
            "networks": [{"name": "n", "cidr": "10.0.0.0/24"}],
            "hosts": [{"name": "h", "network": "n", "flavor": "nano"}],
            "services": [{"name": "s", "host": "h", "port": 50001}],
        }
    )
    assert [str(each) for each in questions(topology, "h")] == ["icmp", "tcp 22", "tcp 50001"]
    assert Traffic.parse("tcp 50001") == Traffic("tcp", 50001)
    made = intended(topology)
    assert made.guests["h"].routes[-1].destination == ANYWHERE
    assert made.networks[0].cidr == IPv4Network("10.0.0.0/24")
