"""The topology that a cloud reports, in a topology's own names, and how it differs from the intended one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Protocol

from provision.cloud import Cloud
from provision.differences import differences
from provision.holdings import CloudPort, CloudServer, Holdings, RuleKey, holdings
from provision.mark import Mark, Whose

if TYPE_CHECKING:
    from reports.drawing import Model

__all__ = ["Group", "Inventory", "Leg", "Network", "Router", "Server", "differences", "inventory"]


@dataclass(frozen=True)
class Network:
    """``cidr``, ``gateway`` and the rest are its first subnet's; ``subnets`` is how many it has."""

    name: str
    cidr: IPv4Network | None
    gateway: IPv4Address | None
    dhcp: bool
    subnets: int


@dataclass(frozen=True)
class Leg:
    """An address in a network: a router's interface, or a server's."""

    network: str
    address: IPv4Address

    def __str__(self) -> str:
        return f"{self.network} {self.address}"


@dataclass(frozen=True)
class Router:
    """``external`` is the network that its gateway is on, None if it has none."""

    name: str
    status: str
    external: str | None
    external_address: IPv4Address | None
    legs: tuple[Leg, ...]


@dataclass(frozen=True)
class Server:
    """``status`` is nova's; ``fault`` why it is in ERROR, in the cloud's words.

    ``astray`` says where the floating IP leads that was made for it, where that is not here.
    """

    name: str
    status: str
    fault: str
    flavor: str
    legs: tuple[Leg, ...]
    security_groups: tuple[str, ...]
    floating_ip: IPv4Address | None
    astray: str = ""


@dataclass(frozen=True)
class Group:
    """A security group; in its rules, groups go by their names."""

    name: str
    rules: frozenset[RuleKey]


@dataclass(frozen=True)
class Inventory:
    """Networks, routers, servers and security groups as the cloud reports them.

    Attributes:
        external_network: name of the lab's external network.
        external_cidr: its addresses; None where the cloud does not show them to its users.
        flavors: what the topology's flavors are on this cloud, where they have another name.
    """

    networks: tuple[Network, ...] = ()
    routers: tuple[Router, ...] = ()
    servers: tuple[Server, ...] = ()
    security_groups: tuple[Group, ...] = ()
    external_network: str = ""
    external_cidr: IPv4Network | None = None
    flavors: Mapping[str, str] = field(default_factory=dict)

    def network(self, name: str) -> Network:
        return {network.name: network for network in self.networks}[name]

    def router(self, name: str) -> Router:
        return {router.name: router for router in self.routers}[name]

    def server(self, name: str) -> Server:
        return {server.name: server for server in self.servers}[name]

    def security_group(self, name: str) -> Group:
        return {group.name: group for group in self.security_groups}[name]

    def __str__(self) -> str:
        lines = [f"network {n.name}: {n.cidr}, gateway {n.gateway or 'none'}" for n in self.networks]
        for router in self.routers:
            gateway = (
                f"{router.external} {router.external_address or ''}".strip() if router.external else "none"
            )
            legs = ", ".join(map(str, router.legs)) or "none"
            lines.append(f"router {router.name}: {router.status}, external gateway {gateway}, legs {legs}")
        for server in self.servers:
            floating = f", floating IP {server.floating_ip}" if server.floating_ip else ""
            at = ", ".join(map(str, server.legs)) or "no network"
            lines.append(f"server {server.name}: {server.status}, {server.flavor}, {at}{floating}")
        lines += [f"security group {group.name}: {len(group.rules)} rules" for group in self.security_groups]
        return "\n".join(lines) or "nothing"

    def as_drawing(self) -> Model:
        """The model that :func:`reports.drawing.draw` draws."""
        from reports import drawing

        def links(legs: tuple[Leg, ...]) -> tuple[drawing.Link, ...]:
            return tuple(drawing.Link(leg.network, str(leg.address)) for leg in legs)

        cidr = str(self.external_cidr or "")
        external = (
            [drawing.Network(self.external_network, cidr, external=True)] if self.external_network else []
        )
        return drawing.Model(
            networks=(*external, *(drawing.Network(n.name, str(n.cidr or "")) for n in self.networks)),
            routers=tuple(
                drawing.Router(
                    r.name,
                    drawing.Link(r.external, str(r.external_address or "")) if r.external else None,
                    links(r.legs),
                    r.status,
                )
                for r in self.routers
            ),
            servers=tuple(
                drawing.Server(s.name, links(s.legs), s.status, str(s.floating_ip or ""))
                for s in self.servers
            ),
        )


