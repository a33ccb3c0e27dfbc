"""``--attach``: what is selected, what is refused, and what a run tells of a project that somebody has built."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtures import attach_project
from fixtures.attach import entrances
from fixtures.attach_project import AttachedProject
from fixtures.explainers import Case
from probes.calculator import Place, log_sizes
from probes.host import HostError, LocalHost
from probes.observation import NotBuilt, Observation, Outcome, Unproven
from provision.attach.guard import LockedHost, Tally
from provision.attach.submission import Submission
from provision.guests import hostname_of
from provision.lab import Lab
from reports import terminal
from tests.attach_world import EXTERNAL, SAID, TIER_SAID, Built, Said, one_vm, two_networks, two_tier
from tests.inner_runs import ran
from tests.suite_runs import ROOT, run_suites

LAB = """
driver = "cloud"
[openstack]
cloud = "ours"
clouds_file = "clouds.yaml"
image = "x"
[parts]
virtualbox = false
docker = false
outside = false
neighbour = false
"""


def collected(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pytest", "suites", "--collect-only", "-q", *words]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_checks_that_change_the_lab_are_left_out_and_nothing_is_asked_to_collect() -> None:
    every = collected()
    observing = collected("--attach", "no-such-cloud")
    assert observing.returncode == 0, observing.stdout + observing.stderr
    names = observing.stdout
    assert "test_the_second_router_alone_links_the_two_networks" in names
    assert "test_a_floating_ip_for_the_back_network_is_refused" in every.stdout
    assert "test_a_floating_ip_for_the_back_network_is_refused" not in names
    assert "test_removing_the_topology_leaves_nothing" not in names
    assert "deselected" in names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--attach", "lab-g07", "--keep"], "--attach: makes nothing that --keep could leave standing"),
        (["--attach", "none.toml"], "--attach: none.toml: cannot be read: No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], said: str) -> None:
    done = collected(*words)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert said in done.stderr


def test_a_cloud_that_nobody_knows_leaves_everything_open_with_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(LAB)
    (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": {"lab-g08": {"auth": {}}}}))
    seen = run_suites(tmp_path / "out", "suites", "--attach", "lab-g07", "--lab", str(tmp_path / "lab.toml"))
    assert set(seen.verdicts.values()) == {"unproven", "skip"}, seen.text[-3000:]
    reasons = {check["reason"] for check in seen.checks.values() if check["verdict"] == "unproven"}
    (reason,) = reasons
    assert reason.startswith(
        f"looking for cloud 'lab-g07' in {tmp_path / 'clouds.yaml'}: there is no such entry"
    )
    skipped = {check["reason"] for check in seen.checks.values() if check["verdict"] == "skip"}
    assert "--attach looks at an OpenStack project" in skipped


FOUND_MISSING = """
from probes.observation import NotBuilt

@pytest.fixture(scope="session")
def two_networks():
    raise NotBuilt("second router: a router of its own was looked for; there are none")

@pytest.fixture
def broken():
    assert 1 == 2, "only an assertion"

@claim("TOP-01")
def test_needs_it(two_networks):
    pass

@claim("TOP-02")
def test_needs_it_too(two_networks):
    pass

@claim("TOP-03")
def test_is_not_set_up(broken):
    pass
"""


def test_what_was_never_built_fails_from_a_fixture_too(pytester: pytest.Pytester) -> None:
    done = ran(pytester, FOUND_MISSING)
    assert {name: each["verdict"] for name, each in done.checks.items()} == {
        "test_needs_it": "fail", "test_needs_it_too": "fail", "test_is_not_set_up": "unproven",
    }  # fmt: skip
    assert done.checks["test_needs_it_too"]["reason"].startswith("second router: a router of its own")
    assert sum(case.find("failure") is not None for case in done.cases) == 2
    assert sum(case.find("error") is not None for case in done.cases) == 1
    assert len(done.cases) == 3
    done.result.assert_outcomes(failed=2)


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``project(built, said)``: a project whose lists are given, and who answers in it."""

    def made(built: Built, said: Said = SAID, **more: Any) -> AttachedProject:
        def held(cloud: Any, mark: Any = None, *, lists: Any = ()) -> Any:
            return built.have

        monkeypatch.setattr("provision.holdings.holdings", held)
        monkeypatch.setattr(attach_project, "LabLooks", lambda cloud, tally: said)
        lab = Lab(name="x", cloud="ours")
        cloud: Any = SimpleNamespace(
            lab=lab, external_network=lambda: EXTERNAL, external_cidr=lambda: IPv4Network("192.168.37.0/24")
        )
        return AttachedProject(cloud, Submission("ours", **more), Tally())

    return made


def test_a_topology_that_is_there_stands_and_its_guests_are_locked_without_a_key(project: Any) -> None:
    there = project(two_networks())
    standing = there.topology("two-networks")
    assert standing.topology.name == "two-networks"
    assert standing.address("mul") == "10.9.0.33"
    assert standing.floating_ip("calculator") == "192.168.37.50"
    assert standing.deployment.routers["RT2"].name == "ponte"
    assert all(isinstance(host, LockedHost) for host in standing.hosts.values())
    assert there.topology("two-networks") is standing
    assert there.topology("operations").address("vm") == "172.20.1.30"


