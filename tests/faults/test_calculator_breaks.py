"""Breaks of the calculator, on one VM and over two networks: the checks concerned turn red, no others, and the reason
names the fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fixtures.calculator import as_asked
from fixtures.calculator_cloud import ports_closed
from fixtures.calculator_diagnosis import Fault
from fixtures.jobs import Jobs
from fixtures.openstack import TOPOLOGIES, Standing, enter, find
from probes.host import Host
from provision.box import runtime
from provision.calculator.deploy import Running, deploy, program
from provision.cloud import Cloud
from provision.nat_lab import nat_lab
from provision.nat_machines import NatMachines
from provision.runs import standing_run
from provision.topology import Topology
from tests.calculator_world import BY_ITSELF
from tests.suite_runs import SuiteRun, run_suites

pytestmark = pytest.mark.box

SUITE = "suites/calculator"
ONE_VM, OVER = "one_vm and not of_another_making", "over"
NOBODY = "http://10.0.2.99:50003"

SUM, SUB, MUL, DIV = (f"test_the_{name}_service_answers" for name in ("sum", "sub", "mul", "div"))
LOGS = "test_each_service_logs_its_port_and_each_request"
COMPUTES = "test_all_five_on_one_vm_compute"
CALLS = "test_the_calculator_really_calls_the_micro_services"
EACH = "test_each_operation_is_done_by_its_micro_service"
FORWARDED = "test_the_forwarded_port_leads_the_desktop_to_the_calculator"
NOTHING_ELSE = "test_nothing_but_the_forwarded_port_leads_into_the_vm"
FLOATING = "test_from_the_desktop_the_floating_ip_answers"
ONLY = "test_from_the_desktop_only_the_calculators_port_answers"
INSIDE = "test_over_both_networks_from_inside"


@dataclass
class Lab:
    """An arrangement that stands, healthy; the cloud's handles where it is on one."""

    folder: Path
    programs: Any
    topology: Topology
    hosts: Mapping[str, Host]
    address: Callable[[str], str]
    cloud: Cloud | None = None
    standing: Standing | None = None

    def running(self) -> dict[str, Running]:
        return as_asked(self.topology, self.hosts, self.address, self.programs)

    def mend(self) -> None:
        deploy(self.topology, self.hosts, self.address, self.programs)


