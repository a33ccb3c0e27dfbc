"""pytest plugin: breaks the NAT VM's lab in one way, named by LABPROOF_BREAK, while its suites run.

Each break is what somebody does wrong, or what fails, on the real VM; the suites know nothing of it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Generator
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

BREAK = os.environ.get("LABPROOF_BREAK", "")
LOOPBACK = IPv4Address("127.0.0.1")


def _rules(change: Callable[[Any], Any]) -> None:
    """Has the VM's forwarding rules made otherwise than asked for."""
    from provision.nat_machines import CONTROL
    from provision.qemu_vm import QemuVm

    original = QemuVm.forward

    def forward(self: QemuVm, rule: Any) -> None:
        original(self, rule if rule.name == CONTROL else change(rule))

    QemuVm.forward = forward  # type: ignore[method-assign]


def _guest(command: str, undo: str) -> None:
    """Runs a command in the NAT VM once it is there, before anybody has it, and another at the end."""
    from provision.nat_lab import NatLab

    original = NatLab.docker_machine

    def docker_machine(self: NatLab, machines: Any) -> Any:
        machine = original(self, machines)
        _run(machine, command)
        _AT_END.append(lambda: _run(machine, undo))
        return machine

    NatLab.docker_machine = docker_machine  # type: ignore[method-assign]


def _run(machine: Any, command: str) -> None:
    done = machine.host.run(command, timeout=60)
    assert done.succeeded, f"the break could not be put in or taken out: {command}: {done.stderr}"


def _no_forwarding(request: Any) -> None:
    request.getfixturevalue("docker_work").wait_for_all()
    machine = request.getfixturevalue("natvm")
    _run(machine, "sudo sysctl -qw net.ipv4.ip_forward=0")
    _AT_END.append(lambda: _run(machine, "sudo sysctl -qw net.ipv4.ip_forward=1"))


def _ct3_from_base() -> None:
    import fixtures.docker as docker

    original = docker._start

    def start(docker_lab: Any, what: str, image: str, **more: Any) -> Any:
        return original(docker_lab, what, docker_lab.base if what == "ct3" else image, **more)

    docker._start = start


def _kill_vm(request: Any) -> None:
    """Kills QEMU as the kernel does when memory runs out: by its own process id, in the box's pid namespace."""
    from provision.box import runtime

    vm = request.getfixturevalue("natvm").vm
    box = runtime.running()
    assert box is not None
    pid = (vm.folder / "pid").read_text().strip()
    subprocess.run(["nsenter", f"--target={box.holder.init}", "--pid", "kill", "-9", pid], check=True)


_BEFORE: dict[str, list[Callable[[Any], None]]] = {}
_AT_END: list[Callable[[], None]] = []

BREAKS: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "rule_on_the_wrong_guest_port": lambda: _rules(lambda rule: replace(rule, guest_port=23)),
    "rules_bound_to_127.0.0.1": lambda: _rules(lambda rule: replace(rule, host_ip=LOOPBACK)),
    "sshd_down": lambda: _guest("sudo service ssh stop", "sudo service ssh start"),
    "vm_killed": lambda: _BEFORE.setdefault("before", []).append(_kill_vm),
    "docker_stopped": lambda: _guest("sudo service docker stop", "sudo service docker start"),
    "ct3_from_the_base": _ct3_from_base,
    "no_ip_forwarding_in_the_vm": lambda: _BEFORE.setdefault(
        "call of test_ct1_reaches_the_outside", []
    ).append(_no_forwarding),
}


def pytest_configure() -> None:
    BREAKS[BREAK]()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any, request: Any) -> Generator[None, Any, Any]:
    for put_in in _BEFORE.get(fixturedef.argname, ()):
        put_in(request)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> Generator[None, Any, Any]:
    for put_in in _BEFORE.get(f"call of {pyfuncitem.originalname}", ()):
        put_in(pyfuncitem._request)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: Any) -> Generator[None, Any, Any]:
    if nextitem is None:
        for take_out in _AT_END:
            take_out()
    return (yield)
