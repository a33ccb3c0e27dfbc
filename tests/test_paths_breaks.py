"""A configuration that is broken at one place: the explanation's first sentence names it, and so does the outcome."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from typing import NamedTuple

import pytest

from probes.guest import FilterRule
from probes.observation import Outcome
from provision.holdings import RuleKey
from provision.paths.configuration import RouterRoute, Traffic
from provision.paths.explain import explain
from provision.paths.intention import intended
from provision.paths.walk import walk
from tests.paths_world import (
    OUTSIDE,
    Break,
    both,
    floating,
    guest,
    healthy,
    leg,
    listening,
    more_floating,
    more_leg,
    more_rule,
    network,
    no_floating,
    no_group,
    no_leg,
    no_route,
    no_router,
    no_rules,
    no_server,
    other_rule,
    port,
    reroute,
    router,
    server,
    topology,
    unseen,
)

REACHABLE, FILTERED, REFUSED = Outcome.REACHABLE, Outcome.FILTERED, Outcome.REFUSED
NO_ROUTE, UNREACHABLE, NOT_MADE = Outcome.NO_ROUTE, Outcome.UNREACHABLE, Outcome.NOT_MADE
TWO, ONE, TIER = "two-networks", "operations", "two-tier"
SUM, CALCULATOR = IPv4Address("30.4.5.215"), IPv4Address("20.4.5.88")


class Case(NamedTuple):
    """A break, the question that shows it, the first sentence, and the outcome predicted."""

    topology: str
    put_in: Break
    source: str
    target: str
    what: str
    says: str
    outcome: Outcome


def ingress(protocol: str | None, ports: tuple[int, int] | None, group: str | None = None) -> RuleKey:
    return RuleKey("ingress", "IPv4", protocol, ports, None, group)


CASES = {
    "no static route": Case(
        TWO, no_route("calculator", "30.4.5.0/24"), "calculator", "sum", "icmp",
        "calculator has no route to 30.4.5.0/24; RT2's leg 20.4.5.4 would lead there", FILTERED),
    "no static route, for the reply": Case(
        TWO, no_route("calculator", "30.4.5.0/24"), "sum", "calculator", "icmp",
        "the reply finds no way: calculator has no route to 30.4.5.0/24; RT2's leg 20.4.5.4 would lead there", FILTERED),
    "static route through the first router": Case(
        TWO, reroute("calculator", "30.4.5.0/24", "20.4.5.1"), "calculator", "sum", "tcp 50001",
        "calculator sends 30.4.5.0/24 to 20.4.5.1 (RT1's leg); intended: to 20.4.5.4 (RT2's leg)", FILTERED),
    "static route to nobody": Case(
        TWO, reroute("calculator", "30.4.5.0/24", "20.4.5.40"), "calculator", "sum", "icmp",
        "calculator sends 30.4.5.0/24 to 20.4.5.40; intended: to 20.4.5.4 (RT2's leg)", UNREACHABLE),
    "static route to a server": Case(
        TIER, reroute("plus", "0.0.0.0/0", "12.7.5.104"), "plus", "198.51.100.8", "icmp",
        "plus's default route leads to 12.7.5.104; intended: to 12.7.5.1 (router's leg)", FILTERED),
    "a route that refuses": Case(
        TWO, reroute("calculator", "30.4.5.0/24", None, refuses=True), "calculator", "sum", "icmp",
        "calculator's routing table refuses 30.4.5.0/24", NO_ROUTE),
    "no default route": Case(
        ONE, no_route("vm", "0.0.0.0/0"), "vm", "198.51.100.8", "icmp",
        "vm has no default route; RT1's leg 10.5.7.1 would lead there", NO_ROUTE),
    "no default route, for the reply to the desktop": Case(
        ONE, no_route("vm", "0.0.0.0/0"), "desktop", "vm", "tcp 22", "vm has no default route", FILTERED),
    "the second router as gateway": Case(
        TWO, both(network("front", gateway=IPv4Address("20.4.5.4")), reroute("calculator", "0.0.0.0/0", "20.4.5.4")),
        "desktop", "calculator", "icmp",
        "calculator's default route leads to 20.4.5.4 (RT2's leg); intended: to 20.4.5.1 (RT1's leg); "
        "the gateway of front is set to 20.4.5.4", FILTERED),
    "the second router as gateway, guest not seen": Case(
        TWO, both(network("front", gateway=IPv4Address("20.4.5.4")), unseen("calculator")),
        "desktop", "calculator", "icmp", "the gateway of front is set to 20.4.5.4", FILTERED),
    "second router without its leg in front": Case(
        TWO, no_leg("RT2", "front"), "calculator", "sum", "icmp",
        "RT2 has no leg in front; intended 20.4.5.4", UNREACHABLE),
    "second router's leg at another address": Case(
        TWO, leg("RT2", "front", address=IPv4Address("20.4.5.9")), "calculator", "sum", "icmp",
        "RT2's leg in front is 20.4.5.9; intended 20.4.5.4", UNREACHABLE),
    "second router without its leg in back": Case(
        TWO, no_leg("RT2", "back"), "calculator", "sum", "icmp",
        "RT2 has no leg in back; intended 30.4.5.1", UNREACHABLE),
    "second router gone": Case(
        TWO, no_router("RT2"), "calculator", "sum", "icmp",
        "router RT2 is not there; intended with a leg 20.4.5.4 in front", UNREACHABLE),
    "second router switched off": Case(
        TWO, router("RT2", admin_up=False), "calculator", "sum", "icmp",
        "router RT2 is switched off (admin state down)", FILTERED),
    "second router with a gateway of its own": Case(
        TWO, router("RT2", external="public"), "sum", "198.51.100.8", "icmp",
        "RT2 has an external gateway on public; intended: none", REACHABLE),
    "first router without its gateway": Case(
        TWO, router("RT1", external=None, external_address=None), "desktop", "calculator", "icmp",
        "RT1 has no external gateway; intended: on public", UNREACHABLE),
    "first router without its gateway, outwards": Case(
        ONE, router("RT1", external=None, external_address=None), "vm", "198.51.100.8", "icmp",
        "RT1 has no external gateway; intended: on public", UNREACHABLE),
    "first router without its leg": Case(
        ONE, no_leg("RT1", "private"), "desktop", "vm", "icmp",
        "RT1 has no leg in private; intended 10.5.7.1", UNREACHABLE),
    "first router gone": Case(
        ONE, no_router("RT1"), "desktop", "vm", "icmp",
        "router RT1 is not there; intended between private and public", UNREACHABLE),
    "a router that does not translate": Case(
        TIER, router("router", snat=False), "plus", "198.51.100.8", "icmp",
        "router does not translate plus's address (SNAT is off), so no reply finds it", FILTERED),
    "a leg too many, and the route by it": Case(
        TWO, both(more_leg("RT1", "back", "30.4.5.9"), reroute("calculator", "30.4.5.0/24", "20.4.5.1")),
        "calculator", "sum", "icmp", "calculator sends 30.4.5.0/24 to 20.4.5.1 (RT1's leg); intended: to 20.4.5.4",
        REACHABLE),
    "a leg reported down": Case(
        TWO, leg("RT2", "front", status="DOWN"), "calculator", "sum", "icmp",
        "RT2's leg in front (20.4.5.4) is DOWN", REACHABLE),
    "floating IP to nothing": Case(
        ONE, floating("vm", server=None, fixed=None, status="DOWN"), "desktop", "vm", "icmp",
        "floating IP 192.168.37.3 leads to nothing; intended: to vm", UNREACHABLE),
    "floating IP gone": Case(
        ONE, no_floating("vm"), "desktop", "192.168.37.3", "icmp",
        "there is no floating IP 192.168.37.3; intended: to vm", UNREACHABLE),
    "floating IP on the wrong VM": Case(
        ONE, floating("vm", server="guarded", fixed=IPv4Address("10.5.7.3")), "desktop", "192.168.37.3", "tcp 22",
        "floating IP 192.168.37.3 leads to port of guarded, not vm", FILTERED),
    "floating IP where none is meant to be": Case(
        TIER, more_floating("192.168.37.77", "plus"), "desktop", "192.168.37.77", "icmp",
        "floating IP 192.168.37.77 leads to plus; intended: no floating IP", REACHABLE),
    "port outside of those the campus lets through": Case(
        TIER, both(listening("calculator", ("*", 80)), more_rule("calculator", ingress("tcp", (80, 80)))),
        "desktop", "calculator", "tcp 80",
        "rule tcp 80 from anywhere of security group calculator lets tcp 80 in from desktop; intended: nothing", FILTERED),
    "server stopped": Case(
        ONE, server("vm", status="SHUTOFF"), "desktop", "vm", "icmp", "server vm is SHUTOFF", UNREACHABLE),
    "server stopped, as source": Case(
        ONE, server("vm", status="SHUTOFF"), "vm", "guarded", "icmp", "server vm is SHUTOFF", NOT_MADE),
    "server in error": Case(
        TWO, server("div", status="ERROR", fault="No valid host was found"), "calculator", "div", "tcp 50004",
        "server div is ERROR (No valid host was found)", UNREACHABLE),
    "server gone": Case(TWO, no_server("mul"), "calculator", "30.4.5.120", "icmp", "server mul is not there", UNREACHABLE),
    "server at another address": Case(
        TWO, both(port("mul", addresses=(IPv4Address("30.4.5.99"),)),
                  guest("mul", lambda g: replace(g, addresses=(IPv4Interface("30.4.5.99/24"),)))),
        "calculator", "30.4.5.120", "icmp",
        "mul has 30.4.5.99 in back; intended 30.4.5.120 in back", UNREACHABLE),
    "guest with another address than its port": Case(
        TWO, guest("sum", lambda g: replace(g, addresses=(IPv4Interface("30.4.5.77/24"),))), "calculator", "sum", "icmp",
        "sum does not have its address 30.4.5.215; it has 30.4.5.77", UNREACHABLE),
    "guest with another address than its port, as source": Case(
        TWO, guest("sum", lambda g: replace(g, addresses=(IPv4Interface("30.4.5.77/24"),))), "sum", "calculator", "icmp",
        "sum does not have its address 30.4.5.215; it has 30.4.5.77", FILTERED),
    "guest without an address": Case(
        TWO, both(network("back", dhcp=False), guest("sum", lambda g: replace(g, addresses=(), routes=()))),
        "sum", "calculator", "icmp", "network back has DHCP off, so sum may have no address; intended: on", NO_ROUTE),
    "address twice": Case(
        TWO, guest("mul", lambda g: replace(g, addresses=(*g.addresses, IPv4Interface("30.4.5.215/24")))),
        "calculator", "sum", "icmp", "mul has 30.4.5.215 too, which is sum's", REACHABLE),
    "port switched off": Case(
        TWO, port("sum", admin_up=False), "calculator", "sum", "icmp",
        "sum's port in back is switched off (admin state down)", FILTERED),
    "port reported down": Case(
        TWO, port("sum", status="DOWN"), "calculator", "sum", "icmp", "sum's port in back is DOWN", REACHABLE),
    "port security off": Case(
        ONE, port("guarded", port_security=False, security_groups=()), "desktop", "guarded", "icmp",
        "port security is off for guarded's port, so no security group applies; intended: on", REACHABLE),
    "no rule for ping": Case(
        ONE, no_rules("lab", protocol="icmp"), "desktop", "vm", "icmp",
        "no rule of security group lab lets icmp in from desktop; intended: icmp from anywhere", FILTERED),
    "no rule for a service": Case(
        TWO, no_rules("services"), "calculator", "mul", "tcp 50003",
        "no rule of security group services lets tcp 50003 in from calculator; "
        "intended: tcp 50001-50004 from group lab", FILTERED),
    "a typo in a rule's port": Case(
        TIER, other_rule("calculator", "tcp", ports=(5010, 5010)), "desktop", "calculator", "tcp 50010",
        "no rule of security group calculator lets tcp 50010 in from desktop; intended: tcp 50000-50050 from anywhere; "
        "it has ingress tcp 5010 from anywhere instead", FILTERED),
    "a rule for output instead of input": Case(
        TWO, other_rule("services", "tcp", direction="egress"), "calculator", "sum", "tcp 50001",
        "no rule of security group services lets tcp 50001 in from calculator; intended: tcp 50001-50004 from group lab; "
        "it has egress tcp 50001-50004 to group lab instead", FILTERED),
    "udp instead of tcp": Case(
        TWO, other_rule("services", "tcp", protocol="udp"), "calculator", "sum", "tcp 50001",
        "it has ingress udp 50001-50004 from group lab instead", FILTERED),
    "a rule for another network": Case(
        TWO, other_rule("calculator", "tcp", remote="10.9.0.0/16"), "desktop", "calculator", "tcp 50000",
        "it has ingress tcp 50000-50050 from 10.9.0.0/16 instead", FILTERED),
    "no rule outwards": Case(
        TWO, no_rules("lab", "egress"), "calculator", "sum", "icmp",
        "no rule of security group lab lets icmp out of calculator to sum; intended: anything to anywhere", FILTERED),
    "target not in its group": Case(
        TWO, port("div", security_groups=("lab",)), "calculator", "div", "tcp 50004",
        "div is not in security group services, whose rule tcp 50001-50004 from group lab is meant to let", FILTERED),
    "target in no group": Case(
        ONE, port("vm", security_groups=()), "desktop", "vm", "icmp", "vm is not in security group lab", FILTERED),
    "source not in the group that may": Case(
        TWO, both(port("calculator", security_groups=("calculator", "out")),
                  lambda c: replace(c, groups=(*c.groups, replace(c.groups[0], name="out")))),
        "calculator", "sum", "tcp 50001",
        "rule tcp 50001-50004 from group lab of security group services does not let tcp 50001 in from calculator: "
            "calculator (20.4.5.88) is not in group lab", FILTERED),
    "security group gone": Case(
        TWO, both(no_group("services"), port("sum", security_groups=("lab", "services"))), "calculator", "sum", "tcp 50001",
        "no rule of security group services, which is not there, lets tcp 50001 in from calculator", FILTERED),
    "a rule too many": Case(
        ONE, more_rule("closed", ingress("icmp", None)), "desktop", "guarded", "icmp",
        "rule icmp from anywhere of security group closed lets icmp in from desktop; intended: nothing", REACHABLE),
    "nothing listens": Case(
        TWO, listening("div"), "calculator", "div", "tcp 50004", "nothing listens on tcp 50004 of div", REFUSED),
    "listens on another port": Case(
        TIER, listening("calculator", ("*", 5010)), "desktop", "calculator", "tcp 50010",
        "nothing listens on tcp 50010 of calculator; something listens on tcp 5010", REFUSED),
    "listens on the loopback": Case(
        TWO, listening("sum", ("127.0.0.1", 50001)), "calculator", "sum", "tcp 50001",
        "sum listens on 127.0.0.1:50001, not 30.4.5.215:50001", REFUSED),
    "SSH stopped": Case(
        ONE, guest("vm", lambda g: replace(g, listening=frozenset())), "desktop", "vm", "tcp 22",
        "nothing listens on tcp 22 of vm", REFUSED),
    "a packet filter that drops": Case(
        TWO, guest("sum", lambda g: replace(g, filter=(FilterRule("DROP", "tcp", ((50001, 50001),), text="-A INPUT x"),))),
        "calculator", "sum", "tcp 50001", "sum's own packet filter keeps tcp 50001 out: -A INPUT x", FILTERED),
    "a packet filter that refuses": Case(
        TWO, guest("sum", lambda g: replace(g, filter=(FilterRule("REJECT", text="-A INPUT -j REJECT"),))),
        "calculator", "sum", "tcp 50001", "sum's own packet filter keeps tcp 50001 out", REFUSED),
    "a packet filter that lets nothing in": Case(
        TWO, guest("sum", lambda g: replace(g, policy="DROP")), "calculator", "sum", "icmp",
        "sum's own packet filter keeps icmp out: -P INPUT DROP", FILTERED),
    "routers that send in a circle": Case(
        TWO, both(no_leg("RT2", "back"),
                  router("RT1", routes=(RouterRoute(intended(topology(TWO)).networks[2].cidr, IPv4Address("20.4.5.4")),)),
                  lambda c: router("RT2", legs=c.router("RT2").legs,
                                   routes=(RouterRoute(c.networks[2].cidr, IPv4Address("20.4.5.1")),))(c)),
        "calculator", "sum", "icmp", "RT2 has no leg in back; intended 30.4.5.1", FILTERED),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_first_sentence_names_what_is_broken(case: Case) -> None:
    broken = case.put_in(healthy(case.topology))
    lines = explain(topology(case.topology), broken, case.source, case.target, Traffic.parse(case.what))
    assert lines, "nothing is explained"
    assert case.says in lines[0], "\n".join(lines)
    assert f"as configured {case.outcome}," in "\n".join(lines)


def test_there_are_enough_breaks_and_each_has_a_sentence_of_its_own() -> None:
    assert len({case.says for case in CASES.values() if case.says}) >= 50


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_unbroken_the_same_question_explains_nothing(case: Case) -> None:
    known = healthy(case.topology)
    if case.what == "tcp 80" or "77" in case.target or case.target == str(OUTSIDE):
        return  # not asked of the healthy lab: there it is not meant to be answered, or not known
    assert explain(topology(case.topology), known, case.source, case.target, Traffic.parse(case.what)) == []


def test_a_leg_that_is_not_intended_is_told_where_it_is_used() -> None:
    case = CASES["a leg too many, and the route by it"]
    lines = explain(topology(TWO), case.put_in(healthy(TWO)), "calculator", "sum", Traffic("icmp"))
    assert lines[1] == "RT1 has a leg in back (30.4.5.9); intended: none"


def test_two_broken_steps_are_both_told_the_first_first() -> None:
    broken = both(no_route("calculator", "30.4.5.0/24"), no_rules("services"), listening("sum"))(healthy(TWO))
    lines = explain(topology(TWO), broken, "calculator", "sum", Traffic("tcp", 50001))
    assert lines[0].startswith("calculator has no route to 30.4.5.0/24")
    assert any(line.startswith("also: no rule of security group services") for line in lines), lines
    assert any(line.startswith("also: nothing listens on tcp 50001 of sum") for line in lines), lines


def test_what_is_met_astray_is_not_told_as_broken() -> None:
    broken = floating("vm", server="guarded", fixed=IPv4Address("10.5.7.3"))(healthy(ONE))
    lines = explain(topology(ONE), broken, "desktop", IPv4Address("192.168.37.3"), Traffic("icmp"))
    assert "guarded, not vm" in lines[0]
    assert not any(line.startswith("also:") for line in lines), lines


def test_a_reply_over_another_router_is_no_fault_where_it_arrives() -> None:
    """A second way back that works: the routers keep no state of what is not translated."""
    extra = RouterRoute(healthy(TWO).networks[2].cidr, IPv4Address("20.4.5.4"))  # type: ignore[arg-type]
    broken = both(no_route("calculator", "30.4.5.0/24"), router("RT1", routes=(extra,)))(healthy(TWO))
    known = intended(topology(TWO), broken)
    path = walk(broken, known, "sum", CALCULATOR, Traffic("icmp"))
    assert path.arrives, str(path)
    assert [step.of for step in path.steps if step.way == "back" and step.kind == "router"] == ["RT1", "RT2"]
