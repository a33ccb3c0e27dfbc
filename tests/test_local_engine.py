"""The checks of containers alone, on the engine of DOCKER_HOST: a real one, of a VM, reached by TCP."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from provision.lab import Lab
from provision.nat_lab import nat_lab
from provision.nat_machines import NatMachine, NatMachines, free_port
from provision.natvm import Forwarding
from provision.runs import make_key
from tests.suite_runs import run_suites

pytestmark = pytest.mark.box

BOX = (Path(__file__).resolve().parent.parent / "labs/box.toml").read_text()
PORT = 2375
# what is about the VM around the engine
OF_THE_VM = {
    "test_the_docker_service_runs_in_the_vm",
    "test_a_user_outside_the_docker_group_is_refused",
    "test_ct1_reaches_the_vm",
    "test_the_vm_reaches_ct1_without_any_rule",
    "test_ct2s_published_port_leads_to_it",
    "test_from_the_desktop_both_forwardings_are_needed",
}


@pytest.fixture
def engine(lab: Lab, tmp_path: Path) -> Iterator[NatMachine]:
    """A VM whose Docker listens on TCP as well."""
    where = nat_lab(lab, print)
    key = make_key(tmp_path / "id")
    machines = NatMachines(
        where.hypervisor, where.folder / "disks", f"t{secrets.token_hex(3)}", key.file, key.public
    )
    try:
        machine = where.docker_machine(machines)
        hosts = {"hosts": ["unix:///run/docker.sock", f"tcp://0.0.0.0:{PORT}"]}
        done = machine.host.run(
            "python3 -c %s && sudo service docker restart",
            "import json, subprocess; f = '/etc/docker/daemon.json'; d = json.load(open(f)); "
            f"d.update({json.dumps(hosts)}); "
            "subprocess.run(['sudo', 'tee', f], input=json.dumps(d).encode(), check=True)",
            timeout=120,
        )
        assert done.succeeded, done.stdout + done.stderr
        yield machine
    finally:
        assert machines.remove_all() == []


def test_the_checks_of_containers_alone_pass_on_an_engine_of_docker_host(
    engine: NatMachine, tmp_path: Path
) -> None:
    port = free_port()
    engine.vm.forward(Forwarding("docker", port, PORT, host_ip=IPv4Address("127.0.0.1")))
    (tmp_path / "local.toml").write_text('docker = "local"\n' + BOX)
    seen = run_suites(
        tmp_path,
        "suites/docker",
        "--lab",
        str(tmp_path / "local.toml"),
        DOCKER_HOST=f"tcp://127.0.0.1:{port}",
    )
    verdicts = {name.rpartition("::")[2]: verdict for name, verdict in seen.verdicts.items()}
    assert {name for name, verdict in verdicts.items() if verdict == "skip"} == OF_THE_VM, seen.text[-3000:]
    assert {verdict for name, verdict in verdicts.items() if name not in OF_THE_VM} == {"pass"}, seen.text[
        -3000:
    ]
    left = engine.host.run("docker ps -aq --filter label=labproof; docker images -q --filter label=labproof")
    assert left.stdout == ""
