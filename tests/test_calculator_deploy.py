"""The calculator's services deployed to a real guest: put there, kept running, changed, diagnosed, removed."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
import pytest

from probes.host import SshHost
from provision.box import guest, guest_vm
from provision.calculator.deploy import OWN, DeploymentError, Program, Programs, Running, deploy, remove
from provision.calculator.remote import Remote
from provision.nat_machines import NatMachine, NatMachines, Source
from provision.natvm import NatVm
from provision.qemu import Qemu
from provision.runs import make_key
from provision.topology import Topology
from tests.probes_world import Node, child, needs_root, nodes, until

pytestmark = [pytest.mark.box, needs_root]

ADDRESS = "10.0.2.15"
PORTS = {"sum": 50001, "sub": 50002, "mul": 50003, "div": 50004}
CLONE_NEWNET = 0x40000000


def document(names: tuple[str, ...] = ("sum", "sub", "mul", "div", "calculator")) -> dict[str, Any]:
    """All on the NAT VM, whose address NAT chooses."""
    services = [{"name": name, "host": "vm", "port": port} for name, port in PORTS.items() if name in names]
    if "calculator" in names:
        services.append({"name": "calculator", "host": "vm", "port": 50000, "backends": list(PORTS)})
    return {
        "name": "natvm",
        "networks": [{"name": "nat", "cidr": "10.0.2.0/24", "gateway": "10.0.2.2"}],
        "hosts": [{"name": "vm", "network": "nat", "flavor": "nano"}],
        "services": services,
    }


TOPOLOGY = Topology.from_json(document())


class InsideHost(SshHost):
    """Entered from a network namespace, whose sockets stay of it wherever they are used."""

    node: Node

    def _socket(self, timeout: float) -> socket.socket | paramiko.Channel:
        made: list[socket.socket | paramiko.Channel | BaseException] = []

        def enter() -> None:
            with Path(f"/proc/{self.node.pid}/ns/net").open() as space:
                if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET):
                    made.append(OSError(ctypes.get_errno(), "setns"))
                    return
            try:
                made.append(SshHost._socket(self, timeout))
            except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
                made.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if isinstance(made[0], BaseException):
            raise made[0]
        return made[0]


class InsideMachines(NatMachines):
    """NAT VMs behind a desktop in a namespace."""

    node: Node

    def _host(self, what: str, port: int, source: Source, vm: NatVm) -> SshHost:
        host = InsideHost(what, "127.0.0.1", source.login, self.key, port)
        host.node = self.node
        return host


@dataclass
class World:
    """The VM, and what is deployed on it."""

    machine: NatMachine
    running: dict[str, Running]
    first_seconds: float

    @property
    def host(self) -> SshHost:
        return self.machine.host

    def deploy(self, topology: Topology = TOPOLOGY, programs: Programs = OWN, **more: Any) -> list[str]:
        """Deploys; the names of what was changed."""
        self.running = deploy(topology, {"vm": self.host}, address, programs, **more)
        return [name for name, each in self.running.items() if each.changed]

    def told(self, command: str, *args: object, timeout: float = 30) -> str:
        done = self.host.run(command, *args, timeout=timeout)
        assert done.succeeded, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def processes(self) -> dict[str, tuple[int, ...]]:
        """All services' processes, in one look."""
        return {name: seen.processes for name, seen in Remote(self.host).look(TOPOLOGY.services).items()}

    def calculate(self, expression: str) -> str:
        return self.told(f"curl -s -m 20 -d %s http://{ADDRESS}:50000/", expression)


def address(host: str) -> str:
    assert host == "vm"
    return ADDRESS


def timed(what: str, work: Callable[[], Any]) -> Any:
    began = time.monotonic()
    result = work()
    print(f"{what}: {time.monotonic() - began:.1f} s")
    return result


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("vm")
    source = guest_vm.source(guest.ensure(print), 256, 1)
    key = make_key(folder / "id")
    with ExitStack() as stack:
        (desktop,) = stack.enter_context(nodes("desktop"))
        # what is left of a killed test run's VM ends with this process
        holder = stack.enter_context(child(["unshare", "--pid", "--fork", "--kill-child", "--", "cat"]))
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
        until(lambda: bool(children.read_text()), "the pid namespace's first process")
        prefix = ["nsenter", f"--target={int(children.read_text())}", "--pid", *desktop.prefix[1:]]
        machines = InsideMachines(
            Qemu(folder / "qemu", prefix=prefix), folder / "disks", "deploy", key.file, key.public
        )
        machines.node = desktop
        stack.callback(lambda: print(machines.remove_all() or "nothing left"))
        machine = machines.make("vm", source)
        made = World(machine, {}, 0.0)
        began = time.monotonic()
        assert made.deploy(on_progress=print) == [*PORTS, "calculator"]
        made.first_seconds = time.monotonic() - began
        yield made
        assert machines.remove_all() == []


