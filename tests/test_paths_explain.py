"""What is said where the measurement and the configuration do not agree, and what else is known."""

from __future__ import annotations

import json
from ipaddress import IPv4Address

import pytest

from probes.observation import Observation, Outcome
from provision.paths.configuration import ICMP, Configuration, Traffic
from provision.paths.elsewhere import elsewhere
from provision.paths.explain import explain
from provision.paths.intention import intended
from provision.paths.measured import Question, asked, measured
from provision.paths.steps import Hop, Path, State
from provision.paths.walk import walk
from tests.paths_world import both, healthy, leg, network, no_route, no_rules, port, server, topology, unseen

TWO = topology("two-networks")
SUM = IPv4Address("30.4.5.215")
TCP = Traffic("tcp", 50001)


def look(source: str, target: str, outcome: Outcome, port: int = 0, started: float = 1.0) -> Observation:
    numbers = {"port": float(port)} if port else {}
    return Observation("tcp" if port else "ping", source, target, "", outcome, "", numbers, started, 0.1)


def test_a_packet_that_dies_though_all_is_configured_is_said_to() -> None:
    lines = explain(TWO, healthy("two-networks"), "calculator", "sum", TCP, Outcome.FILTERED)
    assert lines[0] == "as configured it should arrive, and it was filtered"
    assert lines[-1] == (
        "calculator -> 30.4.5.215 tcp 50001: as configured reachable, intended reachable, measured filtered"
    )


def test_what_is_merely_reported_down_is_told_with_a_packet_that_dies() -> None:
    broken = leg("RT2", "front", status="DOWN")(healthy("two-networks"))
    lines = explain(TWO, broken, "calculator", "sum", ICMP, Outcome.FILTERED)
    assert lines[0].startswith("as configured it should arrive")
    assert any("RT2's leg in front (20.4.5.4) is DOWN" in line for line in lines), lines


def test_other_measurements_confirm_steps() -> None:
    others = [
        look("sub", "30.4.5.215", Outcome.REACHABLE, 50001),
        look("calculator", "20.4.5.4", Outcome.REACHABLE),
    ]
    lines = explain(TWO, healthy("two-networks"), "calculator", "sum", TCP, Outcome.FILTERED, others=others)
    assert "sub reached 30.4.5.215 (tcp 50001), so the target itself is as it should be" in lines
    assert "calculator reached 20.4.5.4, so its own network is there" in lines


def test_where_it_was_last_seen_is_said() -> None:
    def watch(path: Path) -> dict[Hop, bool]:
        known = {"calculator": True, "RT2": False}
        return {
            hop: known[hop.of] or hop.network == "front"
            for hop in path.hops
            if hop.of in known and hop.way == "there"
        }

    lines = explain(TWO, healthy("two-networks"), "calculator", "sum", TCP, Outcome.FILTERED, watch=watch)
    assert "it was seen at RT2's side of front 20.4.5.4 and not at RT2's side of back 30.4.5.1" in lines[0]


def test_the_reply_that_is_lost_is_said_to_be_the_reply() -> None:
    def watch(path: Path) -> dict[Hop, bool]:
        return {hop: hop.way == "there" or hop.of == "sum" for hop in path.hops}

    lines = explain(TWO, healthy("two-networks"), "calculator", "sum", TCP, Outcome.FILTERED, watch=watch)
    assert "; its reply was seen at sum's side of back" in lines[0], lines
    nowhere = explain(
        TWO, healthy("two-networks"), "calculator", "sum", TCP, Outcome.FILTERED,
        watch=lambda path: dict.fromkeys(path.hops, False),
    )  # fmt: skip
    assert "it was not seen at calculator's side of front 20.4.5.88" in nowhere[0]


def test_an_answer_that_configuration_does_not_allow_is_said_to_be_one() -> None:
    lines = explain(TWO, healthy("two-networks"), "desktop", "sum", ICMP, Outcome.REACHABLE)
    assert lines[0] == (
        "as configured it does not arrive (no way leads from the public network into back: "
        "30.4.5.215 is not routed there), and yet it was reachable"
    )


def test_what_is_not_meant_to_arrive_and_does_not_is_as_intended() -> None:
    lines = explain(TWO, healthy("two-networks"), "desktop", "sum", ICMP, Outcome.UNREACHABLE)
    assert lines[0].startswith(
        "as intended it does not arrive: no way leads from the public network into back"
    )


def test_a_guest_that_was_not_seen_is_taken_as_intended_and_said_to_be() -> None:
    dark = unseen("sum", "calculator")(healthy("two-networks"))
    assert explain(TWO, dark, "calculator", "sum", TCP) == []
    lines = explain(TWO, dark, "calculator", "sum", TCP, Outcome.FILTERED)
    assert "sum could not be looked into: its routes and processes are taken as intended" in lines
    path = walk(dark, intended(TWO, dark), "calculator", SUM, TCP)
    assert {step.kind for step in path.steps if step.state is State.UNSEEN} == {"guest", "route", "process"}