class Marked(Protocol):
    """What knows its mark: a deployment."""

    @property
    def mark(self) -> Whose: ...


def inventory(cloud: Cloud, of: Marked | Mark | None = None) -> Inventory:
    """What the cloud reports.

    Args:
        of: a deployment, or the mark of a run (with or without a topology); None for all of the project's.

    Raises:
        CloudError: something could not be listed.
    """
    mark: Whose | None = of if of is None or isinstance(of, Mark) else of.mark
    have = holdings(cloud, mark)
    external = cloud.external_network()
    return report(have, {external: cloud.lab.public_network}, cloud.external_cidr(), cloud.lab.flavors)


def report(
    have: Holdings, external: Mapping[str, str], cidr: IPv4Network | None, flavors: Mapping[str, str]
) -> Inventory:
    """Holdings in names; ``external`` is the external network's id and name."""
    networks = {n.id: n.name.removeprefix(have.prefix) for n in have.networks} | dict(external)
    groups = {g.id: g.name.removeprefix(have.prefix) for g in have.security_groups}

    def legs(ports: tuple[CloudPort, ...]) -> tuple[Leg, ...]:
        found = [Leg(networks.get(p.network_id, p.network_id), a) for p in ports for a in p.addresses]
        return tuple(sorted(found, key=lambda leg: (leg.network, leg.address)))

    def astray(name: str) -> str:
        made = next((f for f in have.floating_ips if f.description.split()[2:] == [name]), None)
        if made is None:
            return ""
        port = next((p for p in have.ports if p.id == made.port_id), None)
        taker = next(
            (s.name.removeprefix(have.prefix) for s in have.servers if port and s.id == port.device_id), ""
        )
        return f"{made.address}, which was made for it, leads {f'to {taker}' if taker else 'nowhere'}"

    def server(item: CloudServer) -> Server:
        ports = tuple(port for port in have.ports if port.device_id == item.id)
        floating = next(filter(None, (have.floating_ip(port.id) for port in ports)), None)
        names = {groups.get(group, group) for port in ports for group in port.security_groups}
        return Server(
            item.name.removeprefix(have.prefix),
            item.status,
            item.fault,
            item.flavor,
            legs(ports),
            tuple(sorted(names)),
            floating.address if floating else None,
            "" if floating else astray(item.name.removeprefix(have.prefix)),
        )

    return Inventory(
        networks=tuple(
            Network(
                networks[n.id],
                n.subnets[0].cidr if n.subnets else None,
                n.subnets[0].gateway if n.subnets else None,
                bool(n.subnets and n.subnets[0].dhcp),
                len(n.subnets),
            )
            for n in have.networks
        ),
        routers=tuple(
            Router(
                r.name.removeprefix(have.prefix),
                r.status,
                networks.get(r.external_id, r.external_id) if r.external_id else None,
                r.external_address,
                legs(have.legs(r.id)),
            )
            for r in have.routers
        ),
        servers=tuple(server(item) for item in have.servers),
        security_groups=tuple(
            Group(groups[g.id], frozenset(rule.key.named(groups) for rule in g.rules))
            for g in have.security_groups
        ),
        external_network=next(iter(external.values()), ""),
        external_cidr=cidr,
        flavors=flavors,
    )
