"""Breaks on the real cloud: exactly the checks concerned turn red or unproven, the others stay as they were.

A lab is provisioned once and left standing; each break is put in, the observing checks look at it in a run of
their own, and it is taken out again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fixtures.openstack import TOPOLOGIES, Standing, enter, find
from probes.host import Host
from probes.reach import ping, wait_until
from provision.cloud import Cloud
from provision.openstack import destroy
from provision.runs import Kept, standing_run
from provision.topology import Topology

pytestmark = pytest.mark.box
ROOT = Path(__file__).resolve().parent.parent.parent

VM = {  # the checks that look into, or through, the server `vm`
    "test_the_vm_has_an_address_of_its_subnet",
    "test_with_the_router_the_vm_reaches_the_desktop_and_the_outside",
    "test_ssh_to_the_floating_ip_opens_a_session_in_that_very_vm",
}
BACK = {  # the checks that look from the micro-services' VMs, which are entered through the calculator
    "test_vms_of_the_same_network_reach_each_other",
    "test_the_micro_services_vms_reach_the_calculators",
    "test_from_the_public_side_no_address_of_the_back_network_answers",
    "test_with_the_route_it_can_one_hop_further",
}
PRIVATE = "test_the_private_address_is_out_of_the_desktops_reach"
ANSWERS = "test_the_floating_ip_answers_the_desktop"
RULES = "test_the_rule_table_is_the_one_the_lab_asks_for"
ONE_DRAWN = "test_one_vm.py::test_the_cloud_reports_the_intended_topology"
TWO_DRAWN = "test_topology.py::test_the_cloud_reports_the_intended_topology"


def look(folder: Path) -> dict[str, str]:
    """Runs the observing checks on what stands; their verdicts by file and name."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "suites/openstack", "-m", "not acts", "--keep", "-q"),
            *("--lab", "box", "--report-dir", str(folder)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    run = folder / "latest" / "run.json"
    assert run.exists(), done.stdout[-3000:] + done.stderr[-2000:]
    return {
        check["id"].rpartition("/")[2]: check["verdict"] for check in json.loads(run.read_text())["checks"]
    }


@dataclass
class Lab:
    """The lab that stands, healthy: its handles and what the checks said of it."""

    cloud: Cloud
    kept: Kept
    healthy: dict[str, str]
    folder: Path

    def standing(self, name: str) -> Standing:
        topology = Topology.load(TOPOLOGIES / f"{name}.json")
        deployment = find(self.cloud, topology, self.kept.run)
        assert deployment is not None
        return Standing(topology, deployment, enter(self.cloud, self.kept, topology, deployment))

    def heal(self, desktop: Host) -> None:
        """Returns when what was put back has taken effect: the next break begins on a healthy lab."""
        for name, entered, beyond in (
            ("operations", "vm", ()),
            ("two-networks", "calculator", ("sum", "div")),
        ):
            standing = self.standing(name)
            wait_until(ping(desktop, standing.floating_ip(entered)), reached=True, within=60)
            for host in (entered, *beyond):
                standing.hosts[host].wait_ready(120)
            for each in standing.hosts.values():
                each.close()


@pytest.fixture(scope="module")
def standing_lab(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("breaks")
    state = os.environ.get("XDG_STATE_HOME")
    healthy = look(folder / "healthy")
    kept = standing_run(lab.name)
    assert kept is not None
    cloud = Cloud.connect(lab)
    yield Lab(cloud, kept, healthy, folder)
    assert os.environ.get("XDG_STATE_HOME") == state
    left = destroy(cloud, kept.run)
    kept.forget("openstack")
    kept.close()
    assert not left


def test_the_healthy_lab_passes_all(standing_lab):
    """The measure for the breaks: on the healthy lab every observing check passes."""
    assert standing_lab.healthy
    assert set(standing_lab.healthy.values()) == {"pass"}, standing_lab.healthy


@contextmanager
def server_stopped(lab: Lab) -> Iterator[None]:
    server = lab.standing("operations").deployment.hosts["vm"].server_id
    compute = lab.cloud.api.compute
    compute.stop_server(server)
    compute.wait_for_server(compute.get_server(server), status="SHUTOFF", wait=120, interval=0.5)
    try:
        yield
    finally:
        compute.start_server(server)
        compute.wait_for_server(compute.get_server(server), wait=120, interval=0.5)
        lab.standing("operations").hosts["vm"].wait_ready(180)


@contextmanager
def icmp_rule_removed(lab: Lab) -> Iterator[None]:
    network = lab.cloud.api.network
    group = lab.standing("operations").deployment.security_groups["lab"].id
    rule = next(r for r in network.security_group_rules(security_group_id=group) if r.protocol == "icmp")
    network.delete_security_group_rule(rule.id)
    time.sleep(5)  # until the agent has carried it out; the next run looks afresh
    try:
        yield
    finally:
        network.create_security_group_rule(
            security_group_id=group,
            direction="ingress",
            ether_type="IPv4",
            protocol="icmp",
            remote_ip_prefix="0.0.0.0/0",
        )


@contextmanager
def router_leg_detached(lab: Lab) -> Iterator[None]:
    two = lab.standing("two-networks").deployment
    network = lab.cloud.api.network
    lab.cloud.remove_leg(two.routers["RT2"].id, port_id=two.routers["RT2"].ports["front"])
    try:
        yield
    finally:
        port = network.create_port(
            network_id=two.networks["front"].id,
            fixed_ips=[{"subnet_id": two.networks["front"].subnet_id, "ip_address": "20.4.5.4"}],
            description=two.mark.description("leg"),
        )
        lab.cloud.add_leg(two.routers["RT2"].id, port_id=port.id)


@contextmanager
def static_route_removed(lab: Lab) -> Iterator[None]:
    two = lab.standing("two-networks")
    calculator, route = two.hosts["calculator"], two.topology.host("calculator").routes[0]
    calculator.run("sudo ip route del %s", route.destination)
    try:
        yield
    finally:
        calculator.run("sudo ip route replace %s via %s", route.destination, route.via)


@contextmanager
def floating_ip_disassociated(lab: Lab) -> Iterator[None]:
    host = lab.standing("operations").deployment.hosts["vm"]
    lab.cloud.api.network.update_ip(host.floating_ip_id, port_id=None)
    try:
        yield
    finally:
        lab.cloud.api.network.update_ip(host.floating_ip_id, port_id=host.port_id)


@contextmanager
def sshd_stopped(lab: Lab) -> Iterator[None]:
    vm = lab.standing("operations").hosts["vm"]
    vm.run("sudo service ssh stop")
    try:
        yield
    finally:
        vm.run("sudo service ssh start")
        vm.close()


Break = Callable[[Lab], AbstractContextManager[None]]
BREAKS: list[tuple[Break, set[str], set[str]]] = [
    # the break; what must turn red; what must turn unproven or red, for it cannot be told any more
    (server_stopped, {ANSWERS, ONE_DRAWN}, {*VM, PRIVATE}),
    (icmp_rule_removed, {ANSWERS, RULES, ONE_DRAWN}, {PRIVATE}),
    (router_leg_detached, {"test_the_second_router_alone_links_the_two_networks", TWO_DRAWN}, BACK),
    (static_route_removed, {"test_with_the_route_it_can_one_hop_further"}, BACK),
    (floating_ip_disassociated, {ANSWERS, ONE_DRAWN}, {*VM, PRIVATE}),
    (sshd_stopped, set(), {*VM, PRIVATE}),
]


def _is(name: str, among: set[str]) -> bool:
    return any(name == each or name.rpartition("::")[2] == each for each in among)


@pytest.mark.parametrize(("put_in", "red", "not_green"), BREAKS, ids=[b[0].__name__ for b in BREAKS])
def test_a_break_turns_its_checks_and_no_others(standing_lab, desktop, put_in, red, not_green):
    """What the break concerns is red, or unproven where it cannot be told; everything else stays as it was."""
    with put_in(standing_lab):
        seen = look(standing_lab.folder / put_in.__name__)
    standing_lab.heal(desktop)
    wrong = [
        f"{name}: {seen.get(name)}"
        for name in standing_lab.healthy
        if (_is(name, red) and seen.get(name) != "fail")
        or (_is(name, not_green - red) and seen.get(name) not in ("fail", "unproven"))
        or (not _is(name, red | not_green) and seen.get(name) != "pass")
    ]
    assert not wrong, f"{put_in.__name__}:\n" + "\n".join(wrong)
    if PRIVATE in not_green:
        private = next(verdict for name, verdict in seen.items() if name.endswith(PRIVATE))
        assert private == "unproven", (
            "a target that nobody can see must not be called out of reach, or in reach"
        )
