"""Who plays which part in a project that somebody has built: by structure, whatever it is called."""

from __future__ import annotations

import random
import string
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.attach.role import Arrangement, Place
from provision.attach.roles import Roles, find
from provision.holdings import Holdings
from tests.attach_world import (
    EXTERNAL,
    SAID,
    TIER_SAID,
    Built,
    Said,
    one_vm,
    two_networks,
    two_tier,
    with_clutter,
)

HEALTHY = {
    "front": "davanti", "back": "dietro", "RT1": "porta", "RT2": "ponte", "calculator": "calcolatrice",
    "sum": "uno", "sub": "due", "mul": "tre", "div": "quattro",
}  # fmt: skip


def roles(built: Built, looks: Said = SAID, **named: str) -> Roles:
    return find(built.have, EXTERNAL, looks, named)


def players(arrangement: Arrangement) -> dict[str, str | None]:
    return {name: role.thing.name if role.thing else None for name, role in arrangement.roles()}


def test_two_networks_of_any_name_are_found() -> None:
    found = roles(two_networks()).two_networks
    assert players(found) == HEALTHY
    assert found.there
    assert not found.missing()
    assert not found.ambiguous()
    assert found.services == {
        "sum": Place("sum", 50001), "sub": Place("sub", 50002), "mul": Place("mul", 50003),
        "div": Place("div", 50004), "calculator": Place("calculator", 50010),
    }  # fmt: skip
    assert str(found.hosts["sum"]) == "uno (10.9.0.21)"


def test_what_else_is_in_the_project_does_not_matter() -> None:
    found = roles(with_clutter(two_networks())).two_networks
    assert players(found) == HEALTHY
    assert all(role.apart for role in found.hosts.values())


def test_three_arrangements_side_by_side_are_told_apart() -> None:
    built = with_clutter(one_vm(two_tier(two_networks())))
    found = roles(built, Said(SAID._ports | {"192.168.37.14": [50010]}, SAID._services | TIER_SAID))
    assert players(found.two_networks) == HEALTHY
    assert players(found.two_tier) == {
        "private": "rete", "router": "uscita", "calculator": "A", "plus": "B", "minus": "C", "times": "D",
        "divide": "E",
    }  # fmt: skip
    assert found.two_tier.services["div"] == Place("divide", 50004)
    assert players(found.one_vm) == {"private": "casa", "RT1": "uscio", "vm": "macchina"}
    told = found.described()
    assert told["vm"] == "macchina (10.5.7.20)"
    assert told["one network: plus"] == "B (12.7.5.250)"


