"""What a run that was killed has left, found by its journal and removed; what is somebody else's is not."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision import journal as journals
from provision.cloud import Cloud
from provision.holdings import holdings
from provision.journal import Journal, Record
from provision.lab import Lab
from provision.mark import Mark
from provision.nat_lab import nat_lab
from provision.openstack import apply, destroy
from provision.sweeper import Sweeper, show
from provision.topology import Topology
from reports import runfile
from tests.probes_world import until
from tests.suite_runs import ROOT, SuiteRun, begin, ended, watcher_of

pytestmark = pytest.mark.box
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBXtmrcQ1rMTx3HgPJhhnxVXMMxbT5RtBbCSsXHmjSq8 labproof-tests"
BARE = replace(
    Topology.load(ROOT / "labs" / "topologies" / "two-networks.json"), name="bare", hosts=(), services=()
)


def sweep(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "provision", "lab", "sweep", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def both(folder: Path, *words: str) -> list[SuiteRun]:
    """Two runs that are begun together."""
    names = ("one", "other")
    runs = [begin(folder / name, *words) for name in names]
    try:
        return [ended(run, folder / name, 400) for run, name in zip(runs, names, strict=True)]
    finally:
        for run in runs:
            run.kill()


@pytest.fixture(scope="module")
def cloud(lab: Lab) -> Cloud:
    return Cloud.connect(lab)


@pytest.fixture
def run_journal(cloud: Cloud, tmp_path: Path) -> Iterator[Journal]:
    """The journal of a run whose things are removed afterwards whatever happened."""
    begun = Journal(tmp_path / "journal.jsonl", cloud.lab.name, f"t{secrets.token_hex(3)}")
    yield begun
    destroy(cloud, begun.run).check()


def died(run_journal: Journal) -> Record:
    return replace(journals.read(run_journal.path), alive=False)


def test_what_stands_in_the_journal_and_carries_the_tag_goes_and_nothing_else(
    cloud: Cloud, run_journal: Journal
) -> None:
    """Beside it stand: of the run's name without its tag, of its tag without being in the journal, another run's."""
    network, mark = cloud.api.network, Mark(run_journal.run)
    apply(cloud, BARE, run_journal.run, key_public=KEY, journal=run_journal)
    made = set(holdings(cloud, mark).things())
    theirs = [
        network.create_network(name=mark.name("bare-front2")),
        network.create_network(name=mark.name("bare-back"), description="somebody's"),
        network.create_network(name="theirs", description=mark.description()),
        network.create_network(name=f"labproof-{run_journal.run}x-bare-front"),
    ]
    address = network.create_ip(floating_network_id=cloud.external_network(), description="labproof")
    try:
        swept = Sweeper(cloud.lab, lambda: cloud, settle=0.0).remove(died(run_journal))
        assert swept.left == ()
        assert len(swept.removed) == len(made)
        assert not run_journal.path.exists()
        left = {id_ for _, _, id_ in holdings(cloud).things()}
        assert left >= {address.id, *(each.id for each in theirs)}
        assert not left & {id_ for _, _, id_ in made}
    finally:
        for each in theirs:
            network.delete_network(each)
        network.delete_ip(address)


def test_somebodys_server_port_and_address_in_the_runs_network_stay(
    cloud: Cloud, run_journal: Journal
) -> None:
    """The network cannot go then; who is in it is named."""
    made = apply(cloud, BARE, run_journal.run, key_public=KEY, journal=run_journal)
    front = made.networks["front"].id
    network, compute = cloud.api.network, cloud.api.compute
    server = compute.create_server(
        name="theirs",
        image_id=cloud.image().id,
        flavor_id=cloud.flavor("nano").id,
        networks=[{"uuid": front}],
    )
    try:
        until(lambda: list(network.ports(device_id=server.id)) != [], "the server's port", 60)
        port = next(iter(network.ports(device_id=server.id)))
        address = network.create_ip(
            floating_network_id=cloud.external_network(), port_id=port.id, description="theirs"
        )
        swept = Sweeper(cloud.lab, lambda: cloud, settle=0.0).remove(died(run_journal))
        assert any("bare-front" in each for each in swept.left), swept.left
        assert compute.find_server(server.id) is not None
        assert network.find_port(port.id) is not None
        assert network.find_ip(address.id) is not None
        assert run_journal.path.exists(), "what is left stays written down"
    finally:
        compute.delete_server(server)
        compute.wait_for_delete(server, wait=90)
        for ip in list(network.ips(description="theirs")):
            network.delete_ip(ip)


def test_what_has_no_journal_goes_only_by_its_name_once_it_was_shown(
    cloud: Cloud, run_journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It may be a colleague's: `--adopt RUN` removes what a dry run has shown of it, and nothing that came later."""
    monkeypatch.setattr("provision.sweeper.state", lambda: tmp_path)
    apply(cloud, BARE, run_journal.run, key_public=KEY)
    sweeper = Sweeper(cloud.lab, lambda: cloud, settle=0.0)
    with pytest.raises(LookupError, match="no dry run has shown"):
        sweeper.adopt(run_journal.run)
    orphans = sweeper.orphans()
    assert {thing.kind for thing in orphans[run_journal.run]} >= {"network", "router", "security group"}
    show(cloud.lab, orphans)
    later = cloud.api.network.create_security_group(
        name=Mark(run_journal.run).name("later"), description=Mark(run_journal.run).description()
    )
    swept = sweeper.adopt(run_journal.run)
    assert swept.left == ()
    assert [id_ for _, _, id_ in holdings(cloud, Mark(run_journal.run)).things()] == [later.id]


