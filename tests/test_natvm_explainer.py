"""The NAT VM's rules and settings name what keeps a look from being reached."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from fixtures.explainers import Case
from fixtures.natvm_explainer import NatVmExplainer
from probes.observation import Observation, Outcome
from probes.shell import CommandResult, HostError
from provision.natvm import Forwarding

LAN = "10.1.5.89"
HEALTHY = {
    "forwards": "1",
    "ignores": "0",
    "default": "default via 10.0.2.2 dev eth0",
    "bridge": "3: docker0    inet 172.17.0.1/16 brd 172.17.255.255 scope global docker0",
    "translates": "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
}


class Vm:
    """A VM that answers the looks that are made into it."""

    name = "natvm"

    def __init__(self, listens: str = "LISTEN 0 128 *:22", published: str = "", **state: str) -> None:
        self._state = "".join(f"== {name}\n{text}\n" for name, text in (HEALTHY | state).items())
        self._listens, self._published = listens, published

    def run(self, command: str, *args: object, timeout: float = 10.0) -> CommandResult:
        said = self._state
        if command.startswith("ss "):
            said = self._listens
        if command.startswith("docker ps"):
            said = self._published
        return CommandResult(command, 0, said, "", 0.0)

    @property
    def testinfra(self) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        pass


class Dead(Vm):
    def run(self, command: str, *args: object, timeout: float = 10.0) -> CommandResult:
        raise HostError("natvm: no way in")


def look(source: str, target: str, outcome: Outcome = Outcome.FILTERED, port: int = 0) -> Observation:
    numbers = {"port": float(port)} if port else {}
    return Observation("tcp" if port else "ping", source, target, "", outcome, "", numbers, 0.0, 0.1)


def why(seen: Observation, vm: Vm | None = None, *rules: Forwarding) -> list[str]:
    explainer = NatVmExplainer(vm or Vm(), lambda: rules, {LAN, "127.0.0.1"})
    return list(explainer(Case((seen, seen), (seen,), acts=True)))


@pytest.mark.parametrize(
    ("source", "target", "state", "words"),
    [
        ("ct1", "198.51.100.8", {"forwards": "0"}, "does not forward packets"),
        ("ct1", "198.51.100.8", {"translates": "-P POSTROUTING ACCEPT"}, "has no MASQUERADE"),
        ("ct1", "10.0.2.15", {"bridge": ""}, "docker0 of natvm has no IPv4 address"),
        ("ct1", "10.0.2.15", {"ignores": "1"}, "natvm ignores pings"),
        ("natvm", "198.51.100.8", {"default": ""}, "natvm has no default route"),
    ],
)
def test_a_setting_of_the_vm_is_named(source: str, target: str, state: dict[str, str], words: str) -> None:
    (line,) = why(look(source, target), Vm(**state))
    assert words in line
    assert why(look(source, target)) == [], "nothing is said of a VM that is as it should be"
    assert why(look(source, target, Outcome.REACHABLE), Vm(**state)) == []


def test_a_setting_that_is_not_on_the_way_is_not_named() -> None:
    assert why(look("natvm", "198.51.100.8"), Vm(forwards="0", ignores="1")) == []
    assert why(look("ct1", "10.0.2.15"), Vm(forwards="0", default="")) == []


def test_the_rule_that_leads_elsewhere_is_named() -> None:
    ssh = Forwarding("ssh", 1234, 23)
    said = why(look("desktop", LAN, Outcome.REFUSED, 1234), Vm(listens=""), ssh)
    assert said[0].startswith("the host's port 1234 is led to the VM's port 23 by the rule ")
    assert said[1:] == ["nothing listens on the VM's port 23"]


def test_a_rule_bound_to_another_address_and_one_that_is_missing_are_named() -> None:
    bound = Forwarding("ssh", 1234, 22, host_ip=IPv4Address("127.0.0.1"))
    (line,) = why(look("desktop", LAN, Outcome.REFUSED, 1234), None, bound)
    assert "is bound to 127.0.0.1, not to 10.1.5.89" in line
    (line,) = why(look("desktop", LAN, Outcome.REFUSED, 1235), None, bound)
    assert line.startswith("no forwarding rule has the host's port 1235; the rules are: ")
    (line,) = why(look("desktop", LAN, Outcome.REACHABLE, 1235))
    assert line == "it is reached, though no forwarding rule has the host's port 1235; the rules are: none"


def test_a_port_that_no_container_publishes_is_named() -> None:
    vm = Vm(listens="", published="labproof-ct2   0.0.0.0:2224->22/tcp\n")
    said = why(look("desktop", LAN, Outcome.REFUSED, 2223), vm, Forwarding("ct2", 2223, 2223))
    assert said[-1] == "no container publishes port 2223; docker ps: labproof-ct2 0.0.0.0:2224->22/tcp"


def test_a_vm_that_cannot_be_entered_is_not_spoken_of() -> None:
    assert why(look("ct1", "198.51.100.8"), Dead()) == []
    said = why(look("desktop", LAN, Outcome.REFUSED, 1234), Dead(), Forwarding("ssh", 1234, 22))
    assert len(said) == 1
    assert why(look("natvm", "198.51.100.8", Outcome.NOT_MADE), Vm(default="")) == []


@pytest.mark.parametrize("source", ["desktop", "sum"])
def test_what_is_asked_of_another_machine_is_not_this_vms_matter(source: str) -> None:
    assert why(look(source, "192.168.37.20", port=50000), None, Forwarding("calculator", 50000, 50000)) == []