BROKEN: dict[str, dict[str, Any]] = {
    "the second router has a gateway too": {"second_external": EXTERNAL},
    "the second router's leg in front is gone": {"second_legs": {"dietro": "10.9.0.1"}},
    "the second router's leg in back is gone": {"second_legs": {"davanti": "172.20.1.9"}},
    "the second router is front's gateway": {
        "front_gateway": "172.20.1.9", "first_legs": {"davanti": "172.20.1.2"},
    },
    "back is linked to the first router too": {
        "first_legs": {"davanti": "172.20.1.1", "dietro": "10.9.0.200"},
    },
    "back is linked to the first router in place of the second": {
        "first_legs": {"davanti": "172.20.1.1", "dietro": "10.9.0.1"}, "second_legs": {"davanti": "172.20.1.9"},
    },
    "the first router has no gateway": {"first_external": None},
    "the first router has no leg": {"first_legs": {}},
    "back has no gateway": {"back_gateway": None},
    "back's gateway is nobody": {"back_gateway": "10.9.0.254"},
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_lab_still_has_its_parts(broken: str) -> None:
    found = roles(with_clutter(two_networks(**BROKEN[broken]))).two_networks
    assert players(found) == HEALTHY, broken
    assert found.there


def test_one_router_that_joins_both_is_the_first_and_the_second_is_missing() -> None:
    legs = {"davanti": "172.20.1.1", "dietro": "10.9.0.1"}
    found = roles(two_networks(second=False, first_legs=legs)).two_networks
    assert players(found) == HEALTHY | {"RT2": None}
    assert not found.there
    (why,) = found.missing()
    assert why.startswith(
        "second router: a router of its own that joins front davanti (172.20.1.0/26) and back"
    )
    assert "porta (davanti 172.20.1.1, dietro 10.9.0.1, external gateway)" in why


def test_without_a_second_network_two_are_missing() -> None:
    found = roles(one_vm())
    assert not found.two_networks.there
    (why,) = found.two_networks.missing()
    assert (
        "there are the networks casa (10.5.7.0/24) and the routers uscio (casa 10.5.7.1, external gateway)"
        in why
    )
    assert players(found.one_vm)["vm"] == "macchina"
    assert found.two_tier.missing() == [
        "five VMs on one network: a network with a router to the public one, 5 VMs and a floating IP was looked "
        "for; there are casa (10.5.7.0/24): 1 VMs"
    ]


def test_two_networks_that_nobody_joined_are_not_the_two() -> None:
    found = roles(two_tier(one_vm()))
    assert not found.two_networks.there
    assert found.two_tier.there


def test_nothing_at_all_is_said_to_be_missing() -> None:
    found = roles(Built())
    assert found.one_vm.missing()
    assert found.two_networks.missing()
    assert "there are no networks" in found.two_tier.missing()[0]


def test_of_several_floating_ips_in_front_the_one_that_answers_is_the_calculators() -> None:
    built = two_networks()
    built.server("test", "davanti", "172.20.1.40", floating_ip="192.168.37.51")
    assert players(roles(built).two_networks)["calculator"] == "calcolatrice"


def test_several_that_answer_alike_are_ambiguous_and_can_be_named() -> None:
    built = two_networks()
    built.server("test", "davanti", "172.20.1.40", floating_ip="192.168.37.51")
    for answering in ({}, {"192.168.37.50": [50000], "192.168.37.51": [50000]}):
        found = roles(built, Said(answering)).two_networks
        (why,) = found.ambiguous()
        assert why == (
            "the calculator's VM could be any of calcolatrice (172.20.1.30), test (172.20.1.40); name it in the "
            "submission file: [roles] calculator = …"
        )
        assert players(roles(built, Said(answering), calculator="test").two_networks)["calculator"] == "test"


def test_a_calculator_without_a_floating_ip_is_missing() -> None:
    found = roles(two_networks(floating_ip="")).two_networks
    assert found.there
    (why,) = found.missing()
    assert why == (
        "calculator: a VM of the front network davanti (172.20.1.0/26) with a floating IP was looked for; its VMs are "
        "calcolatrice (172.20.1.30), and no floating IP leads to any"
    )


def test_two_pairs_of_networks_alike_are_ambiguous() -> None:
    built = two_networks()
    built.network("front2", "172.30.0.0/24")
    built.network("back2", "172.31.0.0/24")
    built.router("r1", EXTERNAL, front2="172.30.0.1")
    built.router("r2", None, front2="172.30.0.9", back2="172.31.0.1")
    built.server("c2", "front2", "172.30.0.5", floating_ip="192.168.37.60")
    for n in range(4):
        built.server(f"s{n}", "back2", f"172.31.0.{n + 10}")
    found = roles(built).two_networks
    assert found.networks["front"].ambiguous.endswith("[roles] front = …")
    assert found.hosts["calculator"].ambiguous
    chosen = roles(built, SAID, front="front2", back="back2").two_networks
    assert players(chosen)["RT2"] == "r2"
    assert players(chosen)["calculator"] == "c2"


def test_the_last_of_four_is_told_by_elimination() -> None:
    said = Said({}, {key: name for key, name in SAID._services.items() if name != "mul"})
    found = roles(two_networks(), said).two_networks
    assert players(found)["mul"] == "tre"
    assert found.services["mul"] == Place("mul", 50003)


def test_what_does_not_answer_is_taken_in_the_order_of_addresses_and_not_told_apart() -> None:
    said = Said({}, {"10.9.0.33:50003": "mul"})
    found = roles(two_networks(), said).two_networks
    assert [players(found)[name] for name in ("sum", "sub", "mul", "div")] == ["quattro", "due", "tre", "uno"]
    assert [found.hosts[name].apart for name in ("sum", "sub", "mul", "div")] == [False, False, True, False]
    assert not found.services["sum"].apart
    assert str(found.hosts["sum"]).endswith("not told apart")


def test_a_port_of_the_students_own_is_asked_when_it_is_named() -> None:
    said = Said(
        {}, {key: name for key, name in SAID._services.items() if name != "sum"} | {"10.9.0.21:9000": "sum"}
    )
    found = find(two_networks().have, EXTERNAL, said, {}, {"sum": 9000, "calculator": 50020}).two_networks
    assert found.services["sum"] == Place("sum", 9000)
    assert found.services["calculator"] == Place("calculator", 50020)


def test_services_that_share_a_vm_have_a_place_and_their_vms_are_missing() -> None:
    said = Said(
        {},
        {
            f"10.9.0.21:{port}": name
            for port, name in zip(range(50001, 50005), ("sum", "sub", "mul", "div"), strict=True)
        },
    )
    found = roles(two_networks(services={"tutti": "10.9.0.21"}), said).two_networks
    assert players(found)["sum"] == "tutti"
    assert found.services["div"] == Place("sum", 50004)
    (why,) = found.missing()
    assert why.startswith("sub, mul, div: a VM of its own in the back network dietro")
    assert found.there


def test_services_that_share_one_of_several_vms_are_where_they_answer() -> None:
    said = Said(
        {},
        {
            f"10.9.0.21:{port}": name
            for port, name in zip(range(50001, 50005), ("sum", "sub", "mul", "div"), strict=True)
        },
    )
    found = roles(two_networks(), said).two_networks
    assert all(role.thing for role in found.hosts.values())
    assert {
        found.hosts[place.host].thing.name for name, place in found.services.items() if name != "calculator"
    } == {"uno"}  # type: ignore[union-attr]
    assert all(place.apart for place in found.services.values())


def test_every_service_on_every_vm_gets_each_a_vm_of_its_own() -> None:
    said = Said({}, {
        f"10.9.0.{last}:{port}": name
        for last in (21, 12, 33, 4)
        for port, name in zip(range(50001, 50005), ("sum", "sub", "mul", "div"), strict=True)
    })  # fmt: skip
    found = roles(two_networks(), said).two_networks
    assert sorted(str(each) for each in players(found).values()) == sorted(HEALTHY.values())
    assert {name: place.host for name, place in found.services.items()} == {
        name: name for name in ("sum", "sub", "mul", "div", "calculator")
    }


def test_what_the_submission_names_overrides_what_is_found() -> None:
    found = roles(two_networks(), SAID, sum="due", sub="uno").two_networks
    assert (players(found)["sum"], players(found)["sub"]) == ("due", "uno")
    assert found.services["sum"].apart
    by_id = next(each.id for each in two_networks().have.servers if each.name == "tre")
    assert players(roles(two_networks(), SAID, div=by_id).two_networks)["div"] == "tre"


def test_a_name_that_nothing_or_several_have_is_told() -> None:
    found = roles(two_networks(), SAID, calculator="calcolatrce", second_router="x").two_networks
    assert found.hosts["calculator"].missing.startswith(
        "[roles] calculator = 'calcolatrce': the project has no VM of that name or id; it has calcolatrice"
    )
    assert found.routers["RT2"].missing.startswith("[roles] second_router = 'x': the project has no router")
    built = two_networks()
    built.server("uno", "davanti", "172.20.1.44")
    assert (
        "2 VMs are named so; write the id of one"
        in roles(built, SAID, sum="uno").two_networks.hosts["sum"].ambiguous
    )


def test_where_nothing_else_has_a_floating_ip_the_calculators_vm_is_the_one_vm() -> None:
    found = roles(with_clutter(two_networks()))
    assert players(found.one_vm) == {"private": "davanti", "RT1": "porta", "vm": "calcolatrice"}


def test_of_several_vms_the_one_that_lets_ping_and_ssh_in_is_the_one_vm() -> None:
    built = one_vm()
    shut = built.group("chiuso")
    built.server("altra", "casa", "10.5.7.30", shut, floating_ip="192.168.37.29")
    assert players(roles(built).one_vm)["vm"] == "macchina"
    solo = next(each for each in built.have.security_groups if each.name == "solo")
    built.server("gemella", "casa", "10.5.7.31", solo, floating_ip="192.168.37.30")
    assert roles(built).one_vm.hosts["vm"].ambiguous.endswith("[roles] vm = …")
    assert players(roles(built, SAID, vm="gemella").one_vm)["vm"] == "gemella"


def shuffled(have: Holdings, seed: int) -> Holdings:
    """Everything renamed, and listed in another order."""
    chance = random.Random(seed)

    def word() -> str:
        return "".join(chance.choices(string.ascii_letters + " -_é", k=chance.randint(1, 9)))

    lists: dict[str, Any] = {}
    for field in ("networks", "routers", "ports", "floating_ips", "security_groups", "servers"):
        items = [
            replace(each, name=word()) if hasattr(each, "name") else each for each in getattr(have, field)
        ]
        chance.shuffle(items)
        lists[field] = tuple(items)
    return replace(have, **lists)


WORLDS = [
    with_clutter(two_networks()).have,
    *(with_clutter(two_networks(**changes)).have for changes in BROKEN.values()),
    with_clutter(one_vm(two_tier(two_networks()))).have,
    two_networks(services={"tutti": "10.9.0.21"}).have,
]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(range(len(WORLDS))), st.integers())
def test_names_and_order_never_change_who_plays_what(world: int, seed: int) -> None:
    have = WORLDS[world]
    said = Said(SAID._ports, SAID._services | TIER_SAID)
    before, after = find(have, EXTERNAL, said), find(shuffled(have, seed), EXTERNAL, said)
    for topology in ("two-networks", "two-tier", "operations"):
        one, other = before.arrangement(topology), after.arrangement(topology)
        assert {name: role.thing and role.thing.id for name, role in one.roles()} == {
            name: role.thing and role.thing.id for name, role in other.roles()
        }
        assert one.services == other.services
        assert [bool(role.missing) for _, role in one.roles()] == [
            bool(role.missing) for _, role in other.roles()
        ]
