"""What a run that was killed has left, found by its journal and removed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from provision import journal
from provision.lab import Lab
from provision.nat_lab import nat_lab
from tests.probes_world import until
from tests.suite_runs import ROOT, begin

pytestmark = pytest.mark.box


def sweep(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "provision", "lab", "sweep", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_vm_of_a_killed_run_is_swept_and_the_run_that_lives_is_not(lab: Lab, tmp_path: Path) -> None:
    """`lab sweep` names the run, `--remove` ends its VM, removes its disk, journal and key."""
    hypervisor = nat_lab(lab, print).hypervisor
    assert not hypervisor.vms()
    known = {record.run for record in journal.read_all()}
    run = begin(tmp_path, "suites/virtualbox", "-k", "reaches_its_host")
    try:
        until(lambda: bool(hypervisor.vms()), "the run's VM", 120)
        alive = sweep("--remove")
        assert "still runs" in alive.stdout, alive.stdout + alive.stderr
        assert hypervisor.vms(), "the VM of a run that lives was removed"
    finally:
        run.kill()
        run.communicate()
    (left,) = [record for record in journal.read_all() if record.run not in known]
    told = sweep()
    assert f"run {left.run} on box has ended" in told.stdout, told.stdout + told.stderr
    assert hypervisor.vms(), "it was removed though nobody said so"
    done = sweep("--remove")
    assert f"run {left.run}: all of it is removed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
    assert not hypervisor.vms()
    assert not [disk for disk in hypervisor.disks() if left.run in disk.path.name]
    assert not left.path.exists()
    assert not (left.path.parent.parent / "runs" / left.run).exists()
