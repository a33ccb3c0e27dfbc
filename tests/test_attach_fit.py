"""A document fitted to what was found: its structure stays the intention, names and addresses are the project's own."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from provision.attach.fit import Fitted, fitted, with_listed_names
from provision.attach.roles import find
from provision.holdings import Holdings, RuleKey
from provision.inventory import Inventory, differences, report
from provision.openstack import standing
from provision.paths.cloud import configured
from provision.paths.configuration import ICMP, Network, Traffic
from provision.paths.explain import explain
from provision.paths.matrix import matrix
from tests.attach_world import (
    ASKED,
    CALCULATOR,
    EXTERNAL,
    SAID,
    SERVICES,
    TIER_SAID,
    Built,
    Said,
    one_vm,
    two_networks,
    two_tier,
    with_clutter,
)
from tests.paths_world import BEYOND, topology

PUBLIC = Network("public", IPv4Network("192.168.37.0/24"), external=True)
SAYS = Said(SAID._ports, SAID._services | TIER_SAID)


def fit(built: Built, name: str = "two-networks") -> Fitted:
    found = find(built.have, EXTERNAL, SAYS).arrangement(name)
    return fitted(topology(name), found, built.have, EXTERNAL)


def inventory(made: Fitted, have: Holdings) -> Inventory:
    return report(made.attached.view(have), {EXTERNAL: "public"}, PUBLIC.cidr, {})


def unlike(built: Built, name: str = "two-networks") -> list[str]:
    made = fit(built, name)
    return differences(made.topology, inventory(made, built.have))


@pytest.mark.parametrize(
    ("built", "name"),
    [
        (two_networks(), "two-networks"),
        (with_clutter(two_networks()), "two-networks"),
        (with_clutter(one_vm(two_tier(two_networks()))), "two-networks"),
        (with_clutter(one_vm(two_tier(two_networks()))), "two-tier"),
        (with_clutter(one_vm(two_tier(two_networks()))), "operations"),
        (two_networks(), "operations"),
        (two_networks(services={"tutti": "10.9.0.21"}), "two-networks"),
    ],
)
def test_what_is_built_rightly_differs_in_nothing(built: Built, name: str) -> None:
    """Names, addresses and what else is in the project are no differences."""
    assert unlike(built, name) == []


def test_the_document_takes_the_projects_addresses() -> None:
    made = fit(with_clutter(two_networks())).topology
    assert (made.network("front").cidr, made.network("front").gateway) == (
        IPv4Network("172.20.1.0/26"),
        IPv4Address("172.20.1.1"),
    )
    (route,) = made.host("calculator").routes
    assert (route.destination, route.via) == (IPv4Network("10.9.0.0/24"), IPv4Address("172.20.1.9"))
    assert [str(leg.address) for leg in made.router("RT2").legs] == ["172.20.1.9", "10.9.0.1"]
    assert made.host("mul").address == IPv4Address("10.9.0.33")
    assert made.host("mul").flavor == "m1.tiny"
    assert made.host("mul").security_groups == ("default", "servizi")
    assert made.service("calculator").port == 50010
    assert made.path("calculator", "div") == ("RT2",)


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            {"second_external": EXTERNAL},
            ["router RT2 has an external gateway on public; intended none"],
        ),
        ({"second_legs": {"dietro": "10.9.0.1"}}, ["router RT2 has no leg in front; intended 172.20.1.2"]),
        (
            {"front_gateway": "172.20.1.9", "first_legs": {"davanti": "172.20.1.2"}},
            ["network front has gateway 172.20.1.9; intended 172.20.1.2"],
        ),
        (
            {"first_legs": {"davanti": "172.20.1.1", "dietro": "10.9.0.200"}},
            ["router RT1 has a leg in back at 10.9.0.200; intended none"],
        ),
        ({"first_external": None}, ["router RT1 has no external gateway; intended on public"]),
        ({"first_legs": {}}, ["router RT1 has no leg in front; intended 172.20.1.1"]),
        ({"back_gateway": None}, ["network back has gateway none; intended 10.9.0.1"]),
    ],
)
def test_what_is_against_the_structure_is_a_difference(changes: dict[str, Any], lines: list[str]) -> None:
    assert unlike(with_clutter(two_networks(**changes))) == lines


def test_another_router_that_links_the_back_network_is_a_difference_and_no_other_is() -> None:
    built = two_networks()
    built.network("terza", "10.33.0.0/24")
    built.router("laterale", None, davanti="172.20.1.20", terza="10.33.0.1")
    assert unlike(built) == []
    built.router("RT1", None, dietro="10.9.0.77")
    (line,) = unlike(built)
    assert line.startswith("router RT1 id-")
    assert line.endswith("is there and not intended")
    built = two_networks()
    built.router("seconda porta", EXTERNAL, davanti="172.20.1.20")
    assert unlike(built) == ["router seconda porta is there and not intended"]
    assert unlike(built, "operations") == []


def test_a_server_that_is_down_or_gone_since_is_a_difference() -> None:
    built = two_networks()
    made = fit(built)
    down = tuple(replace(s, status="SHUTOFF") if s.name == "tre" else s for s in built.have.servers)
    assert differences(made.topology, inventory(made, replace(built.have, servers=down))) == [
        "server mul is SHUTOFF; intended ACTIVE"
    ]
    gone = tuple(s for s in built.have.servers if s.name != "tre")
    assert differences(made.topology, inventory(made, replace(built.have, servers=gone))) == [
        "server mul is not there"
    ]


def test_the_deployment_is_of_the_parts_and_has_the_listed_names() -> None:
    built = with_clutter(two_networks())
    made = fit(built)
    there = with_listed_names(
        standing(made.topology, made.attached, made.attached.view(built.have)), built.have
    )
    assert there.routers["RT2"].name == "ponte"
    assert there.networks["back"].name == "dietro"
    assert there.hosts["calculator"].server_name == "calcolatrice"
    assert there.hosts["calculator"].floating_ip == IPv4Address("192.168.37.50")
    assert there.hosts["sum"].floating_ip is None
    assert there.routers["RT2"].legs == {"front": IPv4Address("172.20.1.9"), "back": IPv4Address("10.9.0.1")}
    assert set(there.security_groups) == {"default", "calcolo", "servizi"}


def test_paths_are_explained_in_the_parts_names() -> None:
    built = with_clutter(two_networks(second_external=EXTERNAL))
    made = fit(built)
    read = configured(made.attached.view(built.have), made.attached, {EXTERNAL: PUBLIC}, BEYOND)
    assert [each.name for each in read.networks] == ["public", "front", "back"]
    assert [each.name for each in read.routers] == ["RT1", "RT2"]
    assert [each.name for each in read.servers] == ["calculator", "sum", "sub", "mul", "div"]
    assert explain(made.topology, read, "calculator", "sum", Traffic("tcp", 50001)) == []
    shut = tuple(replace(g, rules=g.rules[:2] * (g.name == "default")) for g in built.have.security_groups)
    read = configured(
        made.attached.view(replace(built.have, security_groups=shut)),
        made.attached,
        {EXTERNAL: PUBLIC},
        BEYOND,
    )
    lines = explain(made.topology, read, "calculator", "sum", Traffic("tcp", 50001))
    assert lines[0].startswith("no rule of security group default lets tcp 50001 in from calculator")


def test_who_reaches_whom_is_as_intended_in_what_is_built_rightly() -> None:
    built = with_clutter(two_networks())
    made = fit(built)
    read = configured(made.attached.view(built.have), made.attached, {EXTERNAL: PUBLIC}, BEYOND)
    assert [str(cell) for cell in matrix(made.topology, read).unlike] == []


def test_the_one_vms_group_plays_the_labs() -> None:
    made = fit(with_clutter(one_vm()), "operations")
    assert [host.name for host in made.topology.hosts] == ["vm"]
    assert made.topology.host("vm").security_groups == ("lab",)
    assert {group.name for group in made.topology.security_groups} == {"lab"}


def test_of_several_groups_the_nearest_to_the_asked_one_plays_the_labs() -> None:
    built = two_networks()
    made = fit(built, "operations")
    playing = next(id_ for id_, name in made.attached.groups.items() if name == "lab")
    assert next(g.name for g in built.have.security_groups if g.id == playing) == "default"
    assert made.topology.host("vm").security_groups == ("calcolo", "lab")


def test_a_rule_that_the_table_does_not_have_is_a_difference() -> None:
    built = Built()
    built.network("casa", "10.5.7.0/24")
    built.router("uscio", EXTERNAL, casa="10.5.7.1")
    built.group("lab")
    web = RuleKey("ingress", "IPv4", "tcp", (80, 80), None, None)
    own = built.group("tutto", *ASKED[:-1], CALCULATOR, web)
    built.server("macchina", "casa", "10.5.7.20", own, floating_ip="192.168.37.28")
    assert unlike(built, "operations") == [
        "security group lab lacks the rule: ingress IPv4 tcp 22 from anywhere",
        "security group lab has a rule that is not intended: ingress IPv4 tcp 80 from anywhere",
    ]


def test_the_ports_of_a_later_objective_are_not_held_against_the_table() -> None:
    built = Built()
    built.network("casa", "10.5.7.0/24")
    built.router("uscio", EXTERNAL, casa="10.5.7.1")
    own = built.group("tutto", *ASKED, CALCULATOR, SERVICES)
    built.server("macchina", "casa", "10.5.7.20", own, floating_ip="192.168.37.28")
    assert unlike(built, "operations") == []


def test_rules_that_no_document_could_have_are_taken_as_they_are() -> None:
    odd = [
        RuleKey("ingress", "IPv6", "ipv6-icmp", None, "2001:db8::1/64", None),
        RuleKey("ingress", "IPv4", "47", None, "10.0.0.9/24", None),
        RuleKey("ingress", "IPv4", "tcp", (1, 65535), None, "group of others"),
    ]
    built = two_networks()
    group = built.group("strano", *odd)
    server = built.have.servers[-1]
    ports = tuple(
        replace(p, security_groups=(*p.security_groups, group.id)) if p.device_id == server.id else p
        for p in built.have.ports
    )
    built.have = replace(built.have, ports=ports)
    assert unlike(built) == []


def test_a_vm_in_no_group_is_in_none() -> None:
    built = Built()
    built.network("casa", "10.5.7.0/24")
    built.router("uscio", EXTERNAL, casa="10.5.7.1")
    built.server("macchina", "casa", "10.5.7.20", floating_ip="192.168.37.28")
    made = fit(built, "operations")
    assert made.topology.security_groups == ()
    assert explain(made.topology, configured(
        made.attached.view(built.have), made.attached, {EXTERNAL: PUBLIC}, BEYOND
    ), "desktop", "vm", ICMP)  # fmt: skip


def test_a_service_without_a_vm_of_its_own_is_where_it_answers() -> None:
    said = Said({}, {f"10.9.0.21:{50001 + n}": name for n, name in enumerate(("sum", "sub", "mul", "div"))})
    built = two_networks(services={"tutti": "10.9.0.21"})
    found = find(built.have, EXTERNAL, said).two_networks
    made = fitted(topology("two-networks"), found, built.have, EXTERNAL).topology
    assert [host.name for host in made.hosts] == ["calculator", "sum"]
    assert {service.name: service.host for service in made.services} == {
        "sum": "sum", "sub": "sum", "mul": "sum", "div": "sum", "calculator": "calculator",
    }  # fmt: skip
    assert made.service("calculator").backends == ("sum", "sub", "mul", "div")