def test_dhcp_off_is_told_where_the_guest_was_not_seen() -> None:
    broken = both(network("back", dhcp=False), unseen("sum"))(healthy("two-networks"))
    lines = explain(TWO, broken, "calculator", "sum", ICMP, Outcome.FILTERED)
    assert any(
        "network back has DHCP off, so sum may have no address; intended: on" in line for line in lines
    ), lines


def test_differences_elsewhere_come_last_and_without_what_is_said_already() -> None:
    broken = no_route("calculator", "30.4.5.0/24")(healthy("two-networks"))
    elsewhere = [
        "router RT2 has no leg in front; intended 20.4.5.4",
        "server div is SHUTOFF; intended ACTIVE",
    ]
    lines = explain(TWO, broken, "calculator", "sum", TCP, elsewhere=elsewhere)
    assert lines[0].startswith("calculator has no route")
    assert lines[-1] == "elsewhere: server div is SHUTOFF; intended ACTIVE"
    assert not any("elsewhere: router RT2" in line for line in lines)


@pytest.mark.parametrize("name", ["two-networks", "two-tier", "operations", "single"])
def test_nothing_is_elsewhere_where_all_is_as_intended(name: str) -> None:
    assert elsewhere(topology(name), healthy(name)) == []
    broken = leg(
        healthy(name).routers[0].name,
        healthy(name).routers[0].legs[0].network,
        address=IPv4Address("9.9.9.9"),
    )
    assert len(elsewhere(topology(name), broken(healthy(name)))) == 1


def test_a_difference_off_the_path_explains_nothing() -> None:
    broken = both(server("div", status="SHUTOFF"), no_rules("calculator"))(healthy("two-networks"))
    assert explain(TWO, broken, "calculator", "sum", TCP) == []


def test_a_server_that_is_not_of_the_topology_has_no_intention() -> None:
    made = healthy("operations")
    stranger = port("vm", security_groups=("lab",))(made).servers[0]
    there = Configuration(
        **{**vars(made), "servers": (*made.servers, stranger.__class__("growing", stranger.ports))}
    )
    assert explain(topology("operations"), there, "growing", IPv4Address("198.51.100.8"), ICMP) == []


def test_a_target_without_an_address_is_refused() -> None:
    with pytest.raises(ValueError, match="nowhere has no address that calculator could ask"):
        explain(TWO, healthy("two-networks"), "calculator", "nowhere", ICMP)


@pytest.mark.parametrize("text", ["udp 53", "tcp", "tcp 0", "tcp 65536", "tcp x", "", "icmp 8"])
def test_traffic_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither icmp nor tcp"):
        Traffic.parse(text)


def test_paths_and_configurations_are_plain_values_for_a_file() -> None:
    made = healthy("two-networks")
    path = walk(made, made, "calculator", SUM, TCP)
    document = json.loads(json.dumps(path.as_json()))
    assert document["outcome"] == "reachable"
    assert [str(hop) for hop in path.hops][:2] == [
        "calculator's side of front 20.4.5.88",
        "RT2's side of front 20.4.5.4",
    ]
    configuration = json.loads(json.dumps(made.as_json()))
    assert configuration["servers"][0]["ports"][0]["addresses"] == ["20.4.5.88"]
    assert configuration["guests"]["sum"]["listening"] == [["*", 22], ["*", 50001]]


@pytest.mark.parametrize(
    ("seen", "question"),
    [
        (look("a", "10.0.0.1", Outcome.FILTERED), Question("a", IPv4Address("10.0.0.1"), ICMP)),
        (
            look("a", "10.0.0.1", Outcome.REFUSED, 80),
            Question("a", IPv4Address("10.0.0.1"), Traffic("tcp", 80)),
        ),
        (
            Observation("http", "a", "http://10.0.0.1:50000/x", "curl", Outcome.FILTERED),
            Question("a", IPv4Address("10.0.0.1"), Traffic("tcp", 50000)),
        ),
        (
            Observation("http", "a", "https://10.0.0.1/", "curl", Outcome.FILTERED),
            Question("a", IPv4Address("10.0.0.1"), Traffic("tcp", 443)),
        ),
        (Observation("http", "a", "http://[::1]:99999/", "curl", Outcome.FILTERED), None),
        (Observation("http", "a", "http://name/", "curl", Outcome.FILTERED), None),
        (Observation("tcp", "a", "10.0.0.1", "", Outcome.FILTERED), None),
        (Observation("command", "a", "10.0.0.1", "id", Outcome.SEEN), None),
        (look("a", "name", Outcome.FILTERED), None),
    ],
)
def test_what_a_look_asked_is_read_from_it(seen: Observation, question: Question | None) -> None:
    assert asked(seen) == question


def test_the_last_answer_counts_and_a_look_not_made_is_none() -> None:
    looks = [
        look("a", "10.0.0.1", Outcome.NOT_MADE, started=9.0),
        look("a", "10.0.0.1", Outcome.REACHABLE, started=5.0),
        look("a", "10.0.0.1", Outcome.FILTERED, started=3.0),
    ]
    assert measured(looks).answers == {Question("a", IPv4Address("10.0.0.1"), ICMP): Outcome.REACHABLE}
