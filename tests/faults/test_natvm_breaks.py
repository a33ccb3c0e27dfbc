"""Breaks of the NAT VM and of Docker in it: the checks concerned turn red or unproven, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.box import runtime
from provision.runs import standing_run
from tests.suite_runs import SuiteRun, run_suites

pytestmark = pytest.mark.box

NAT = "suites/virtualbox/test_nat.py"
DOCKER = "suites/docker"
BY_RULE = {
    "test_by_the_rule_an_ssh_session_opens_in_the_vm",
    "test_the_rule_forwards_ssh_alone",
    "test_a_file_made_over_the_forwarded_session_is_in_the_vm",
    "test_the_address_that_a_rule_is_bound_to_decides_who_gets_in",
    "test_the_vms_own_address_stays_out_of_reach_and_the_port_closes_with_its_rule",
}
INSIDE_NAT = {
    "test_the_vms_address_is_on_another_network_than_the_hosts",
    "test_the_vm_reaches_its_host",
}
LOOKS = {
    "test_the_host_does_not_reach_the_vm",
    "test_the_neighbour_does_not_reach_the_vm",
    "test_two_nat_vms_have_the_same_address_and_do_not_reach_each_other",
    "test_before_the_rule_nothing_answers_at_the_forwarding_port",
}
# the break; what is run; what must be red; what must be red or unproven; what the words must name
OPENS = "test_by_the_rule_an_ssh_session_opens_in_the_vm"
BOUND = "test_the_address_that_a_rule_is_bound_to_decides_who_gets_in"
BREAKS: list[tuple[str, str, set[str], set[str], str]] = [
    ("rule_on_the_wrong_guest_port", NAT, {OPENS, BOUND}, BY_RULE, "connection was made, but the service hung up"),
    ("rules_bound_to_127.0.0.1", NAT, {OPENS, BOUND}, BY_RULE, "Connection refused"),
    (
        "sshd_down", NAT, {OPENS, BOUND},
        {*BY_RULE, "test_before_the_rule_nothing_answers_at_the_forwarding_port"},
        "connection was made, but the service hung up",
    ),
    ("vm_killed", NAT, set(), {*LOOKS, *BY_RULE, "test_the_vm_reaches_the_outside"}, "natvm"),
    (
        "docker_stopped", DOCKER, {"test_the_docker_service_runs_in_the_vm"}, {"*"},
        "the docker service does not answer",
    ),
    ("ct3_from_the_base", DOCKER, {"test_the_image_outlives_its_container"}, set(), "nano is not in ct3"),
    (
        "no_ip_forwarding_in_the_vm", DOCKER,
        # from the desktop, what comes to the published port is forwarded too
        {"test_ct1_reaches_the_outside", "test_from_the_desktop_both_forwardings_are_needed"},
        set(), "not reached that should be",
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def standing(lab: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The VMs, left standing by a run in which every check of the NAT VM passed."""
    folder = tmp_path_factory.mktemp("natvm")
    healthy = run_suites(folder / "healthy", NAT, "--keep")
    assert set(healthy.verdicts.values()) == {"pass"}, healthy.text[-3000:]
    yield folder
    # a run without --keep removes what stands
    last = run_suites(folder / "last", NAT, "-k", "test_the_vm_reaches_its_host")
    box = runtime.running()
    assert box is not None
    assert last.status == 0, last.text[-3000:]
    assert not list((box.data / "natvm" / "disks").glob("*")), "disks are left"
    left = standing_run("box")
    assert left is None or not left.stands("natvm")


def _wrong(seen: SuiteRun, red: set[str], not_green: set[str]) -> list[str]:
    wrong = []
    for name, verdict in seen.verdicts.items():
        test = name.rpartition("::")[2]
        wanted = {"fail"} if test in red else {"fail", "unproven"} if {test, "*"} & not_green else {"pass"}
        if verdict not in wanted:
            wrong.append(f"{test}: {verdict}, not {' or '.join(sorted(wanted))}")
    return wrong


@pytest.mark.parametrize(("name", "suite", "red", "not_green", "words"), BREAKS, ids=[b[0] for b in BREAKS])
def test_a_break_turns_its_checks_and_no_others(
    standing: Path, name: str, suite: str, red: set[str], not_green: set[str], words: str
) -> None:
    """What the break concerns is red, or unproven where it cannot be told; the reasons name it."""
    seen = run_suites(
        standing / name.replace(".", "-"),
        suite,
        "--keep",
        "-p",
        "tests.faults.natvm_plugin",
        LABPROOF_BREAK=name,
    )
    assert not (wrong := _wrong(seen, red, not_green)), "\n".join(wrong) + seen.text[-3000:]
    broken = [check for check in seen.run["checks"] if check["verdict"] != "pass"]
    assert broken
    told = "\n".join("\n".join([check["reason"], *check["diagnosis"]]) for check in broken)
    assert words in told, told
