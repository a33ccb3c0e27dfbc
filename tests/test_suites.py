"""The suites themselves on the embedded lab, as an instructor runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from provision.box import runtime
from provision.cloud import Cloud
from provision.holdings import holdings
from reports import claims, runfile
from tests.suite_runs import run_suites

pytestmark = pytest.mark.box
ROOT = Path(__file__).resolve().parent.parent
# what the OpenStack suite is to prove
CLAIMS = {
    *(f"OS-{n:02}" for n in range(1, 12)),
    *(f"OP-{n:02}" for n in range(1, 7)),
    *(f"API-{n:02}" for n in range(1, 5)),
    *(f"TOP-{n:02}" for n in (1, 2, 3, 4, 5, 6, 8, 10)),
}
NATVM = {
    *(f"NAT-{n:02}" for n in range(1, 13)),
    *(f"DUP-{n:02}" for n in range(1, 5)),
    *(f"CT-{n:02}" for n in range(1, 16)),
    *(f"CMP-{n:02}" for n in range(1, 4)),
}
CALCULATOR = {*(f"APP-{n:02}" for n in range(1, 14)), "TOP-07", "TOP-09"}


def pytest_on_suites(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "suites/openstack", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.fixture(scope="module")
def whole_run(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    done = pytest_on_suites("--report-dir", str(folder))
    return done.stdout + done.stderr, folder / "latest"


def test_every_check_passes_and_none_is_skipped(whole_run):
    """All checks of the OpenStack suite pass on the embedded lab; the last line is the report's path."""
    text, folder = whole_run
    run = runfile.read(folder / "run.json")
    verdicts = {check["id"]: check["verdict"] for check in run["checks"]}
    assert set(verdicts.values()) == {"pass"}, text[-4000:]
    assert run["exit_status"] == 0, text[-4000:]
    assert not run["left_behind"]
    assert text.rstrip().splitlines()[-1].startswith("report: ")


def test_every_claim_is_carried_and_proven(whole_run):
    _, folder = whole_run
    proven = {
        id_
        for id_, claim in runfile.read(folder / "run.json")["claims"].items()
        if claim["verdict"] == "pass"
    }
    assert proven >= CLAIMS, f"not proven: {sorted(CLAIMS - proven)}"
    assert set(claims.load()) >= CLAIMS


def test_the_reports_agree_and_stand_alone(whole_run):
    """report.html loads nothing from elsewhere and draws the topologies; junit.xml counts as run.json does."""
    _, folder = whole_run
    page = (folder / "report.html").read_text()
    assert "<svg" in page
    assert 'src="http' not in page
    assert '<link rel="stylesheet" href="http' not in page
    suite = ElementTree.parse(folder / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert int(suite.attrib["tests"]) == len(json.loads((folder / "run.json").read_text())["checks"])
    assert (suite.attrib["failures"], suite.attrib["errors"], suite.attrib["skipped"]) == ("0", "0", "0")


def test_nothing_of_ours_is_left_on_the_cloud(whole_run, lab):
    """No server, port, network, router, floating IP, key, image or security group of a run."""
    assert whole_run
    cloud = Cloud.connect(lab)
    left = [f"{kind} {name}" for kind, name, _ in holdings(cloud).things() if name.startswith("labproof")]
    assert not left


def test_twice_with_keep_the_second_run_provisions_nothing(lab, tmp_path):
    """`pytest suites/openstack -k topology --keep`, twice: the second makes no server, network, router or port."""
    first = pytest_on_suites("-k", "topology", "--keep", "--report-dir", str(tmp_path))
    assert first.returncode == 0, first.stdout[-3000:]
    cloud = Cloud.connect(lab)
    before = sorted(id_ for _, name, id_ in holdings(cloud).things())
    second = pytest_on_suites("-k", "topology", "--keep", "--report-dir", str(tmp_path))
    assert second.returncode == 0, second.stdout[-3000:]
    assert sorted(id_ for _, name, id_ in holdings(cloud).things()) == before
    last = pytest_on_suites("-k", "one_hop_further", "--report-dir", str(tmp_path))
    assert last.returncode == 0, last.stdout[-3000:]
    assert not [name for _, name, _ in holdings(cloud).things() if name.startswith("labproof")]


def test_the_nat_vm_docker_and_the_comparison_prove_all_their_claims(lab, tmp_path):
    """Every check of the three suites passes, none is skipped, and nothing of theirs is left."""
    seen = run_suites(tmp_path, "suites/virtualbox", "suites/docker", "suites/comparison")
    assert set(seen.verdicts.values()) == {"pass"}, seen.text[-4000:]
    assert {id_ for id_, claim in seen.run["claims"].items() if claim["verdict"] == "pass"} == NATVM
    assert seen.status == 0
    assert seen.run["facts"]["natvm"]["how"] == "resumed from a saved state"
    box = runtime.running()
    assert box is not None
    left = [path for path in (box.data / "natvm").rglob("*") if path.name.startswith("labproof-")]
    assert not left
    inside = subprocess.run(
        [*box.holder.enter(), "pgrep", "-fa", "labproof-.*-natvm"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not inside.stdout, inside.stdout


def test_the_calculator_proves_all_its_claims_on_every_arrangement(lab, tmp_path):
    """One VM, five VMs and two networks: every check passes, none is skipped, and nothing is left on the cloud."""
    seen = run_suites(tmp_path, "suites/calculator")
    assert set(seen.verdicts.values()) == {"pass"}, seen.text[-4000:]
    proven = {id_ for id_, claim in seen.run["claims"].items() if claim["verdict"] == "pass"}
    assert proven >= CALCULATOR, f"not proven: {sorted(CALCULATOR - proven)}"
    assert seen.status == 0
    left = holdings(Cloud.connect(lab)).things()
    assert not [f"{kind} {name}" for kind, name, _ in left if name.startswith("labproof")]
