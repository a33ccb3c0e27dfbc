"""Projects as students build them: names and addresses of their own, and what else they left lying about."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from provision.attach.services import Asked
from provision.holdings import (
    CloudFloatingIP,
    CloudNetwork,
    CloudPort,
    CloudRouter,
    CloudRule,
    CloudSecurityGroup,
    CloudServer,
    CloudSubnet,
    Holdings,
    RuleKey,
)

EXTERNAL = "id-of-public"
ANY = (None, None, None)
ASKED = (
    RuleKey("egress", "IPv4", None, None, None, None),
    RuleKey("egress", "IPv6", None, None, None, None),
    RuleKey("ingress", "IPv4", None, None, None, "own"),
    RuleKey("ingress", "IPv6", None, None, None, "own"),
    RuleKey("ingress", "IPv4", "icmp", None, None, None),
    RuleKey("ingress", "IPv4", "tcp", (22, 22), None, None),
)
CALCULATOR = RuleKey("ingress", "IPv4", "tcp", (50000, 50050), None, None)
SERVICES = RuleKey("ingress", "IPv4", "tcp", (50001, 50004), None, None)


class Built:
    """A project under construction; ids are given by number, so that a name is nothing but a name."""

    def __init__(self) -> None:
        self.have = Holdings()
        self._count = 0

    def _id(self) -> str:
        self._count += 1
        return f"id-{self._count}"

    def _add(self, field: str, thing: Any) -> None:
        self.have = replace(self.have, **{field: (*getattr(self.have, field), thing)})

    def network(self, name: str, cidr: str = "", gateway: str | None = "") -> CloudNetwork:
        """Without a CIDR it has IPv6 addresses alone, which are not listed."""
        id_ = self._id()
        subnets: tuple[CloudSubnet, ...] = ()
        if cidr:
            at = IPv4Network(cidr)
            first = None if gateway is None else IPv4Address(gateway) if gateway else at[1]
            subnets = (CloudSubnet(self._id(), "", id_, at, first, True, ()),)
        made = CloudNetwork(id_, name, "", (), subnets)
        self._add("networks", made)
        return made

    def router(self, name: str, external: str | None = EXTERNAL, **legs: str) -> CloudRouter:
        """``legs`` are addresses by the network's name, with ``_`` for a space."""
        address = IPv4Address("192.168.37.9") if external else None
        made = CloudRouter(self._id(), name, "", (), external, address, 0, "ACTIVE")
        self._add("routers", made)
        for network, at in legs.items():
            self.port(made.id, network.replace("_", " "), at, owner="network:router_interface")
        return made

    def port(
        self, device: str, network: str, address: str, *groups: str, owner: str = "compute:nova"
    ) -> CloudPort:
        at = next(each for each in self.have.networks if each.name == network)
        made = CloudPort(
            self._id(), "", "", (), at.id, device, owner, "", (IPv4Address(address),), groups, "ACTIVE"
        )
        self._add("ports", made)
        return made

    def group(self, name: str, *rules: RuleKey) -> CloudSecurityGroup:
        """A rule whose group is ``own`` is of the group itself."""
        id_ = self._id()
        keys = (rule._replace(group=id_ if rule.group == "own" else rule.group) for rule in rules)
        made = CloudSecurityGroup(id_, name, "", (), tuple(CloudRule(self._id(), key) for key in keys))
        self._add("security_groups", made)
        return made

    def server(
        self,
        name: str,
        network: str,
        address: str,
        *groups: CloudSecurityGroup,
        floating_ip: str = "",
        status: str = "ACTIVE",
    ) -> CloudServer:
        """Without an address it has no port."""
        at = (IPv4Address(address),) if address else ()
        made = CloudServer(self._id(), name, status, None, "m1.tiny", None, None, {}, at)
        self._add("servers", made)
        if address:
            port = self.port(made.id, network, address, *(group.id for group in groups))
            if floating_ip:
                self.floating_ip(floating_ip, port)
        return made

    def floating_ip(self, address: str, port: CloudPort | None = None) -> None:
        fixed = port.addresses[0] if port else None
        made = CloudFloatingIP(
            self._id(), IPv4Address(address), "", (), port.id if port else None, fixed, "ACTIVE"
        )
        self._add("floating_ips", made)


