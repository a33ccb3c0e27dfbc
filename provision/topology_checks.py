"""Whether what a topology document says fits together: names, addresses, gateways, routes, services."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Literal

from provision.topology import ANYWHERE, Host, Network, Route, Rule, SecurityGroup, Service
from provision.topology_json import Problems, join, shown

Kind = Literal["network", "router", "security group", "host", "service"]

RESERVED = {
    IPv4Network("0.0.0.0/8"): "this host on this network",
    IPv4Network("127.0.0.0/8"): "loopback",
    IPv4Network("169.254.0.0/16"): "link-local, the metadata service's",
    IPv4Network("224.0.0.0/4"): "multicast",
    IPv4Network("240.0.0.0/4"): "reserved",
}
"""Blocks that no network of a lab can have (RFC 6890; RFC 5771 for multicast)."""


@dataclass(frozen=True)
class PlacedLeg:
    """A leg as written.

    Attributes:
        network: None where its address tells it, until the networks are known.
        address: None for the network's gateway.
        refused: its address was not one; it stands for the leg that was meant.
        listed: it only names the network; an interface of the same router may give the address.
    """

    place: str
    address_place: str
    network: str | None
    address: IPv4Address | None
    refused: bool = False
    listed: bool = False


@dataclass
class PlacedRouter:
    """A router as written; ``home`` is the network that it is nested in."""

    place: str
    external_place: str
    name: str
    external: str | None
    legs: list[PlacedLeg]
    home: str | None = None


@dataclass(frozen=True)
class PlacedHost:
    place: str
    network_place: str
    address_place: str
    host: Host
    routes: tuple[tuple[str, Route], ...]


@dataclass
class Draft:
    """What was read, each thing with its place. A name that was refused is the empty string.

    ``names`` has also what was refused for another reason, and the empty string for what has lost its name,
    so that a mistake is reported once and not again by everything that refers to it.
    """

    name: str
    problems: Problems
    names: dict[Kind, dict[str, str]] = field(default_factory=dict)
    references: list[tuple[str, Kind, str]] = field(default_factory=list)
    networks: list[tuple[str, Network]] = field(default_factory=list)
    routers: list[PlacedRouter] = field(default_factory=list)
    groups: list[tuple[str, SecurityGroup]] = field(default_factory=list)
    hosts: list[PlacedHost] = field(default_factory=list)
    services: list[tuple[str, Service]] = field(default_factory=list)

    def define(self, kind: Kind, name: str, place: str) -> str:
        """Records that a thing has this name; hands it back."""
        first = self.names.setdefault(kind, {}).setdefault(name, place)
        if name and first != place:
            self.problems.add(join(place, "name"), f"{shown(name)} is the name of {first} already")
        return name

    def lose(self, kind: Kind) -> None:
        """Records that there are things of this kind whose names could not be read."""
        self.names.setdefault(kind, {}).setdefault("", "")

    def refer(self, kind: Kind, name: str, place: str) -> str:
        """Records that a name is used, to be looked up once everything is read; hands it back."""
        if name:
            self.references.append((place, kind, name))
        return name


def check(draft: Draft, flavors: Collection[str] | None) -> None:
    """Adds every inconsistency of the draft to its problems."""
    for place, kind, name in draft.references:
        known = draft.names.get(kind, {})
        meant = name in known or "" in known or (kind, name) == ("security group", "default")
        if not meant:
            what = f"unknown {kind} {shown(name)}"
            draft.problems.add(place, what + draft.problems.guess(name, known))
    _Checks(draft).run(flavors)


class _Checks:
    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.add = draft.problems.add
        self.networks = {network.name: network for _, network in reversed(draft.networks) if network.name}
        self.taken: dict[tuple[str, IPv4Address], str] = {}
        self.attached: dict[str, list[tuple[PlacedRouter, IPv4Address | None]]] = {}
        self.neighbours = {(placed.host.network, placed.host.address) for placed in draft.hosts}

    def run(self, flavors: Collection[str] | None) -> None:
        for place, network in self.draft.networks:
            self._network(place, network)
        self._overlaps()
        for router in self.draft.routers:
            self._router(router)
        for placed in self.draft.hosts:
            self._host(placed, flavors)
        for placed in self.draft.hosts:
            self._routes(placed)
        self._room()
        self._floating_ips()
        self._groups()
        self._services()

    def _network(self, place: str, network: Network) -> None:
        if network.cidr == ANYWHERE and network.external:
            return
        at = f"{place}.cidr"
        for block, use in RESERVED.items():
            if network.cidr.overlaps(block):
                self.add(at, f"{network.cidr} cannot be a network: {block} is {use}")
                break
        else:
            if network.cidr.prefixlen > 30:
                self.add(at, f"{network.cidr} has no room for a gateway and a host: /30 at most")
            elif network.gateway:
                self._inside(f"{place}.gateway", network.gateway, network)

    def _inside(self, place: str, address: IPv4Address, network: Network) -> bool:
        """Whether an address is one that an interface in the network can have."""
        cidr = network.cidr
        if address not in cidr:
            self.add(place, f"{address} is outside {network.name}'s {cidr}")
        elif address == cidr.network_address:
            self.add(place, f"{address} is the network address of {network.name}'s {cidr}")
        elif address == cidr.broadcast_address:
            self.add(place, f"{address} is the broadcast address of {network.name}'s {cidr}")
        else:
            return True
        return False

    def _overlaps(self) -> None:
        """Sorted by address, a network overlaps one before it only if it starts before the furthest end."""
        stated = [(p, n) for p, n in self.draft.networks if not (n.external and n.cidr == ANYWHERE)]
        order = sorted(range(len(stated)), key=lambda i: stated[i][1].cidr)
        widest: int | None = None
        for this in order:
            if widest is not None and stated[this][1].cidr.overlaps(stated[widest][1].cidr):
                later, first = stated[max(this, widest)], stated[min(this, widest)]
                self.add(
                    f"{later[0]}.cidr",
                    f"{later[1].cidr} overlaps {first[1].name or first[0]}'s {first[1].cidr}",
                )
            if (
                widest is None
                or stated[this][1].cidr.broadcast_address > stated[widest][1].cidr.broadcast_address
            ):
                widest = this

    def _internal(self, place: str, name: str, why: str) -> Network | None:
        network = self.networks.get(name)
        if network is not None and network.external:
            self.add(place, f"{name} is external: {why}")
            return None
        return network

    def _router(self, router: PlacedRouter) -> None:
        external = self.networks.get(router.external or "")
        if external is not None and not external.external:
            self.add(
                router.external_place,
                f'{external.name} is not external: mark it with "type": "external", or make it a leg',
            )
        if router.home and all(leg.network != router.home and not leg.refused for leg in router.legs):
            self.add(router.place, f"{router.name} has no interface in {router.home}, the network it is in")
        seen: set[str] = set()
        for leg in router.legs:
            why = 'a router is joined to it by "external", not by a leg'
            network = self._internal(leg.place, leg.network or "", why)
            if leg.network and leg.network in seen:
                self.add(leg.place, f"{router.name} has a leg in {leg.network} already")
                continue
            seen.add(leg.network or "")
            address = leg.address or (network.gateway if network and not leg.refused else None)
            self.attached.setdefault(leg.network or "", []).append((router, address))
            if network is not None and not leg.refused:
                self._leg(router, leg, network, address)

    def _leg(
        self, router: PlacedRouter, leg: PlacedLeg, network: Network, address: IPv4Address | None
    ) -> None:
        if address is None:
            reason = f"{network.name} has no gateway address to take: give the leg one of its own"
            self.add(leg.address_place, reason)
            return
        if leg.address is not None and not self._inside(leg.address_place, address, network):
            return
        owner = self.taken.get((network.name, address))
        if owner and address == network.gateway:
            self.add(
                leg.place,
                f"a second gateway for {network.name}: {owner} has {address} already, "
                f"and a network has one gateway only; give this leg a free address of its own",
            )
        else:
            self._take(leg.address_place, network, address, f"router {router.name}")

    def _take(self, place: str, network: Network, address: IPv4Address, owner: str) -> None:
        other = self.taken.setdefault((network.name, address), owner)
        if other != owner:
            self.add(place, f"{address} is {other}'s already")

    def _host(self, placed: PlacedHost, flavors: Collection[str] | None) -> None:
        host = placed.host
        if host.flavor and flavors is not None and host.flavor not in flavors:
            hint = self.draft.problems.guess(host.flavor, flavors)
            self.add(f"{placed.place}.flavor", f"unknown flavor {shown(host.flavor)}{hint}")
        why = "a server cannot be placed on an external network, only given a floating IP of it"
        network = self._internal(placed.network_place, host.network, why)
        if network is None or host.address is None:
            return
        if host.address == network.gateway:
            self.add(placed.address_place, f"{host.address} is the gateway of {network.name}")
        elif self._inside(placed.address_place, host.address, network):
            self._take(placed.address_place, network, host.address, f"host {host.name or placed.place}")

    def _room(self) -> None:
        """A network has an address for each leg and host, and for the DHCP server."""
        hosts = Counter(placed.host.network for placed in self.draft.hosts)
        for place, network in self.draft.networks:
            needed = len(self.attached.get(network.name, ())) + hosts[network.name] + int(network.dhcp)
            usable = network.cidr.num_addresses - 2
            if not network.external and network.name and needed > usable > 1:
                parts = "routers, hosts and the DHCP server" if network.dhcp else "routers and hosts"
                self.add(f"{place}.cidr", f"{network.cidr} has {usable} addresses; {parts} need {needed}")

    def _routes(self, placed: PlacedHost) -> None:
        first: dict[IPv4Network, str] = {}
        for place, route in placed.routes:
            other = first.setdefault(route.destination, place)
            if other == place:
                self._route(place, route, placed.host)
            else:
                again = f"{route.destination} has a route already, {other.rpartition('.')[2]}"
                self.add(f"{place}.destination", again)

    def _route(self, place: str, route: Route, host: Host) -> None:
        network = self.networks.get(host.network)
        if network is None or network.external:
            return
        at = f"{place}.via"
        legs = self.attached.get(network.name, [])
        router = next((router for router, address in legs if address == route.via), None)
        if route.via not in network.cidr:
            self.add(
                at, f"{route.via} is outside {network.name}'s {network.cidr}: {host.name} cannot reach it"
            )
        elif route.via == host.address:
            self.add(at, f"{route.via} is {host.name}'s own address")
        elif router is None and (network.name, route.via) not in self.neighbours:
            if any(address is None for _, address in legs):
                return
            known = ", ".join(f"{router.name} {address}" for router, address in legs if address) or "none"
            self.add(at, f"nothing in {network.name} has {route.via}; the routers there: {known}")
        elif route.destination.subnet_of(network.cidr):
            self.add(
                f"{place}.destination",
                f"{route.destination} is within {network.name}, which {host.name} reaches without a route",
            )
        elif router is not None and not self._leads(router, route.destination):
            reach = ", ".join(leg.network for leg in router.legs if leg.network) or "none"
            self.add(at, f"{router.name} does not lead to {route.destination}; its networks: {reach}")

    def _leads(self, router: PlacedRouter, destination: IPv4Network) -> bool:
        """Whether a router has a way to the destination: a leg there, or else its external gateway.

        A router's external gateway leads anywhere but to the topology's other internal networks.
        """
        there = {n.name for n in self.networks.values() if not n.external and n.cidr.overlaps(destination)}
        if any(
            leg.refused or leg.network not in self.networks or leg.network in there for leg in router.legs
        ):
            return True
        return router.external is not None and not there

    def _floating_ips(self) -> None:
        given: dict[IPv4Address, str] = {}
        for placed in self.draft.hosts:
            host, place = placed.host, f"{placed.place}.floating_ip"
            network = self.networks.get(host.network)
            if not host.floating_ip or network is None or network.external:
                continue
            names = {router.external for router, _ in self.attached.get(network.name, ())} - {None}
            if not names:
                self.add(
                    place,
                    f"no router with an external gateway has a leg in {network.name}: "
                    f"{host.name} cannot have a floating IP",
                )
            if isinstance(host.floating_ip, bool):
                continue
            self._floating_address(place, host.floating_ip, sorted(name for name in names if name))
            other = given.setdefault(host.floating_ip, host.name)
            if other != host.name:
                self.add(place, f"{host.floating_ip} is {other}'s already")

    def _floating_address(self, place: str, address: IPv4Address, names: list[str]) -> None:
        networks = [n for name in names if (n := self.networks.get(name)) and n.external]
        if not networks or any(n.cidr == ANYWHERE for n in networks):
            return
        home = next((n for n in networks if address in n.cidr), networks[0])
        if address == home.gateway:
            self.add(place, f"{address} is the gateway of {home.name}")
        else:
            self._inside(place, address, home)

    def _groups(self) -> None:
        for place, group in self.draft.groups:
            if group.name == "default":
                self.add(
                    f"{place}.name", '"default" is every project\'s own group; give this one another name'
                )
            firsts: dict[Rule, int] = {}
            for number, rule in enumerate(group.rules):
                first = firsts.setdefault(rule, number)
                if first != number:
                    self.add(f"{place}.rules[{number}]", f"is the same as rules[{first}]")

    def _services(self) -> None:
        hosts = {placed.host.name: placed.host for placed in self.draft.hosts if placed.host.name}
        ports: dict[tuple[str, int], str] = {}
        for place, service in self.draft.services:
            if service.port and service.host:
                other = ports.setdefault((service.host, service.port), place)
                if other != place:
                    self.add(f"{place}.port", f"{service.port} on {service.host} is {other}'s already")
            if service.name and service.name in service.backends:
                self.add(f"{place}.backends", f"{service.name} cannot call itself")
            host = hosts.get(service.host)
            if service.bind and host and not self._own(IPv4Address(service.bind), host):
                self.add(f"{place}.bind", f"{service.bind} is not an address of {host.name}")

    def _own(self, address: IPv4Address, host: Host) -> bool:
        """Whether an address is, or may turn out to be, one of the host's."""
        network = self.networks.get(host.network)
        if address.is_loopback or network is None:
            return True
        return address == host.address if host.address else address in network.cidr
