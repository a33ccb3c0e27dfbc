"""The network to build, as a model: networks, routers, security groups, hosts and services.

A topology is one JSON document (``labs/topologies/*.json``). :meth:`Topology.load` reads and checks it whole
(see :mod:`provision.topology_document`); what it returns is consistent, so whoever builds or draws it need
not check again. External networks are named here and mapped to a cloud's own by the lab file.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Literal, TypeVar

Direction = Literal["ingress", "egress"]
Protocol = Literal["icmp", "tcp", "udp"]
Ethertype = Literal["IPv4", "IPv6"]

FLAVORS = ("nano", "tiny", "small2", "small", "medium", "large")
"""The lab's flavors; a lab file maps them to those of its cloud."""

SERVICE_PORTS = range(50000, 50051)
"""What the lab lets in to the calculator and its services."""

ANYWHERE = IPv4Network("0.0.0.0/0")


class TopologyError(Exception):
    """A topology document is refused.

    Attributes:
        problems: everything that is wrong with it, a line each: ``file: place: reason``.
    """

    def __init__(self, problems: Collection[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Network:
    """A network with its one subnet.

    Attributes:
        cidr: its addresses; :data:`ANYWHERE` for an external network whose document leaves them to the cloud.
        gateway: the default route of its hosts; None for a network without one.
        dhcp: whether its hosts get their address by DHCP.
        dns: name servers given to its hosts.
        external: belongs to the cloud and is there already; hosts are reached on it by floating IPs only.
    """

    name: str
    cidr: IPv4Network
    gateway: IPv4Address | None
    dhcp: bool = True
    dns: tuple[IPv4Address, ...] = ()
    external: bool = False


@dataclass(frozen=True)
class Leg:
    """A router's interface in a network.

    Attributes:
        address: its address there; a topology that was read has it always filled in.
        gateway: whether this is the network's gateway.
    """

    network: str
    address: IPv4Address | None
    gateway: bool


@dataclass(frozen=True)
class Router:
    """A router; ``external`` names the external network that its gateway is on, None if it has none."""

    name: str
    external: str | None
    legs: tuple[Leg, ...]


@dataclass(frozen=True)
class Rule:
    """What a security group lets through.

    Attributes:
        protocol: None for any.
        ports: first and last destination port (TCP and UDP); None for all.
        remote: the other side's addresses; with ``remote_group`` None too, anybody.
        remote_group: name of the security group that the other side is in.
    """

    direction: Direction
    protocol: Protocol | None
    ports: tuple[int, int] | None
    remote: IPv4Network | None
    remote_group: str | None
    ethertype: Ethertype = "IPv4"


@dataclass(frozen=True)
class SecurityGroup:
    """A security group with all of its rules: what no rule names is not let through, outwards neither."""

    name: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Route:
    """A static route in a guest: ``destination`` through the address ``via`` of the guest's own network."""

    destination: IPv4Network
    via: IPv4Address


@dataclass(frozen=True)
class Host:
    """A server.

    Attributes:
        address: its fixed address; None lets the cloud choose.
        image: None for the lab's own.
        flavor: one of the lab's; the lab file maps it.
        floating_ip: True for any of the external network, or the address wanted.
        security_groups: none means the project's ``default``.
    """

    name: str
    network: str
    address: IPv4Address | None
    image: str | None
    flavor: str
    floating_ip: bool | IPv4Address
    security_groups: tuple[str, ...]
    routes: tuple[Route, ...]


@dataclass(frozen=True)
class Service:
    """A process that listens on TCP ``port`` of ``host``.

    Attributes:
        backends: names of the services that it calls.
        bind: the only address that it listens on; None for all of its host's.
    """

    name: str
    host: str
    port: int
    backends: tuple[str, ...]
    bind: str | None


Named = TypeVar("Named", Network, Router, SecurityGroup, Host, Service)


def _find(kind: str, items: tuple[Named, ...], name: str) -> Named:
    for item in items:
        if item.name == name:
            return item
    known = ", ".join(item.name for item in items) or "none"
    raise KeyError(f"no {kind} named {name!r} in the topology; it has {known}")


@dataclass(frozen=True)
class Topology:
    """Networks, routers, security groups, hosts and services that belong together.

    The look-ups by name raise KeyError for a name that is not there.
    """

    name: str
    networks: tuple[Network, ...]
    routers: tuple[Router, ...] = ()
    security_groups: tuple[SecurityGroup, ...] = ()
    hosts: tuple[Host, ...] = ()
    services: tuple[Service, ...] = ()

    @classmethod
    def load(cls, path: str | Path, flavors: Collection[str] | None = FLAVORS) -> Topology:
        """Reads a topology document.

        Args:
            path: the JSON file, of at most 1 MiB.
            flavors: names that a host's flavor may have; None for any, to be looked up on the cloud.

        Raises:
            TopologyError: the file cannot be read, or anything in it is wrong; names every problem.
        """
        from provision.topology_document import load

        return load(path, flavors)

    @classmethod
    def from_json(
        cls, obj: object, source: str = "<topology>", flavors: Collection[str] | None = FLAVORS
    ) -> Topology:
        """Makes a topology of a parsed JSON document.

        Args:
            obj: what ``json.loads`` gave; any other object is refused.
            source: where it is from, for the problems' text.
            flavors: names that a host's flavor may have; None for any, to be looked up on the cloud.

        Raises:
            TopologyError: anything in it is wrong; names every problem.
        """
        from provision.topology_document import from_json

        return from_json(obj, source, flavors)

    def as_json(self) -> dict[str, Any]:
        """The document that :meth:`from_json` reads back as this very topology."""
        from provision.topology_text import as_json

        return as_json(self)

    def __str__(self) -> str:
        from provision.topology_text import describe

        return describe(self)

    def network(self, name: str) -> Network:
        return _find("network", self.networks, name)

    def router(self, name: str) -> Router:
        return _find("router", self.routers, name)

    def security_group(self, name: str) -> SecurityGroup:
        return _find("security group", self.security_groups, name)

    def host(self, name: str) -> Host:
        return _find("host", self.hosts, name)

    def service(self, name: str) -> Service:
        return _find("service", self.services, name)

    @property
    def internal_networks(self) -> tuple[Network, ...]:
        """The networks to be made."""
        return tuple(n for n in self.networks if not n.external)

    @property
    def external_networks(self) -> tuple[Network, ...]:
        """The cloud's own networks that the topology uses."""
        return tuple(n for n in self.networks if n.external)

    def hosts_of(self, network: Network | str) -> tuple[Host, ...]:
        """The hosts in a network, in the document's order."""
        name = _name(network)
        return tuple(host for host in self.hosts if host.network == name)

    def services_of(self, host: Host | str) -> tuple[Service, ...]:
        """The services on a host, in the document's order."""
        name = _name(host)
        return tuple(service for service in self.services if service.host == name)

    def routers_of(self, network: Network | str) -> tuple[Router, ...]:
        """The routers with a leg in a network, or with their external gateway on it."""
        name = _name(network)
        return tuple(r for r in self.routers if r.external == name or any(g.network == name for g in r.legs))

    def gateway_router(self, network: Network | str) -> Router | None:
        """The router that is an internal network's gateway; None if it has none."""
        name = _name(network)
        for router in self.routers:
            if any(leg.network == name and leg.gateway for leg in router.legs):
                return router
        return None

    def networks_of(self, router: Router | str) -> tuple[Network, ...]:
        """The internal networks that a router has a leg in, in the order of the legs."""
        legs = self.router(_name(router)).legs
        return tuple(self.network(leg.network) for leg in legs)

    def path(self, source: Host | str, target: Host | str) -> tuple[str, ...] | None:
        """The routers that a packet to the target's fixed address passes, by the routes as configured.

        One way only: an answer comes back if there is also a path from the target to the source
        (:meth:`connected`). Security groups are not considered.

        Returns:
            The routers' names; empty within one network; None if the packet does not arrive.
        """
        start, end = self.host(_name(source)), self.host(_name(target))
        if start.network == end.network:
            return ()
        goal = IPv4Network(end.address) if end.address else self.network(end.network).cidr
        router = self._next_hop(start, goal)
        # A router of the model knows its own networks alone: what it is not attached to, it sends to its
        # external gateway, behind which fixed addresses are not routed (RFC 1918).
        if router is None or all(leg.network != end.network for leg in router.legs):
            return None
        return (router.name,)

    def connected(self, one: Host | str, other: Host | str) -> bool:
        """Whether packets between two hosts' fixed addresses arrive both ways."""
        return self.path(one, other) is not None and self.path(other, one) is not None

    def reach_public(self, host: Host | str) -> Router | None:
        """The router through which a host reaches the external network; None if it does not."""
        router = self._next_hop(self.host(_name(host)), ANYWHERE)
        return router if router is not None and router.external is not None else None

    def _next_hop(self, host: Host, goal: IPv4Network) -> Router | None:
        """The router that a host hands packets for ``goal`` to: longest prefix first (RFC 1812, 5.2.4.3)."""
        routes = [route for route in host.routes if goal.subnet_of(route.destination)]
        via = self.network(host.network).gateway
        if routes:
            via = max(routes, key=lambda route: route.destination.prefixlen).via
        for router in self.routers if via else ():
            if any(leg.network == host.network and leg.address == via for leg in router.legs):
                return router
        return None


def _name(item: Network | Router | Host | str) -> str:
    return item if isinstance(item, str) else item.name
