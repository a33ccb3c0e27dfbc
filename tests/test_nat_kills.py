"""A process that makes NAT VMs in QEMU is killed at any moment: by its journal everything of it is found again."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from provision import journal
from provision.nat_machines import NatMachines
from provision.natvm import VmSettings
from provision.qemu import Qemu
from provision.sweeper import MACHINES, names
from tests.probes_world import until
from tests.suite_runs import ROOT

KILLS = int(os.environ.get("LABPROOF_KILLS", "12"))
# again and again: a disk is cloned, a VM made on it and started, given a rule, and removed
MAKER = """
import sys
from pathlib import Path
from provision.journal import Journal
from provision.nat_machines import NatMachines, Source
from provision.natvm import Forwarding
from provision.qemu import Qemu

where, number = Path(sys.argv[1]), 0
log = Journal(where / "run.jsonl", "here", "ab12c")
key = where / "key"
machines = NatMachines(Qemu(where / "qemu"), where / "disks", "ab12c", key, "ssh-ed25519 AAAA", log, print)
print("begun", flush=True)
while True:
    number += 1
    name = machines.name(f"vm{number}")
    disk = machines.folder / f"{name}.qcow2"
    machines.clone(where / "source.qcow2", disk)
    vm, port = machines._create(name, disk, Source(disk, "user", 64, 1), None)
    vm.start()
    machines.forward(vm, Forwarding("ssh", port + 1, 22))
    if number % 2:
        vm.remove()
    print(number, flush=True)
"""


def files(folder: Path) -> set[Path]:
    """All but the registry itself, which stays."""
    return {path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("registry")}


def processes(folder: Path) -> list[str]:
    return [
        " ".join(process.info["cmdline"])[:100]
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(process.info["cmdline"] or ()) and process.pid != os.getpid()
    ]


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A disk to clone, and somebody else's VM and disk with names like a run's, in the same folders."""
    source = tmp_path / "source.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", source, "64M"], check=True)
    subprocess.run(["qemu-io", "-c", "write -P 5 0 48M", source], check=True, stdout=subprocess.DEVNULL)
    hypervisor = Qemu(tmp_path / "qemu")
    for name in ("labproof-ab12c-decoy", "labproof-ab12-vm1", "labproof-ab12c-vm"):
        disk = tmp_path / "disks" / f"{name}.qcow2"
        disk.parent.mkdir(exist_ok=True)
        hypervisor.clone_disk(source, disk)
        hypervisor.create(VmSettings(name, disk, 64, 1))
    return tmp_path


def test_killed_at_any_moment_nothing_is_left_and_nobody_elses_touched(stage: Path) -> None:
    """Each time by SIGKILL; what is left is counted after one sweep."""
    hypervisor, chance = Qemu(stage / "qemu"), random.Random(7)
    vms, disks, before = hypervisor.vms(), hypervisor.disks(), files(stage)
    found = 0
    for number in range(KILLS):
        maker = subprocess.Popen(
            # in a network of its own, where no port is anybody's
            ["unshare", "--net", "--", sys.executable, "-c", MAKER, str(stage)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert maker.stdout
        assert maker.stdout.readline() == "begun\n"
        time.sleep(chance.uniform(0.0, 1.5))
        maker.kill()
        maker.communicate()
        record = journal.read(stage / "run.jsonl")
        assert not record.alive
        machines = NatMachines(hypervisor, stage / "disks", "ab12c", stage, "", only=names(record, MACHINES))
        found += len(machines.there())
        assert machines.remove_all() == []
        assert machines.there() == []
        until(lambda: not processes(stage), f"the end of all that was started, after kill {number}", 10)
        assert hypervisor.vms() == vms
        assert hypervisor.disks() == disks
        assert hypervisor.unregistered() == []
        assert files(stage) - before <= {stage / "run.jsonl"}, f"kill {number}"
        record.path.unlink()
    assert found > KILLS, "it was never killed while something was there"
