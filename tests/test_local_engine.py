"""The checks of containers alone, on the engine of DOCKER_HOST: a real one, of a VM, reached by TCP."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import docker
import pytest

from provision.containers import Engine
from provision.lab import Lab
from provision.nat_lab import nat_lab
from provision.nat_machines import NatMachine, NatMachines, free_port
from provision.natvm import Forwarding
from provision.runs import make_key
from tests.probes_world import until
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


@pytest.fixture(scope="module")
def engine(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NatMachine, str]]:
    """A VM whose Docker listens on TCP as well, and its DOCKER_HOST."""
    where = nat_lab(lab, print)
    key = make_key(tmp_path_factory.mktemp("engine") / "id")
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
        port = free_port()
        machine.vm.forward(Forwarding("docker", port, PORT, host_ip=IPv4Address("127.0.0.1")))
        yield machine, f"tcp://127.0.0.1:{port}"
    finally:
        assert machines.remove_all() == []


def test_the_checks_of_containers_alone_pass_on_an_engine_of_docker_host(
    engine: tuple[NatMachine, str], tmp_path: Path
) -> None:
    machine, docker_host = engine
    (tmp_path / "local.toml").write_text('docker = "local"\n' + BOX)
    seen = run_suites(
        tmp_path,
        "suites/docker",
        "--lab",
        str(tmp_path / "local.toml"),
        DOCKER_HOST=docker_host,
    )
    verdicts = {name.rpartition("::")[2]: verdict for name, verdict in seen.verdicts.items()}
    assert {name for name, verdict in verdicts.items() if verdict == "skip"} == OF_THE_VM, seen.text[-3000:]
    assert {verdict for name, verdict in verdicts.items() if name not in OF_THE_VM} == {"pass"}, seen.text[
        -3000:
    ]
    left = machine.host.run("docker ps -aq --filter label=labproof; docker images -q --filter label=labproof")
    assert left.stdout == ""


BUILDING = """
import sys
import docker
from provision.containers import Engine
client = docker.DockerClient(base_url=sys.argv[1], version="1.41")
Engine(client, "cut", "labproof-cut-").build("built", "FROM debian:12\\nRUN touch /made\\nRUN sleep 600\\n")
"""


def test_what_a_build_has_made_until_it_was_cut_off_is_removed(engine: tuple[NatMachine, str]) -> None:
    _, docker_host = engine
    client = docker.DockerClient(base_url=docker_host, version="1.41")
    before = {image.id for image in client.images.list()}
    building = subprocess.Popen([sys.executable, "-c", BUILDING, docker_host])
    try:
        until(lambda: "sleep 600" in str(client.api.containers()), "the step that sleeps", 60)
    finally:
        building.kill()
        building.wait()
    until(lambda: not client.containers.list(all=True), "the end of the build", 60)
    assert {image.id for image in client.images.list()} > before, "nothing is left to be removed"
    swept = Engine(client, "cut", only={"labproof-cut-built"})
    assert swept.remove_all() == []
    assert {image.id for image in client.images.list()} == before
    client.close()