def test_what_appears_after_its_askers_death_is_found(cloud: Cloud, run_journal: Journal) -> None:
    """Intended, and made by the cloud when the sweeper has looked already: it looks again after a while."""
    mark = Mark(run_journal.run)
    run_journal.intend("network", mark.name("late"))
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if "looking again" in line:
            cloud.api.network.create_network(name=mark.name("late"), description=mark.description())

    swept = Sweeper(cloud.lab, lambda: cloud, tell, settle=2.0).remove(died(run_journal))
    assert [each for each in swept.removed if "late" in each], told
    assert not holdings(cloud, mark)


def test_the_watcher_removes_the_vm_of_a_killed_run(lab: Lab, tmp_path: Path) -> None:
    """SIGKILL of pytest: its watcher ends the VM and removes disk, journal and key; nobody else does anything."""
    hypervisor = nat_lab(lab, print).hypervisor
    run = begin(tmp_path, "suites/virtualbox", "-k", "reaches_its_host")
    try:
        until(lambda: bool(hypervisor.vms()), "the run's VM", 120)
        name = hypervisor.vms()[0].split("-")[1]
        watcher = watcher_of(run.pid)
        assert watcher
    finally:
        run.kill()
        run.communicate()
    until(lambda: not watcher.is_running(), "the watcher's end", 120)
    assert not hypervisor.vms()
    assert name not in {record.run for record in journals.read_all()}


def test_the_vm_of_a_killed_run_is_swept_and_the_run_that_lives_is_not(lab: Lab, tmp_path: Path) -> None:
    """The watcher is killed first. `lab sweep` shows the VM; `--remove` ends it, removes its disk, journal and key."""
    hypervisor = nat_lab(lab, print).hypervisor
    assert not hypervisor.vms()
    run = begin(tmp_path, "suites/virtualbox", "-k", "reaches_its_host")
    try:
        until(lambda: bool(hypervisor.vms()), "the run's VM", 120)
        name = hypervisor.vms()[0].split("-")[1]
        alive = sweep("--remove")
        assert "still runs" in alive.stdout, alive.stdout + alive.stderr
        assert hypervisor.vms(), "the VM of a run that lives was removed"
        watcher = watcher_of(run.pid)
        assert watcher
        watcher.kill()
    finally:
        run.kill()
        run.communicate()
    (left,) = [record for record in journals.read_all() if record.run == name]
    told = sweep()
    assert f"run {left.run} on box has ended" in told.stdout, told.stdout + told.stderr
    assert f"vm labproof-{left.run}-" in told.stdout, told.stdout
    assert "nothing was removed" in told.stdout
    assert hypervisor.vms(), "it was removed though nobody said so"
    done = sweep("--remove")
    assert f"run {left.run}: all of it is removed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
    assert not hypervisor.vms()
    assert not [disk for disk in hypervisor.disks() if left.run in disk.path.name]
    assert not left.path.exists()
    assert not (left.path.parent.parent / "runs" / left.run).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_servers_boot_removes_them_soon(
    cloud: Cloud, tmp_path: Path, number: signal.Signals
) -> None:
    """Nothing is left, and the removal is told as it goes."""
    before = set(holdings(cloud).things())
    run = begin(tmp_path, "suites/openstack/test_one_vm.py", "-k", "floating_ip_answers")
    try:
        until(
            lambda: any(thing[0] == "server" for thing in set(holdings(cloud).things()) - before),
            "the run's servers",
            120,
        )
        run.send_signal(number)
        # nova hears of the end of a server that it is building when it has waited for its port: up to two minutes
        seen = ended(run, tmp_path, 240)
    finally:
        run.kill()
    assert f"{number.name}: what the run made is being removed" in seen.text
    assert "removed after" in seen.text, seen.text
    assert set(holdings(cloud).things()) <= before


def test_two_runs_at_once_do_not_see_each_others_things(cloud: Cloud, tmp_path: Path) -> None:
    """Two on the same project, begun together: each proves its checks, and removes its own things alone."""
    before = set(holdings(cloud).things())
    words = ("suites/openstack/test_one_vm.py", "-k", "intended_topology or address_of_its_subnet")
    seen = both(tmp_path, *words)
    for each in seen:
        assert set(each.verdicts.values()) == {"pass"}, each.text[-3000:]
        assert each.status == 0
        assert not runfile.read(each.folder / "latest" / "run.json")["left_behind"]
    assert set(holdings(cloud).things()) <= before


def test_two_runs_of_the_nat_vm_at_once(lab: Lab, tmp_path: Path) -> None:
    hypervisor: Any = nat_lab(lab, print).hypervisor
    words = ("suites/virtualbox/test_nat.py", "-k", "reaches_its_host or another_network")
    seen = both(tmp_path, *words)
    for each in seen:
        assert set(each.verdicts.values()) == {"pass"}, each.text[-3000:]
        assert each.status == 0
    assert not hypervisor.vms()