def test_a_key_that_cannot_be_read_locks_the_guests_and_no_more(project: Any, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("no key")
    there = project(two_networks())
    there.cloud.lab = replace(there.cloud.lab, ssh_key=tmp_path / "id")
    host = there.topology("two-networks").hosts["calculator"]
    with pytest.raises(
        HostError, match="calculator cannot be entered: SSH host 'calculator': cannot read the key"
    ):
        host.run("true")


def test_what_is_missing_fails_and_what_cannot_be_told_is_open(project: Any) -> None:
    with pytest.raises(NotBuilt, match="two networks: a front network with a router"):
        project(one_vm()).topology("two-networks")
    with pytest.raises(NotBuilt, match="calculator: a VM of the front network"):
        project(two_networks(floating_ip="")).application("over_two_networks", "two-networks")
    built = two_networks()
    built.server("test", "davanti", "172.20.1.40", floating_ip="192.168.37.51")
    with pytest.raises(Unproven, match=r"name it in the submission file: \[roles\] calculator = …"):
        project(built, Said()).topology("two-networks")


def test_services_that_are_not_told_apart_are_open_and_their_network_is_not(project: Any) -> None:
    there = project(two_networks(), Said({"192.168.37.50": [50000]}))
    assert there.topology("two-networks").topology.hosts
    app = there.application("over_two_networks", "two-networks")
    assert app.desktop_url == "http://192.168.37.50:50000", "the calculator itself can be asked"
    with pytest.raises(
        Unproven, match=r"which VM is whose of sum, sub, mul, div cannot be told.*\[roles\] sum = …"
    ):
        assert app.micro
    named = {"sum": "uno", "sub": "due", "mul": "tre", "div": "quattro"}
    there = project(two_networks(), Said({"192.168.37.50": [50000]}), roles=named)
    assert there.application("over_two_networks", "two-networks").places["div"].address == "10.9.0.4"


def test_services_that_share_a_vm_are_an_application_though_no_topology(project: Any) -> None:
    said = Said(
        {"192.168.37.50": [50010]},
        {f"10.9.0.21:{50001 + n}": s for n, s in enumerate(("sum", "sub", "mul", "div"))},
    )
    there = project(two_networks(services={"tutti": "10.9.0.21"}), said, logs={"sum": "/home/u/sum.log"})
    app = there.application("over_two_networks", "two-networks")
    assert app.desktop_url == "http://192.168.37.50:50010"
    assert [str(place.url) for place in app.micro] == [
        f"http://10.9.0.21:{port}" for port in range(50001, 50005)
    ]
    assert app.places["sum"].log_file == "/home/u/sum.log"
    assert app.places["sub"].log_file == ""
    with pytest.raises(NotBuilt, match="sub, mul, div: a VM of its own"):
        there.topology("two-networks")


def test_an_arrangement_that_is_not_there_is_skipped_where_the_other_one_is(project: Any) -> None:
    said = Said(SAID._ports, SAID._services | TIER_SAID)
    for built, absent, there, why in (
        (two_networks(), "two_tier", "over_two_networks", "its two networks are looked at"),
        (two_tier(), "over_two_networks", "two_tier", "its five VMs on one network are looked at"),
    ):
        found = project(built, said)
        with pytest.raises(pytest.skip.Exception, match=why):
            found.skip_unless_looked_at(absent)
        found.skip_unless_looked_at(there)
    neither = project(one_vm(), said)
    neither.skip_unless_looked_at("two_tier")
    with pytest.raises(NotBuilt, match="five VMs on one network"):
        neither.application("two_tier", "two-tier")


def test_a_log_that_nobody_knows_leaves_the_check_open() -> None:
    with (
        LocalHost("here") as here,
        pytest.raises(Unproven, match=r"the log of sum is not known: .* \[logs\] sum = …"),
    ):
        log_sizes([Place("sum", here, "127.0.0.1", 50001, "")])
    locked = LockedHost("sum", "192.0.2.1", "no key")
    with pytest.raises(Unproven, match="sum cannot be entered: no key"):
        log_sizes([Place("sum", locked, "192.0.2.1", 50001, "")])


def test_a_guest_that_could_not_be_entered_is_the_explanation() -> None:
    made = Observation("ping", "sum", "x", "ping x", Outcome.NOT_MADE, "\nsum cannot be entered: no key\n")
    other = Observation("ping", "mul", "x", "ping x", Outcome.NOT_MADE, "no such tool")
    assert entrances(Case((), (made, other, made), acts=False)) == ["sum cannot be entered: no key"]


def test_who_plays_which_part_is_told_at_the_end() -> None:
    lines: list[str] = []
    shown: Any = SimpleNamespace(
        write_sep=lambda sep, title=None, **_: lines.append(title),
        write_line=lambda line, **_: lines.append(line),
        write=lambda *_, **__: None,
    )
    run = {
        "summary": {"objectives": [], "verdicts": dict.fromkeys(("pass", "fail", "unproven", "skip"), 0)},
        "planned": 0, "checks": [], "claims": {}, "left_behind": {},
        "facts": {"attach": {"roles": {"vm": "macchina (10.5.7.20)", "front": "missing: x", "back": "missing: x"}}},
    }  # fmt: skip
    terminal.summary(run, shown)
    assert lines[-3:] == ["who plays which part", "  vm: macchina (10.5.7.20)", "  front, back: missing: x"]


@pytest.mark.parametrize(
    ("server", "guest"),
    [
        ("labproof-ab12c-vm", "labproof-ab12c-vm"),
        ("My VM_1", "my-vm-1"),
        ("VM n°1 (test).", "vm-n1-test"),
        ("café", "caf"),
    ],
)
def test_a_guests_name_is_made_of_its_servers(server: str, guest: str) -> None:
    assert hostname_of(server) == guest
