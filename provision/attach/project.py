"""A project as somebody has built it: what is joined to what, whatever its names."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Protocol

from provision.holdings import (
    CloudFloatingIP,
    CloudNetwork,
    CloudPort,
    CloudRouter,
    CloudSecurityGroup,
    CloudServer,
    CloudSubnet,
    Holdings,
)


class Thing(Protocol):
    """What a cloud lists."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...


class Project:
    """Look-ups in a project's holdings; their order never matters.

    Args:
        have: everything of the project.
        external: id of the lab's external network.

    Attributes:
        networks: its own networks that have IPv4 addresses.
    """

    def __init__(self, have: Holdings, external: str) -> None:
        self.have = have
        self.external = external
        self._ports: dict[tuple[str, str], list[CloudPort]] = {}
        for port in have.ports:
            if port.addresses:
                self._ports.setdefault((port.device_id, port.network_id), []).append(port)
        for ports in self._ports.values():
            ports.sort(key=lambda port: port.addresses)
        self._floating: dict[str, list[CloudFloatingIP]] = {}
        for each in sorted(have.floating_ips, key=lambda each: each.address):
            self._floating.setdefault(each.port_id or "", []).append(each)
        self._groups = {group.id: group for group in have.security_groups}
        self.networks = tuple(each for each in have.networks if each.subnets and each.id != external)

    def subnet(self, network: CloudNetwork) -> CloudSubnet:
        """The one of its subnets that most addresses are in."""
        used = [
            a
            for (_, at), ports in self._ports.items()
            if at == network.id
            for p in ports
            for a in p.addresses
        ]
        return min(
            network.subnets, key=lambda subnet: (-sum(a in subnet.cidr for a in used), subnet.cidr, subnet.id)
        )

    def ports(self, device: Thing, network: CloudNetwork) -> tuple[CloudPort, ...]:
        """A server's ports in a network, or a router's."""
        return tuple(self._ports.get((device.id, network.id), ()))

    def legs(self, router: CloudRouter, network: CloudNetwork) -> tuple[IPv4Address, ...]:
        """A router's addresses in a network, the gateway's first."""
        subnet = self.subnet(network)
        found = [a for port in self.ports(router, network) if port.is_leg for a in port.addresses]
        return tuple(sorted(found, key=lambda each: (each != subnet.gateway, each not in subnet.cidr, each)))

    def routers_of(self, network: CloudNetwork) -> list[CloudRouter]:
        """The routers with a leg in a network."""
        return [router for router in self.have.routers if self.legs(router, network)]

    def address(self, server: CloudServer, network: CloudNetwork) -> IPv4Address | None:
        ports = self.ports(server, network)
        return ports[0].addresses[0] if ports else None

    def servers_in(self, network: CloudNetwork) -> list[CloudServer]:
        """In the order of their addresses."""
        found = [(a, each) for each in self.have.servers if (a := self.address(each, network))]
        return [server for _, server in sorted(found, key=lambda each: (each[0], each[1].id))]

    def floating_ips(self, server: CloudServer, network: CloudNetwork) -> list[CloudFloatingIP]:
        """Those that lead to a server's address in a network."""
        return [each for port in self.ports(server, network) for each in self._floating.get(port.id, ())]

    def gateway_router(self, network: CloudNetwork) -> CloudRouter | None:
        """The router with an external gateway that has a leg in a network; of several, the network's gateway."""
        gateway = self.subnet(network).gateway
        fitting = [router for router in self.routers_of(network) if router.external_id]
        return min(fitting, key=lambda each: (gateway not in self.legs(each, network), each.id), default=None)

    def groups(self, server: CloudServer, network: CloudNetwork) -> list[CloudSecurityGroup]:
        """The security groups of a server's ports in a network."""
        ids = {group for port in self.ports(server, network) for group in port.security_groups}
        return [self._groups[each] for each in sorted(ids) if each in self._groups]

    def lets_in(self, server: CloudServer, network: CloudNetwork, protocol: str, port: int = 0) -> bool:
        """Whether a server's groups let anybody in by IPv4."""
        return any(
            rule.key.direction == "ingress"
            and rule.key.ethertype == "IPv4"
            and rule.key.protocol in (None, protocol)
            and (rule.key.ports is None or not port or rule.key.ports[0] <= port <= rule.key.ports[1])
            and rule.key.remote is None
            and rule.key.group is None
            for group in self.groups(server, network)
            for rule in group.rules
        )

    def told(self, thing: Thing, network: CloudNetwork | None = None) -> str:
        """A thing as its owner knows it: its name, and where it has one, its address."""
        name = thing.name or thing.id
        if isinstance(thing, CloudNetwork):
            return f"{name} ({self.subnet(thing).cidr})" if thing.subnets else name
        if isinstance(thing, CloudRouter):
            legs = [f"{n.name or n.id} {a}" for n in self.networks for a in self.legs(thing, n)]
            return f"{name} ({', '.join(sorted(legs)) or 'no leg'}{', external gateway' * bool(thing.external_id)})"
        if isinstance(thing, CloudServer):
            inside = self.address(thing, network) if network else next(iter(sorted(thing.addresses)), None)
            return f"{name} ({inside})" if inside else name
        return name

    def told_all(self, things: Iterable[Thing], network: CloudNetwork | None = None) -> str:
        return ", ".join(sorted(self.told(each, network) for each in things)) or "none"