class Said:
    """What answers in the lab, and whether it was asked.

    Args:
        ports: what answers the desktop, by floating IP.
        services: who answers where: address and port.
    """

    def __init__(
        self, ports: Mapping[str, Sequence[int]] | None = None, services: Mapping[str, str] | None = None
    ) -> None:
        self._ports = dict(ports or {})
        self._services = dict(services or {})
        self.doors: list[str] = []

    def answers(self, floating_ip: IPv4Address) -> Sequence[int]:
        return self._ports.get(str(floating_ip), ())

    def serves(self, door: IPv4Address, places: Collection[Asked]) -> Mapping[Asked, str]:
        self.doors.append(str(door))
        return {
            (address, port): self._services[key]
            for address, port in places
            if (key := f"{address}:{port}") in self._services
        }


SAID = Said(
    {"192.168.37.50": [50010]},
    {"10.9.0.21:50001": "sum", "10.9.0.12:50002": "sub", "10.9.0.33:50003": "mul", "10.9.0.4:50004": "div"},
)
"""Who answers in :func:`two_networks`."""


def two_networks(**changes: Any) -> Built:
    """Objectives 10 and 11, in Italian. ``changes`` leave out or replace parts: ``second_legs``, ``front_gateway``..."""
    built = Built()
    built.network("davanti", "172.20.1.0/26", changes.get("front_gateway", ""))
    built.network("dietro", "10.9.0.0/24", changes.get("back_gateway", ""))
    built.router(
        "porta",
        changes.get("first_external", EXTERNAL),
        **changes.get("first_legs", {"davanti": "172.20.1.1"}),
    )
    if changes.get("second", True):
        legs = changes.get("second_legs", {"davanti": "172.20.1.9", "dietro": "10.9.0.1"})
        built.router("ponte", changes.get("second_external"), **legs)
    base = built.group("default", *ASKED)
    opened = built.group("calcolo", CALCULATOR)
    inside = built.group("servizi", SERVICES)
    built.server(
        "calcolatrice",
        "davanti",
        "172.20.1.30",
        base,
        opened,
        floating_ip=changes.get("floating_ip", "192.168.37.50"),
    )
    for name, address in changes.get(
        "services", {"uno": "10.9.0.21", "due": "10.9.0.12", "tre": "10.9.0.33", "quattro": "10.9.0.4"}
    ).items():
        built.server(name, "dietro", address, base, inside)
    return built


def with_clutter(built: Built) -> Built:
    """What lies about in a project at the end of a term."""
    built.network("prova")
    built.network("vecchia", "10.77.0.0/24")
    built.network("isola", "192.168.99.0/24", None)
    built.router("router2", None)
    built.router("vecchio", EXTERNAL, vecchia="10.77.0.1")
    built.group("default2")
    built.server("rotto", "vecchia", "", status="ERROR")
    built.server("spento", "vecchia", "10.77.0.8", status="SHUTOFF")
    built.server("solo", "isola", "192.168.99.4")
    built.floating_ip("192.168.37.77")
    built.port("somebody-elses-server", "isola", "192.168.99.9")
    shared = built.server("ospite", "", "")
    # on a network of somebody else, which is shared and not among the project's
    built._add(
        "ports",
        CloudPort(
            "p-shared", "", "", (), "net of others", shared.id, "compute:nova", "", (IPv4Address("10.1.2.3"),), (), "ACTIVE"
        ),
    )  # fmt: skip
    return built


def two_tier(built: Built | None = None) -> Built:
    """Objective 9 on the cloud: five VMs on one network, the calculator with a floating IP."""
    built = built or Built()
    built.network("rete", "12.7.5.0/24")
    built.router("uscita", EXTERNAL, rete="12.7.5.1")
    base = built.group("tutto", *ASKED, CALCULATOR, SERVICES)
    built.server("A", "rete", "12.7.5.104", base, floating_ip="192.168.37.14")
    for name, last in {"B": 250, "C": 110, "D": 138, "E": 221}.items():
        built.server(name, "rete", f"12.7.5.{last}", base)
    return built


TIER_SAID = {
    "12.7.5.250:50001": "sum", "12.7.5.110:50002": "sub", "12.7.5.138:50003": "mul", "12.7.5.221:50004": "div",
}  # fmt: skip


def one_vm(built: Built | None = None) -> Built:
    """Objective 6: one VM behind a router."""
    built = built or Built()
    built.network("casa", "10.5.7.0/24")
    built.router("uscio", EXTERNAL, casa="10.5.7.1")
    base = built.group("solo", *ASKED)
    built.server("macchina", "casa", "10.5.7.20", base, floating_ip="192.168.37.28")
    return built
