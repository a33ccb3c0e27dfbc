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


def _started_otherwise(
    what: str, change: Callable[[Any, dict[str, Any]], tuple[str, dict[str, Any]]]
) -> None:
    """Has one container started from another image, or with other settings."""
    import fixtures.docker_jobs as docker

    original = docker.start_container

    def start(docker_lab: Any, name: str, image: str, **more: Any) -> Any:
        if name == what:
            image, more = change(docker_lab, more)
        return original(docker_lab, name, image, **more)

    docker.start_container = start


def _other_port(docker_lab: Any, _: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return docker_lab.base, {"ports": {22: 2224}}


def _without(package: str) -> None:
    """Has a package left out of what is installed."""
    import fixtures.docker_jobs as docker

    original = docker.install
    docker.install = lambda container, *names: original(container, *(n for n in names if n != package))


def _committed_too_late() -> None:
    """Has the container changed before the image is made of it."""
    from fixtures.docker_jobs import AFTER_COMMIT
    from provision.containers import Engine

    original = Engine.commit

    def commit(self: Any, container: Any, what: str) -> Any:
        container.exec_run(["sh", "-c", f"echo later > {AFTER_COMMIT}"])
        return original(self, container, what)

    Engine.commit = commit  # type: ignore[method-assign]


def _removed_by_force() -> None:
    from docker.models.containers import Container

    original = Container.remove

    def remove(self: Any, **more: Any) -> Any:
        return original(self, **{**more, "force": True})

    Container.remove = remove


def _kill_vm(request: Any) -> None:
    """Kills QEMU as the kernel does when memory runs out: by its own process id, in the box's pid namespace."""
    from provision.box import runtime

    vm = request.getfixturevalue("natvm").vm
    box = runtime.running()
    assert box is not None
    pid = (vm.folder / "pid").read_text().strip()
    subprocess.run(["nsenter", f"--target={box.holder.init}", "--pid", "kill", "-9", pid], check=True)


def _stays(name: str) -> None:
    """Has a forwarding rule stay when it is deleted."""
    from provision.qemu_vm import QemuVm

    original = QemuVm.unforward

    def unforward(self: QemuVm, rule: str) -> None:
        if rule != name or all(each.name != name for each in self.forwardings()) or not _MADE:
            original(self, rule)

    made = QemuVm.forward

    def forward(self: QemuVm, rule: Any) -> None:
        made(self, rule)
        if rule.name == name:
            _MADE.append(name)

    QemuVm.unforward = unforward  # type: ignore[method-assign]
    QemuVm.forward = forward  # type: ignore[method-assign]


def _also(port: int) -> None:
    """Has another port forwarded beside the first rule."""
    from provision.natvm import Forwarding
    from provision.qemu_vm import QemuVm

    original = QemuVm.forward

    def forward(self: QemuVm, rule: Any) -> None:
        original(self, rule)
        if rule.name == "ssh":
            original(self, Forwarding("web", port, port))
            _AT_END.append(lambda: self.unforward("web"))

    QemuVm.forward = forward  # type: ignore[method-assign]


_MADE: list[str] = []
_BEFORE: dict[str, list[Callable[[Any], None]]] = {}
_AT_END: list[Callable[[], None]] = []


def _on(rule_name: str, **change: Any) -> None:
    _rules(lambda rule: replace(rule, **change) if rule.name == rule_name else rule)


BREAKS: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "wrong-guest-port": lambda: _rules(lambda rule: replace(rule, guest_port=23)),
    "rules-on-loopback": lambda: _rules(lambda rule: replace(rule, host_ip=LOOPBACK)),
    "rule-for-another-host-port": lambda: _on("ssh", host_port=1243),
    "local-rule-on-all-addresses": lambda: _on("ssh-local", host_ip=None),
    "web-forwarded-too": lambda: _also(80),
    "rule-stays-when-deleted": lambda: _stays("ssh"),
    "guests-sshd-down": lambda: _guest("sudo service ssh stop", "sudo service ssh start"),
    "vm-killed": lambda: _BEFORE.setdefault("before", []).append(_kill_vm),
    "docker-stopped": lambda: _guest("sudo service docker stop", "sudo service docker start"),
    "ct3-from-the-base": lambda: _started_otherwise("ct3", lambda lab, more: (lab.base, more)),
    "published-at-another-port": lambda: _started_otherwise("ct2", _other_port),
    "no-ssh-server-in-ct2": lambda: _without("dropbear-bin"),
    "image-without-nano": lambda: _without("nano"),
    "changed-before-the-commit": _committed_too_late,
    "removed-by-force": _removed_by_force,
    "no-ip-forwarding": lambda: _BEFORE.setdefault("call of test_ct1_reaches_the_outside", []).append(
        _no_forwarding
    ),
}


def _without_controls(kind: str) -> None:
    """Has positive controls of one kind taken for good whatever they show: what the suites would be without them."""
    from probes import prove

    original = prove._holds
    prove._holds = lambda seen: seen.probe == kind or original(seen)


def pytest_configure() -> None:
    BREAKS[BREAK]()
    if kind := os.environ.get("LABPROOF_WITHOUT_CONTROLS"):
        _without_controls(kind)


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
