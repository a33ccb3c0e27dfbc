"""The NAT VM's and Docker's checks: our suites from a saved state, cold, and the lab's commands typed one by one."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from bench.common import ROOT, Row, ratio, timed
from provision.box import runtime
from provision.config_drive import write_config_drive
from provision.lab import Lab
from provision.nat_lab import NatLab, nat_lab, serve_packages
from provision.nat_machines import Source
from provision.natvm import Forwarding, NatVm, NatVmError
from provision.runs import make_key

SUITES = ("suites/virtualbox", "suites/docker")
PORT, CONTROL = 1234, 1240
HOST = "10.1.5.89"
VM = "10.0.2.15"
OUTSIDE = "198.51.100.8"
NEGATIVE = "ping -n -c 4 -W 2 {}"
CONNECT = "timeout 5 bash -c 'exec 3<>/dev/tcp/{}/{}'"
APT = "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y {}"


def measure() -> list[Row]:
    suites()  # not counted: an embedded lab that has just started still works, and its images are not in memory
    saved = suites()
    cold = suites(LABPROOF_COLD_BOOT="1")
    typed = one_by_one()
    return [
        Row("NAT VM and Docker suites, from a saved state", saved),
        Row("NAT VM and Docker suites, booted cold", cold),
        Row("the lab's commands one by one, a connection each", typed),
        ratio("NAT VM and Docker, commands / suites", typed, saved, "wanted 3"),
    ]


def suites(**environment: str) -> float:
    with tempfile.TemporaryDirectory() as folder, timed() as clock:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *SUITES, "-q", "--report-dir", folder],
            cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **environment},
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stdout[-3000:])
    return clock.seconds


class Typist:
    """Types the lab's commands: each in a connection of its own, each waited for before the next."""

    def __init__(self, login: str, key: Path) -> None:
        options = (
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
        )
        self._ssh = ["ssh", "-i", str(key), *(f"-o{option}" for option in options)]
        self._to = f"{login}@127.0.0.1"

    def here(self, text: str) -> None:
        subprocess.run(shlex.split(text), capture_output=True, check=False)

    def vm(self, text: str, port: int = CONTROL) -> bool:
        argv = [*self._ssh, "-p", str(port), self._to, text]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def container(self, name: str, text: str) -> bool:
        return self.vm(f"docker exec {name} sh -c {shlex.quote(text)}")

    def booted(self, port: int = CONTROL) -> None:
        while not self.vm("true", port):
            time.sleep(0.2)


