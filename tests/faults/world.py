"""The lab that stands, as faults are put into it: the cloud, its hosts, the NAT VM, the box beneath."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fixtures.calculator import as_asked
from fixtures.openstack import TOPOLOGIES, Standing, enter, find
from probes.host import Host, HostError, LocalHost
from probes.reach import Probe, wait_until
from provision.box import runtime
from provision.calculator.deploy import Running, deploy, program
from provision.cloud import Cloud
from provision.lab import Lab
from provision.nat_lab import nat_lab
from provision.nat_machines import NatMachine, NatMachines
from provision.runs import Kept, standing_run
from provision.topology import Topology

TAKES_EFFECT = 30.0


class World:
    """Handles on what stands, each made when it is first asked for. For one lane, in the desktop's network.

    Attributes:
        folder: for files of the faults.
    """

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self._standing: dict[str, Standing] = {}
        self._machine: NatMachine | None = None

    @cached_property
    def desktop(self) -> Host:
        return LocalHost("desktop")

    @property
    def kept(self) -> Kept:
        kept = standing_run(self.lab.name)
        assert kept is not None, "nothing was left standing"
        return kept

    @property
    def box(self) -> runtime.Box:
        box = runtime.running()
        assert box is not None, "the box is not up"
        return box

    @cached_property
    def cloud(self) -> Cloud:
        return Cloud.connect(self.lab)

    @cached_property
    def admin(self) -> Any:
        """The administrator's connection, for what only an operator can break."""
        admin = replace(self.lab, cloud="labproof-box-admin")
        return Cloud.connect(admin, self.box.data / "clouds-admin.yaml").api

    @property
    def network(self) -> Any:
        return self.cloud.api.network

    def standing(self, name: str) -> Standing:
        """A topology that was left standing, and its hosts."""
        if name not in self._standing:
            topology = Topology.load(TOPOLOGIES / f"{name}.json")
            deployment = find(self.cloud, topology, self.kept.run)
            assert deployment is not None, f"{name} does not stand"
            self._standing[name] = Standing(
                topology, deployment, enter(self.cloud, self.kept, topology, deployment)
            )
        return self._standing[name]

    def machine(self) -> NatMachine:
        """The NAT VM with Docker."""
        if self._machine is None:
            on = nat_lab(self.lab, lambda _: None)
            machines = NatMachines(
                on.hypervisor, on.folder / "disks", self.kept.run, self.kept.key, self.kept.public_key
            )
            self._machine = machines.find("natvm", on.docker)
            assert self._machine is not None, "the NAT VM does not stand"
        return self._machine

    def services(self, topology_name: str) -> dict[str, Running]:
        """The calculator's services as the topology asks for them."""
        topology, hosts, address = self._where(topology_name)
        return as_asked(topology, hosts, address, program(self.lab))

    def mend_services(self, topology_name: str) -> None:
        topology, hosts, address = self._where(topology_name)
        deploy(topology, hosts, address, program(self.lab))

    def _where(self, topology_name: str) -> tuple[Topology, Mapping[str, Host], Callable[[str], str]]:
        if topology_name == "one-vm":
            topology = Topology.load(TOPOLOGIES / "one-vm.json")
            return topology, {"natvm": self.machine().host}, lambda name: str(topology.host(name).address)
        standing = self.standing(topology_name)
        return standing.topology, standing.hosts, standing.address

    def guest(self, host: Host, command: str, *arguments: object) -> None:
        """Runs a command in a guest; that it fails is no fault that was put in."""
        done = host.run(command, *arguments, timeout=60)
        assert done.succeeded, f"{host.name}: {command}: {done.stderr or done.stdout}"

    def inside(self, *argv: str, netns: str = "") -> str:
        """Runs a command on the cloud's own host, or in one of the networks that are there."""
        done = subprocess.run(
            [*self.box.holder.enter(netns), *argv], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
        return done.stdout

    @contextmanager
    def changed(self, host: Host, command: str, undo: str, *arguments: object) -> Iterator[None]:
        """Runs a command in a guest, and at the end another that undoes it; both take the same arguments."""
        try:
            self.guest(host, command, *arguments)
            yield
        finally:
            self.guest(host, undo, *arguments)

    @contextmanager
    def dropped(self, netns: str, *rule: str) -> Iterator[None]:
        """Has packets dropped without an answer in one of the networks; ``rule`` is iptables', with its chain."""
        self.inside("iptables", "-w", "-I", *rule, "-j", "DROP", netns=netns)
        try:
            yield
        finally:
            self.inside("iptables", "-w", "-D", *rule, "-j", "DROP", netns=netns)

    @contextmanager
    def stopped(self, topology: str, host: str) -> Iterator[None]:
        """Stops a server; at the end it runs again and can be entered."""
        compute, server = self.cloud.api.compute, self.standing(topology).deployment.hosts[host].server_id
        compute.stop_server(server)
        compute.wait_for_server(compute.get_server(server), status="SHUTOFF", wait=120, interval=0.5)
        try:
            yield
        finally:
            compute.start_server(server)
            compute.wait_for_server(compute.get_server(server), wait=120, interval=0.5)
            self.refresh()
            self.standing(topology).hosts[host].wait_ready(180)

    @contextmanager
    def switched_off(self, update: Callable[..., Any], id_: str, way: Probe) -> Iterator[None]:
        """Sets a port or a router administratively down; ``way`` leads through it."""
        update(id_, admin_state_up=False)
        try:
            self.has_effect(way, reached=False)
            yield
        finally:
            update(id_, admin_state_up=True)
        self.has_effect(way, reached=True)

    def has_effect(self, probe: Probe, *, reached: bool, within: float = TAKES_EFFECT) -> None:
        """Waits until what was changed is carried out."""
        wait_until(probe, reached=reached, within=within)

    def refresh(self) -> None:
        """Forgets connections: what was broken may have ended them."""
        for standing in self._standing.values():
            for host in reversed([*standing.hosts.values()]):
                with suppress(HostError):
                    host.close()
        self._standing.clear()
        if self._machine is not None:
            self._machine.host.close()
            self._machine = None

    def close(self) -> None:
        self.refresh()
        self.desktop.close()
