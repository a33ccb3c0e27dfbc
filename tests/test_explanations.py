"""Explanations beside verdicts: they come with what failed, they turn nothing, and they do not hold a run up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures import explanations as module
from fixtures.explainers import Case, ask
from fixtures.explanations import Explanations
from probes.observation import Observation, Outcome, Unproven, evidence
from probes.prove import OtherThanExpected
from probes.shell import CommandResult, HostError
from provision.deployment import DeployedHost
from provision.mark import Mark
from provision.paths.configuration import Configuration
from provision.paths.matrix import Matrix
from tests.inner_runs import ran
from tests.paths_world import Break, floating, healthy, no_route, no_rules, server, topology

INNER = """
from fixtures.explainers import Case
from probes.host import LocalHost
from probes.reach import reached, tcp

@pytest.fixture(scope="session", autouse=True)
def explained(explainers):
    explainers.extend([says, breaks, hangs])

def says(case):
    look(source="explainer", command="list routers")
    blamed = ", ".join(f"{each.probe} {each.target}" for each in case.blamed)
    return [f"blamed: {blamed or 'none'} of {len(case.seen)}, acts {case.acts}", "a line\\nof two \\x1b[31mred"]

def breaks(case):
    raise KeyError("router")

def hangs(case):
    time.sleep(60)

@claim("OS-07")
def test_passes():
    look()

@claim("OS-05")
def test_fails():
    look()
    with LocalHost("desktop") as desktop:
        reached(tcp(desktop, "127.0.0.1", 9, window=1.0))

@pytest.mark.acts
@claim("OS-06")
def test_unproven():
    raise Unproven("the API was down")

@claim("OS-08")
def test_breaks():
    {}["ttl"]

@claim("CT-01")
def test_skips():
    pytest.skip("no Docker")
"""


def test_a_diagnosis_gets_its_explanation_and_no_verdict_turns(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fixtures.explainers.WITHIN", 0.2)
    monkeypatch.setattr("fixtures.explainers.ask.__defaults__", (0.2,))
    began = time.monotonic()
    checks = ran(pytester, INNER).checks
    assert time.monotonic() - began < 30
    verdicts = {name: check["verdict"] for name, check in checks.items()}
    assert verdicts == {
        "test_passes": "pass",
        "test_fails": "fail",
        "test_unproven": "unproven",
        "test_breaks": "unproven",
        "test_skips": "skip",
    }
    last = checks["test_fails"]["diagnosis"][-4:]
    assert last == [
        "blamed: tcp 127.0.0.1 of 2, acts False",
        "a line",
        "no explanation could be made: KeyError: 'router'",
        "no explanation could be made within 0.2 s",
    ]
    told = "1 of 1 not reached that should be: blamed: tcp 127.0.0.1 of 2, acts False"
    assert checks["test_fails"]["reason"] == told, (
        "in one line there is nothing after the colon but the cause"
    )
    assert checks["test_unproven"]["reason"] == "the API was down"
    assert checks["test_unproven"]["diagnosis"][1] == "blamed: none of 0, acts True"
    assert "explainer" in checks["test_fails"]["where"], "what was looked at for it is evidence"
    assert checks["test_passes"]["diagnosis"] == checks["test_skips"]["diagnosis"] == []


def test_what_an_explainer_sees_too_late_is_in_nobodys_evidence() -> None:
    def late(_case: Case) -> list[str]:
        time.sleep(0.3)
        evidence.add(Observation("api", "x", "y", "z", Outcome.SEEN))
        return ["late"]

    with evidence.collect() as seen:
        assert ask([late], Case((), (), acts=False), 0.05) == ["no explanation could be made within 0.05 s"]
        time.sleep(0.5)
    assert seen == []


class Guest:
    """A host that answers the one command by which a guest is looked into."""

    def __init__(self, name: str, output: str | None) -> None:
        self.name = name
        self.output = output
        self.asked: list[str] = []

    def run(self, command: str, *args: object, timeout: float = 10.0) -> CommandResult:
        self.asked.append(command)
        if self.output is None:
            raise HostError(f"{self.name}: no way in")
        if "route get" in command:
            return CommandResult(
                command, 0, "192.168.37.3 via 10.1.0.254 dev eth0 src 10.1.5.89 uid 0\n", "", 0.0
            )
        return CommandResult(command, 0, self.output, "", 0.0)

    @property
    def testinfra(self) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        pass


def printed(guest: Any) -> str:
    """What a guest's tools print of itself."""
    lines = ["== addresses", *(f"2: eth0 inet {each}" for each in guest.addresses), "== routes"]
    for route in guest.routes:
        to = "default" if route.destination.prefixlen == 0 else str(route.destination)
        lines.append(f"{to} via {route.via} dev eth0" if route.via else f"{to} dev eth0")
    lines.append("== listening")
    for _address, port in guest.listening:
        lines.append(f"00000000:{port:04X}")
    return "\n".join([*lines, "== forwarding", "0", "== filter", "== end", ""])


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Explanations, Any, list[Matrix]]]:
    """``lab("two-networks", a_break)``: explanations of a topology that stands, broken so; the cloud's answer is given."""

    def standing(name: str, put_in: Break = lambda c: c, *, dead: tuple[str, ...] = ()) -> Any:
        wanted, whole = topology(name), healthy(name)
        there = put_in(whole)
        monkeypatch.setattr(
            "provision.paths.cloud.read",
            lambda cloud, topology, mark, beyond: replace(
                there, guests={}, promised={}, beyond=tuple(beyond)
            ),
        )
        promised = {f.meant: f.address for f in whole.floating_ips}
        made = {
            s.name: DeployedHost(
                s.name, "", s.name, s.ports[0].addresses[0], promised.get(s.name), None, "", ""
            )
            for s in whole.servers
        }
        guests = {n: Guest(n, None if n in dead else printed(there.guests[n])) for n in made}
        deployment = SimpleNamespace(mark=Mark("ab12c", name), hosts=made)
        matrices: list[Matrix] = []
        box: Any = SimpleNamespace(driver="box", outside=IPv4Address("198.51.100.8"))
        desktop = Guest("desktop", "== addresses\n== routes\ndefault via 10.1.0.254 dev eth0\n== end\n")
        cloud: Any = None
        ours = Explanations(cloud, desktop, box, list, matrices.append)
        stands: Any = SimpleNamespace(topology=wanted, deployment=deployment, hosts=guests)
        return ours, ours.add(stands), matrices

    return standing