class Bench:
    """A folder of VMs, each made when the one before it is up."""

    def __init__(self, lab: NatLab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._key = make_key(folder / "id")
        self.typist = Typist(lab.plain.login, self._key.file)
        self.made: list[NatVm] = []

    def clone(self, what: str, base: Path) -> Path:
        disk = self._folder / f"{what}.qcow2"
        self._lab.hypervisor.clone_disk(base, disk)
        return disk

    def boot(self, what: str, source: Source, disk: Path, port: int) -> NatVm:
        """Makes a VM on a disk, and waits until it can be entered by the port."""
        seed = self._folder / f"{what}.iso"
        write_config_drive(seed, name=what, public_key=self._key.public)
        vm = self._lab.hypervisor.create(source.settings(what, disk, seed))
        self.made.append(vm)
        vm.start()
        vm.forward(Forwarding("control", port, 22))
        self.typist.booted(port)
        return vm


def one_by_one() -> float:
    """Seconds for the lab's steps as its reports have them: the VM, its pings, its rules, its twins, its containers."""
    lab = nat_lab(Lab.load("box"), lambda _: None)
    box = runtime.running()
    assert box is not None
    neighbour = ["nsenter", f"--net={box.holder.network('neighbour')}", "--"]
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(lab, Path(name))
        packages = serve_packages(box)
        try:
            with timed() as clock:
                vm = bench.boot("first", lab.docker, bench.clone("first", lab.docker.disk), CONTROL)
                _pings(bench.typist, neighbour)
                _rules(bench.typist, vm, neighbour)
                _duplicate(bench, lab)
                _docker(bench.typist, vm)
        finally:
            for each in bench.made:
                each.remove()
            packages.terminate()
            packages.wait()
    return clock.seconds


def _pings(typist: Typist, neighbour: list[str]) -> None:
    typist.vm("ip -4 address show")
    typist.here("ip -4 address show")
    typist.vm(f"ping -n -c 4 {HOST}")
    typist.vm(f"ping -n -c 4 {OUTSIDE}")
    typist.here(NEGATIVE.format(VM))
    typist.here(shlex.join([*neighbour, *shlex.split(NEGATIVE.format(VM))]))


def _rules(typist: Typist, vm: NatVm, neighbour: list[str]) -> None:
    """SSH by the rule, before it, with it, by each address that it can be bound to, and after it."""
    everywhere, local, lan = PORT, PORT + 1, PORT + 2
    for address in (HOST, "127.0.0.1"):
        typist.here(CONNECT.format(address, everywhere))
    vm.forward(Forwarding("ssh", everywhere, 22))
    vm.forward(Forwarding("local", local, 22, host_ip=IPv4Address("127.0.0.1")))
    vm.forward(Forwarding("lan", lan, 22, host_ip=IPv4Address(HOST)))
    typist.vm("mkdir -p Desktop && touch Desktop/COUCOU", everywhere)
    typist.vm("ls Desktop")
    for port in (everywhere, local, lan):
        typist.here(shlex.join([*neighbour, *shlex.split(CONNECT.format(HOST, port))]))
    typist.here(CONNECT.format("127.0.0.1", local))
    for address in (VM, HOST, "127.0.0.1"):
        for port in (80, 443):
            typist.here(CONNECT.format(address, port))
    typist.here(NEGATIVE.format(VM))
    typist.here(CONNECT.format(VM, 22))
    vm.unforward("ssh")
    for address in (HOST, "127.0.0.1"):
        typist.here(CONNECT.format(address, everywhere))


def _duplicate(bench: Bench, lab: NatLab) -> None:
    """A second VM, with a mark on its disk; a copy of it that is refused, a clone that boots beside it."""
    typist, port = bench.typist, CONTROL + 1
    original = bench.boot("original", lab.plain, bench.clone("original", lab.plain.disk), port)
    typist.vm("echo before > mark && sync", port)
    original.stop()
    copy = original.disk.with_name("copy.qcow2")
    shutil.copyfile(original.disk, copy)
    with suppress(NatVmError):
        lab.hypervisor.register_disk(copy)
    clone = bench.clone("twin", original.disk)
    original.start()
    typist.booted(port)
    bench.boot("twin", lab.plain, clone, port + 1)
    typist.vm("cat mark", port + 1)
    for each in (port, port + 1):
        typist.vm("ip -4 address show", each)
    typist.vm(CONNECT.format(VM, 7777), port + 1)


def _docker(typist: Typist, vm: NatVm) -> None:
    typist.vm("sudo service docker start")
    typist.vm("ip -4 address show docker0")
    typist.vm("sudo -u stranger docker ps")
    typist.vm("docker run -dit --name ct1 debian:12")
    typist.container("ct1", APT.format("iputils-ping net-tools"))
    typist.container("ct1", "ifconfig")
    typist.container("ct1", f"ping -n -c 4 {OUTSIDE}")
    typist.container("ct1", f"ping -n -c 4 {VM}")
    typist.vm("ping -n -c 4 172.17.0.2")
    typist.vm("docker run -dit --name ct1 debian:12")
    vm.forward(Forwarding("ct2", 2223, 2223))
    greeting = "timeout 5 bash -c 'head -n 1 < /dev/tcp/{}/2223'"
    typist.here(greeting.format(HOST))
    typist.vm("docker run -dit --name ct2 -p 2223:22 debian:12")
    typist.container("ct2", APT.format("nano dropbear-bin"))
    typist.container("ct2", "mkdir -p /etc/dropbear && dropbear -R -p 22")
    typist.vm(greeting.format(VM))
    typist.here(greeting.format(HOST))
    vm.unforward("ct2")
    typist.here(greeting.format(HOST))
    for name in ("ct1", "ct2"):
        typist.container(name, "command -v nano")
    typist.vm("docker commit ct2 snapshot")
    typist.container("ct2", "touch /root/later")
    typist.vm("docker images")
    typist.vm("docker rm ct2")
    typist.vm("docker stop ct2")
    typist.vm("docker rm ct2")
    typist.vm("docker ps -a")
    typist.vm("docker run -dit --name ct3 snapshot")
    typist.container("ct3", "command -v nano; ls /root/later")
    dockerfile = f'FROM debian:12\\nRUN {APT.format("nano")}\\nCMD ["/bin/bash"]\\n'
    for _ in range(2):
        typist.vm(f"printf {shlex.quote(dockerfile)} | docker build -t built -")
    typist.vm("docker run --rm built nano --version")