def test_all_five_run_and_a_second_deployment_changes_nothing(world: World) -> None:
    assert world.calculate("(5+6)*2") == "result = 22"
    assert world.running["div"].state() == "running"
    assert world.running["calculator"].environment["MUL_URL"] == f"http://{ADDRESS}:50003"
    log = world.told(f"cat {world.running['sum'].log_file}")
    assert log == "Listening on port : 50001\nNew request :\nA = 5\nB = 6\nA + B = 11"
    before = world.processes()
    lines: list[str] = []
    assert timed("second deployment", lambda: world.deploy(on_progress=lines.append)) == []
    assert lines[0].startswith("vm: sum, sub, mul, div, calculator listening as before after ")
    assert world.processes() == before


def test_one_that_crashes_is_started_again(world: World) -> None:
    mul = world.running["mul"]
    (process,) = mul.processes()
    world.told(f"sudo kill -9 {process}")
    timed("back after a crash", lambda: until(lambda: mul.state() == "running", "mul", 60))
    assert mul.processes() != (process,)
    assert world.calculate("6*7") == "result = 42"


def test_a_stopped_one_stays_stopped_until_it_is_started(world: World) -> None:
    div = world.running["div"]
    timed("stop", div.stop)
    assert (div.state(), div.processes()) == ("stopped", ())
    time.sleep(2.5)  # longer than its supervisor takes to start one again
    assert div.processes() == ()
    assert "div at http://10.0.2.15:50004 does not answer: connection refused" in world.calculate("6/2")
    timed("start", div.start)
    assert world.calculate("6/2") == "result = 3"
    div.stop()
    assert world.deploy() == ["div"]


def test_what_is_configured_otherwise_restarts_alone_and_a_deployment_puts_it_back(world: World) -> None:
    calculator, sub = world.running["calculator"], world.running["sub"]
    before = world.processes()
    wrong = {**calculator.environment, "SUM_URL": f"http://{ADDRESS}:50002"}
    timed("configure", lambda: calculator.configure(environment=wrong))
    after = world.processes()
    assert {name for name in before if before[name] != after[name]} == {"calculator"}
    assert world.calculate("5+6") == "result = -1"
    sub.configure(command="python3 service.py sum --port {port} --bind {bind}", bind=ADDRESS)
    assert world.told(f"curl -s -d '8 3' http://{ADDRESS}:50002/") == "11"
    assert world.told("curl -s -d '8 3' http://127.0.0.1:50002/ || echo $?") == "7"
    assert world.deploy() == ["sub", "calculator"]
    assert world.told("curl -s -d '8 3' http://127.0.0.1:50002/") == "5"
    assert world.calculate("5+6") == "result = 11"


def test_a_reboot_of_the_guest_brings_them_back(world: World) -> None:
    world.running["div"].stop()
    boot = world.told("cat /proc/sys/kernel/random/boot_id")
    began = time.monotonic()
    world.told("sync; sudo reboot")

    # QEMU's NAT takes connections for a guest that is away: they are not to be tried before it is back
    until(lambda: world.machine.vm.console().count("labproof-guest: READY") == 2, "another boot", 90)
    world.host.disconnect()
    world.host.wait_ready(90)
    assert world.told("cat /proc/sys/kernel/random/boot_id") != boot
    print(f"rebooted in {time.monotonic() - began:.1f} s")
    for name in ("sum", "sub", "mul", "calculator"):
        until(lambda: world.running[name].state() == "running", name, 60)  # noqa: B023
    print(f"all are back {time.monotonic() - began:.1f} s after the reboot was asked for")
    assert world.running["div"].state() == "stopped"
    world.running["div"].start()
    assert world.calculate("(5+6)*2") == "result = 22"


BROKEN = "#!/usr/bin/env python3\nimport syncrequest\n"