def look(source: str, target: str, outcome: Outcome, port: int = 0) -> Observation:
    numbers = {"port": float(port)} if port else {}
    return Observation("tcp" if port else "ping", source, target, "", outcome, "", numbers, 1.0, 0.1)


def blaming(*seen: Observation) -> Case:
    return Case(seen, seen, acts=False)


def test_a_path_that_a_check_blames_is_explained(lab: Any) -> None:
    ours, standing, _ = lab("two-networks", no_route("calculator", "30.4.5.0/24"))
    lines = ours.of_check(blaming(look("calculator", "30.4.5.215", Outcome.FILTERED)))
    assert lines[0] == "calculator has no route to 30.4.5.0/24; RT2's leg 20.4.5.4 would lead there"
    assert lines[-1].endswith("as configured filtered, intended reachable, measured filtered")
    assert standing.hosts["mul"].asked == [], "only the guests of the path are looked into"
    assert len(standing.hosts["calculator"].asked) == 1


def test_the_same_cause_is_said_once(lab: Any) -> None:
    ours, _, _ = lab("two-networks", no_route("calculator", "30.4.5.0/24"))
    looks = [look("calculator", f"30.4.5.{n}", Outcome.FILTERED) for n in (215, 109, 120, 218)]
    lines = ours.of_check(blaming(*looks))
    assert sum("has no route to 30.4.5.0/24" in line for line in lines) == 1


def test_a_host_that_cannot_be_entered_is_explained_by_its_entrance(lab: Any) -> None:
    ours, standing, _ = lab("operations", server("vm", status="SHUTOFF"), dead=("vm",))
    lines = ours.of_check(blaming(Observation("command", "vm", "vm", "id", Outcome.NOT_MADE)))
    assert lines[0] == "server vm is SHUTOFF"
    assert standing.hosts["vm"].asked == [], "it is known not to answer"


def test_a_host_behind_another_is_explained_by_the_whole_way_in(lab: Any) -> None:
    ours, _, _ = lab("two-networks", no_route("calculator", "30.4.5.0/24"), dead=("sum",))
    lines = ours.of_check(blaming(Observation("command", "sum", "sum", "id", Outcome.NOT_MADE)))
    assert lines[0].startswith("calculator has no route to 30.4.5.0/24"), lines


def test_a_check_that_blames_nothing_is_explained_by_what_went_otherwise_than_meant(lab: Any) -> None:
    ours, _, _ = lab("operations", no_rules("lab", protocol="icmp"))
    seen = (
        look("desktop", "192.168.37.3", Outcome.FILTERED),
        look("desktop", "10.5.7.2", Outcome.FILTERED),
        look("desktop", "192.168.37.3", Outcome.REACHABLE, 22),
    )
    lines = ours.of_check(Case((), seen, acts=False))
    assert lines[0].startswith(
        "no rule of security group lab lets icmp in from desktop; intended: icmp from anywhere"
    )
    assert len(lines) == 2
    assert ours.of_check(Case((), seen, acts=True)) == [], "what it changed is put back: nothing can be told"


def test_an_address_that_is_no_topologys_is_left_alone(lab: Any) -> None:
    ours, _, _ = lab("operations")
    assert ours.of_check(blaming(look("neighbour", "10.0.2.15", Outcome.FILTERED))) == []


