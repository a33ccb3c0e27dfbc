"""The standing lab that runs are made on again and again, and how one is started and waited for."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import docker
import psutil

from provision.box import runtime
from provision.cloud import Cloud
from provision.connection import cloud_of
from provision.lab import Lab
from provision.nat_lab import NatLab, build, nat_lab
from provision.nat_machines import NatMachine, NatMachines, free_port
from provision.natvm import Forwarding
from provision.runs import make_key
from tests.endurance.census import TOKEN
from tests.suite_runs import watcher_of

ROOT = Path(__file__).resolve().parent.parent.parent
ENGINE_PORT = 2375
Say = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """A standing box, its cloud and hypervisor."""

    box: runtime.Box
    lab: Lab
    cloud: Cloud
    nat: NatLab


@contextmanager
def standing(say: Say) -> Iterator[Stage]:
    """The embedded lab, started unless it is up, and ended then."""
    was = runtime.running()
    box = was or runtime.up(say)
    try:
        build(say)
        lab = Lab.load("box")
        yield Stage(box, lab, cloud_of(lab), nat_lab(lab, say))
    finally:
        if was is None:
            runtime.down()


@contextmanager
def engine(stage: Stage, folder: Path) -> Iterator[tuple[Path, str, Any]]:
    """A Docker engine that is others' too: a lab file for it, its DOCKER_HOST, and a client of it."""
    key = make_key(folder / "engine")
    machines = NatMachines(
        stage.nat.hypervisor, stage.nat.folder / "disks", f"e{secrets.token_hex(3)}", key.file, key.public
    )
    try:
        machine = stage.nat.docker_machine(machines)
        port = _listening(machine)
        file = folder / "engine.toml"
        file.write_text('docker = "local"\n' + (ROOT / "labs" / "box.toml").read_text())
        client = docker.DockerClient(base_url=f"tcp://127.0.0.1:{port}", timeout=120)
        try:
            yield file, f"tcp://127.0.0.1:{port}", client
        finally:
            client.close()
    finally:
        machines.remove_all()


def _listening(machine: NatMachine) -> int:
    hosts = json.dumps({"hosts": ["unix:///run/docker.sock", f"tcp://0.0.0.0:{ENGINE_PORT}"]})
    done = machine.host.run(
        "python3 -c %s && sudo service docker restart",
        "import json, subprocess; f = '/etc/docker/daemon.json'; d = json.load(open(f)); "
        f"d.update({hosts}); subprocess.run(['sudo', 'tee', f], input=json.dumps(d).encode(), check=True)",
        timeout=120,
    )
    if not done.succeeded:
        raise RuntimeError(f"the engine does not listen: {done.stderr}")
    port = free_port()
    machine.vm.forward(Forwarding("docker", port, ENGINE_PORT, host_ip=IPv4Address("127.0.0.1")))
    return port


@dataclass
class Running:
    """A run of the suites, known by its token wherever it has put its processes."""

    token: str
    process: subprocess.Popen[bytes]
    log: Path
    began: float

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def watcher(self) -> psutil.Process | None:
        """The process that outlives it; None where it is not there (yet)."""
        return watcher_of(self.process.pid)

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children()
        except psutil.Error:
            return []


def begin(folder: Path, words: Sequence[str], environment: dict[str, str]) -> Running:
    """Starts the suites as their users do."""
    folder.mkdir(parents=True, exist_ok=True)
    token, log = secrets.token_hex(8), folder / "output"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *words, "--report-dir", str(folder / "reports")],
            cwd=ROOT,
            env={**os.environ, **environment, TOKEN: token},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Running(token, process, log, time.monotonic())


def within(seconds: float, over: Callable[[], bool]) -> bool:
    """Waits until something is over; whether it was, in that time."""
    end = time.monotonic() + seconds
    while not over():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