def test_what_cannot_run_is_named_with_service_host_last_words_and_what_to_do(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "SumService.py").write_text(BROKEN)
    taker = "import socket, time; s = socket.create_server(('', 50003)); time.sleep(600)"
    world.running["mul"].stop()
    taken_by = world.told("nohup python3 -c %s >/dev/null 2>&1 & echo $!", taker)
    until(lambda: "C353" in world.told("cat /proc/net/tcp"), "the taker", 20)
    broken = {
        "sum": Program((tmp_path / "SumService.py",), "python3 SumService.py"),
        "sub": Program((), "nosuch {service}.js"),
        "div": Program(OWN.common.files, "python3 service.py div --port 50009"),
    }
    began = time.monotonic()
    with pytest.raises(DeploymentError) as caught:
        world.deploy(programs=Programs(OWN.common, broken), within=20)
    print(f"after {time.monotonic() - began:.1f} s:\n{caught.value}")
    errors = {error.service: error for error in (caught.value, *caught.value.others)}
    assert list(errors) == ["sum", "sub", "mul", "div"]
    assert {error.host for error in errors.values()} == {"vm"}
    told = str(caught.value).splitlines()
    assert told[0] == (
        "starting sum on vm: ModuleNotFoundError: No module named 'syncrequest'; "
        "install what is missing on vm, or name it in the lab file's calculator.files"
    )
    assert told[1].startswith("starting sub on vm: /opt/labproof/sub/run: ")
    assert "exec: nosuch: not found; install what is missing on vm" in told[1]
    assert told[2] == (
        "starting mul on vm: mul does not listen on 0.0.0.0 port 50003: address already in use; port 50003 is taken "
        f"by process {taken_by} (python3 -c {taker}); end what has port 50003 on vm, or give mul another one in the "
        "topology"
    )
    assert told[3] == (
        "starting div on vm: it runs and does not listen on port 50004; its last words: Listening on port : 50009; "
        "read /var/log/labproof-div.log on vm"
    )
    assert "refused" in world.calculate("5+6")
    # of the four, the one that somebody was in the way of is not itself to be mended
    world.told("kill %s", taken_by)
    assert world.deploy() == ["sum", "sub", "div"]
    assert world.calculate("(5+6)*2") == "result = 22"


def test_the_labs_own_programs_are_copied_with_their_folders(world: World, tmp_path: Path) -> None:
    """More than fits into one piece, and started through a shell that stays: a crash leaves nothing behind."""
    service = Path(OWN.common.files[0])
    modules = tmp_path / "modules/deep"
    modules.mkdir(parents=True)
    (modules / "service.py").write_bytes(service.read_bytes())
    (modules / "data.bin").write_bytes(bytes(range(256)) * 16 + os.urandom(400_000))
    own = Program(
        (tmp_path / "modules",), "sh -c 'python3 modules/deep/service.py {service} --port {port}; true'"
    )
    assert timed("deployed 400 kB", lambda: world.deploy(programs=Programs(OWN.common, {"div": own}))) == [
        "div"
    ]
    assert world.calculate("6/2") == "result = 3"
    shell, *rest = world.running["div"].processes()
    assert len(rest) == 1
    world.told(f"sudo kill -9 {shell}")
    until(lambda: not {shell, *rest} & set(world.running["div"].processes()), "a new start", 60)
    until(lambda: world.running["div"].state() == "running", "div", 60)


def test_what_the_topology_no_longer_has_is_removed(world: World) -> None:
    lines: list[str] = []
    three = Topology.from_json(document(("sum", "sub", "mul")))
    assert world.deploy(three, on_progress=lines.append) == []
    assert lines[0].startswith("vm: calculator, div removed after ")
    assert world.told("ls /opt/labproof").split() == ["mul", "sub", "sum"]
    assert world.told("ps -eo args | grep -c '[s]ervice.py'") == "3"


def test_removal_leaves_nothing(world: World) -> None:
    timed("removal", lambda: remove(TOPOLOGY, {"vm": world.host}))
    left = "ls -d /opt/labproof* /var/log/labproof-* /run/labproof-* /etc/inittab.*; grep labproof-service /etc/inittab"
    assert world.host.run(left).stdout == ""
    assert world.told("cat /etc/inittab") == (guest.SCRIPTS / "inittab").read_text().strip()
    assert "service.py" not in world.told("ps -eo args")
    assert remove(TOPOLOGY, {"vm": world.host}) is None
    with pytest.raises(DeploymentError, match="gone"):
        remove(TOPOLOGY, {"vm": SshHost("gone", "127.0.0.1", "user", password="x", port=1)})