def test_a_floating_ip_that_was_taken_away_is_known_by_the_deployment(lab: Any) -> None:
    ours, _, _ = lab("operations", lambda c: replace(c, floating_ips=c.floating_ips[1:]))
    lines = ours.of_check(blaming(look("desktop", "192.168.37.3", Outcome.UNREACHABLE)))
    assert lines[0] == "there is no floating IP 192.168.37.3; intended: to vm"
    ours, _, _ = lab("operations", floating("vm", server=None, fixed=None))
    lines = ours.of_check(blaming(look("desktop", "192.168.37.3", Outcome.UNREACHABLE)))
    assert lines[0] == "floating IP 192.168.37.3 leads to nothing; intended: to vm"


def test_what_a_check_measured_while_it_had_changed_the_lab_is_not_held_against_what_stands_now(
    lab: Any,
) -> None:
    ours, _, _ = lab("two-networks")
    seen = (look("calculator", "30.4.5.215", Outcome.FILTERED),)
    assert ours.of_check(Case(seen, seen, acts=True)) == []
    ours, _, _ = lab("two-networks", no_route("calculator", "30.4.5.0/24"))
    assert ours.of_check(Case(seen, seen, acts=True))[0].startswith("calculator has no route to 30.4.5.0/24")


def test_where_a_lab_can_watch_its_hops_it_is_said_how_far_a_packet_came(lab: Any) -> None:
    ours, _, _ = lab("two-networks")
    ours.watch = lambda _standing: lambda path: {hop: hop.of == "calculator" for hop in path.hops}
    lines = ours.of_check(blaming(look("calculator", "30.4.5.215", Outcome.FILTERED)))
    assert lines[0] == (
        "as configured it should arrive, and it was filtered; it was seen at calculator's side of front 20.4.5.88 and "
        "not at RT2's side of front 20.4.5.4"
    )


def test_what_else_is_not_as_intended_comes_last(lab: Any) -> None:
    both = lambda c: server("div", status="SHUTOFF")(no_route("calculator", "30.4.5.0/24")(c))  # noqa: E731
    ours, _, _ = lab("two-networks", both)
    lines = ours.of_check(blaming(look("calculator", "30.4.5.215", Outcome.FILTERED)))
    assert lines[0].startswith("calculator has no route")
    assert lines[-1] == "elsewhere: server div is SHUTOFF; intended ACTIVE"


def test_it_can_be_asked_by_name(lab: Any) -> None:
    ours, standing, _ = lab("two-networks", no_rules("services"))
    lines = ours.explain(standing, "calculator", "mul", "tcp 50003")
    assert lines[0].startswith("no rule of security group services lets tcp 50003 in from calculator")
    made = ours.matrix(standing)
    assert len(made.unlike) == 16


def test_a_port_that_the_campus_does_not_let_through_is_told_on_the_embedded_lab(lab: Any) -> None:
    ours, standing, _ = lab("two-networks")
    lines = ours.explain(standing, "desktop", "calculator", "tcp 8080")
    assert lines == [], "it is not intended either: the document has no such service"
    lines = ours.explain(standing, "desktop", "calculator", "tcp 8080", Outcome.FILTERED)
    assert (
        "tcp 8080 is not among the ports let through from desktop to the floating IPs (22, 50000-50050)"
        in lines[0]
    )


def test_the_matrix_is_concluded_once_and_never_raises(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, standing, matrices = lab("two-networks")
    ours.conclude("two-networks")
    ours.conclude()
    assert [made.topology for made in matrices] == ["two-networks"]
    ours.add(standing)

    def down(*_args: object) -> Configuration:
        raise OSError("no answer")

    monkeypatch.setattr("provision.paths.cloud.read", down)
    ours.conclude()
    assert len(matrices) == 1
    ours.add(standing)
    said = ask([ours.of_check], blaming(look("calculator", "30.4.5.215", Outcome.FILTERED)))
    assert said == ["no explanation could be made: OSError: no answer"]


def test_guests_that_do_not_answer_in_time_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_enough = threading.Event()

    class Slow(Guest):
        def run(self, command: str, *args: object, timeout: float = 10.0) -> CommandResult:
            asked_enough.wait(30)
            return super().run(command, *args, timeout=timeout)

    output = printed(healthy("single").guests["vm"])
    looking = module.Looking({"slow": Slow("slow", output), "quick": Guest("quick", output)}, 0.5)
    assert list(looking.guests()) == ["quick"]
    asked_enough.set()


def test_looks_that_show_otherwise_than_they_should_go_with_the_error() -> None:
    error = OtherThanExpected("text", [look("a", "10.0.0.1", Outcome.FILTERED)])
    assert isinstance(error, AssertionError)
    assert str(error) == "text"
    assert error.observations[0].target == "10.0.0.1"
    assert Unproven("text").observations == ()