@pytest.fixture(scope="module")
def seen(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """What the checks saw of each break: the one VM's breaks one after another, and meanwhile those of the networks."""
    folder = tmp_path_factory.mktemp("calculator")
    # the first run's name is that of all that is left standing
    healthy = look(folder / "one_vm", ONE_VM)
    assert set(healthy.verdicts.values()) == {"pass"}, healthy.text[-3000:]
    kept = standing_run(lab.name)
    assert kept is not None
    cloud = Cloud.connect(lab)
    hosts: list[Host] = []
    jobs: dict[str, Callable[[], Any]] = {}
    running = Jobs(jobs, lambda *_: None)

    def one_vm() -> Lab:
        on = nat_lab(lab, print)
        machines = NatMachines(on.hypervisor, on.folder / "disks", kept.run, kept.key, kept.public_key)
        machine = machines.find("natvm", on.docker)
        assert machine is not None
        hosts.append(machine.host)
        topology = Topology.load(TOPOLOGIES / "one-vm.json")
        return Lab(
            folder,
            program(lab),
            topology,
            {"natvm": machine.host},
            lambda name: str(topology.host(name).address),
        )

    def over() -> Lab:
        seen = look(folder / "over", OVER)
        assert set(seen.verdicts.values()) == {"pass"}, seen.text[-3000:]
        topology = Topology.load(TOPOLOGIES / "two-networks.json")
        deployment = find(cloud, topology, kept.run)
        assert deployment is not None
        standing = Standing(topology, deployment, enter(cloud, kept, topology, deployment))
        hosts.extend(standing.hosts.values())
        return Lab(folder, program(lab), topology, standing.hosts, standing.address, cloud, standing)

    def broken(put_in: Break, checks: str, before: str) -> SuiteRun:
        running.finished(before)
        made: Lab = running.result(checks)
        with put_in(made):
            return look(folder / put_in.__name__, checks)

    jobs |= {ONE_VM: one_vm, OVER: over}
    last = {ONE_VM: ONE_VM, OVER: OVER}
    for put_in, checks, *_ in BREAKS:
        jobs[put_in.__name__] = partial(broken, put_in, checks, last[checks])
        last[checks] = put_in.__name__
    running.start(jobs)
    yield running
    running.wait()
    for host in hosts:
        host.close()
    # a run without --keep removes what stands
    gone = run_suites(folder / "last", SUITE, "-k", f"{FORWARDED} or {INSIDE}")
    assert gone.status == 0, gone.text[-3000:]
    box = runtime.running()
    assert box is not None
    assert not list((box.data / "natvm" / "disks").glob("*")), "disks are left"
    left = standing_run(lab.name)
    assert left is None or not any(left.stands(part) for part in ("natvm", "openstack"))


def look(folder: Path, checks: str) -> SuiteRun:
    """Runs an arrangement's observing checks on what stands, and leaves it standing."""
    return run_suites(folder, SUITE, "-m", "not acts", "-k", checks, "--keep")


@contextmanager
def sub_answers_a_plus_b(lab: Lab) -> Iterator[None]:
    """SubService is started as SumService is, on its own port."""
    sub = lab.running()["sub"]
    sub.configure(command=sub.program.command.replace("{service}", "sum"))
    try:
        yield
    finally:
        lab.mend()


@contextmanager
def muls_address_is_wrong(lab: Lab) -> Iterator[None]:
    calculator = lab.running()["calculator"]
    calculator.configure(environment={**calculator.environment, "MUL_URL": NOBODY})
    try:
        yield
    finally:
        lab.mend()


@contextmanager
def div_is_not_started(lab: Lab) -> Iterator[None]:
    lab.running()["div"].stop()
    try:
        yield
    finally:
        lab.mend()


@contextmanager
def calculator_computes_by_itself(lab: Lab) -> Iterator[None]:
    script = lab.folder / "by_itself.py"
    script.write_text(BY_ITSELF)
    lab.running()["calculator"].configure(files=(script,), command="python3 by_itself.py")
    try:
        yield
    finally:
        lab.mend()


@contextmanager
def port_50003_is_closed(lab: Lab) -> Iterator[None]:
    """The group opens the services' ports but one, as if the range had been typed in two parts, and one forgotten."""
    assert lab.cloud
    assert lab.standing
    network = lab.cloud.api.network
    groups = lab.standing.deployment.security_groups
    with ports_closed(lab.cloud, lab.standing, "services", 50003):
        others = [
            network.create_security_group_rule(
                security_group_id=groups["services"].id, direction="ingress", ether_type="IPv4", protocol="tcp",
                port_range_min=first, port_range_max=last, remote_group_id=groups["lab"].id,
            )
            for first, last in ((50001, 50002), (50004, 50004))
        ]  # fmt: skip
        time.sleep(5)  # until the agent has carried it out; the next run looks afresh
        try:
            yield
        finally:
            for rule in others:
                network.delete_security_group_rule(rule.id)
    time.sleep(5)


@contextmanager
def route_is_missing(lab: Lab) -> Iterator[None]:
    calculator, route = lab.hosts["calculator"], lab.topology.host("calculator").routes[0]
    calculator.run("sudo ip route del %s", route.destination)
    try:
        yield
    finally:
        calculator.run("sudo ip route replace %s via %s", route.destination, route.via)


Break = Callable[[Lab], AbstractContextManager[None]]
# the break; the arrangement's checks; what must be red; what must be unproven; what each reason must say
BREAKS: list[tuple[Break, str, set[str], set[str], Fault, str]] = [
    (
        sub_answers_a_plus_b, ONE_VM, {SUB, LOGS, COMPUTES, EACH}, set(),
        Fault.WRONG_VALUES, "sub, asked 5 3 by natvm, answers '8', not 2",
    ),
    (
        muls_address_is_wrong, ONE_VM, {COMPUTES, CALLS, EACH, FORWARDED}, set(),
        Fault.WRONG_ADDRESS, f"the calculator looks for mul at {NOBODY}, but it is at http://10.0.2.15:50003",
    ),
    (
        div_is_not_started, ONE_VM, {DIV, LOGS, COMPUTES, EACH}, {NOTHING_ELSE},
        Fault.BACKEND_NOT_STARTED, "div: nothing listens on port 50004",
    ),
    (
        calculator_computes_by_itself, ONE_VM, {CALLS, EACH}, set(),
        Fault.BY_ITSELF, "logged no request for it",
    ),
    (
        port_50003_is_closed, OVER, {MUL, FLOATING, INSIDE, CALLS, EACH}, {ONLY},
        Fault.GROUP_CLOSED, "no rule of mul's security groups (lab, services) lets calculator in to TCP port 50003",
    ),
    (
        route_is_missing, OVER, {SUM, SUB, MUL, DIV, FLOATING, INSIDE}, {ONLY, LOGS, CALLS, EACH},
        Fault.ROUTE_MISSING, "it sends it to 20.4.5.1; its route 30.4.5.0/24 via 20.4.5.4 is not there",
    ),
]  # fmt: skip


def wrong(found: SuiteRun, red: set[str], unproven: set[str]) -> list[str]:
    told = []
    for name, verdict in found.verdicts.items():
        check = name.rpartition("::")[2].partition("[")[0]
        wanted = "fail" if check in red else "unproven" if check in unproven else "pass"
        if verdict != wanted:
            told.append(f"{check}: {verdict}, not {wanted}")
    return told


@pytest.mark.parametrize(
    ("put_in", "checks", "red", "unproven", "fault", "words"),
    BREAKS,
    ids=[each[0].__name__ for each in BREAKS],
)
def test_a_break_turns_its_checks_and_no_others(
    seen: Jobs, put_in: Break, checks: str, red: set[str], unproven: set[str], fault: Fault, words: str
) -> None:
    """What the break concerns is red, or unproven where it cannot be told, and the reasons name the fault."""
    found: SuiteRun = seen.result(put_in.__name__)
    assert not (told := wrong(found, red, unproven)), "\n".join(told) + found.text[-4000:]
    reasons = [check["diagnosis"][0] for check in found.run["checks"] if check["verdict"] == "fail"]
    assert all(each.startswith(f"{fault}: ") and words in each for each in reasons), reasons
