"""The configuration that a topology's document asks for, in the form in which the cloud's is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from probes.guest import ANYWHERE, Guest, GuestRoute
from provision import topology as documents
from provision.differences import rule_key
from provision.holdings import RuleKey
from provision.paths.configuration import (
    Beyond,
    Configuration,
    FloatingIP,
    Group,
    Leg,
    Network,
    Port,
    Router,
    Server,
    Traffic,
)
from provision.topology import Topology

DESKTOP, OUTSIDE = "desktop", "outside"
DEFAULT_GROUP = "default"
SSH_PORT = 22
UNNAMED = IPv4Network("203.0.113.0/24")
"""Stands for an external network whose addresses are the cloud's own affair (RFC 5737, TEST-NET-3)."""

# neutron's own (API reference, "Security groups"): out to anywhere, in from the group itself
_DEFAULT_RULES = (
    RuleKey("egress", "IPv4", None, None, None, None),
    RuleKey("egress", "IPv6", None, None, None, None),
    RuleKey("ingress", "IPv4", None, None, None, DEFAULT_GROUP),
    RuleKey("ingress", "IPv6", None, None, None, DEFAULT_GROUP),
)


def intended(topology: Topology, standing: Configuration | None = None) -> Configuration:
    """What the document asks for.

    Args:
        standing: gives the addresses that the document leaves to the cloud, and the hosts beyond it; without it
            each is the network's first that is free.
    """
    return _Intention(topology, standing or Configuration()).configuration()


class _Intention:
    def __init__(self, topology: Topology, standing: Configuration) -> None:
        self.topology = topology
        self.standing = standing
        self.taken = {host.address for host in topology.hosts if host.address}
        self.taken |= {leg.address for router in topology.routers for leg in router.legs if leg.address}
        self.taken |= {network.gateway for network in topology.networks if network.gateway}
        self.taken |= {h.floating_ip for h in topology.hosts if isinstance(h.floating_ip, IPv4Address)}
        self.taken |= {each.address for each in standing.floating_ips}
        self.taken |= {a for server in standing.servers for port in server.ports for a in port.addresses}
        self.taken |= {r.external_address for r in standing.routers if r.external_address}
        self.free: dict[IPv4Network, Iterator[IPv4Address]] = {}

    def configuration(self) -> Configuration:
        networks = tuple(self._network(each) for each in self.topology.networks)
        by_name = {network.name: network for network in networks}
        servers = tuple(self._server(host, by_name[host.network]) for host in self.topology.hosts)
        default = () if any(g.name == DEFAULT_GROUP for g in self.topology.security_groups) else (
            Group(DEFAULT_GROUP, _DEFAULT_RULES),
        )  # fmt: skip
        configured = Configuration(
            networks,
            tuple(self._router(each, by_name) for each in self.topology.routers),
            servers,
            (*(self._group(each) for each in self.topology.security_groups), *default),
            tuple(self._floating_ips(servers)),
            beyond=self.standing.beyond or (Beyond(DESKTOP), Beyond(OUTSIDE)),
        )
        guests = {host.name: self._guest(host, configured) for host in self.topology.hosts}
        return replace(configured, guests=guests)

    def _network(self, network: documents.Network) -> Network:
        cidr: IPv4Network | None = network.cidr
        if network.external and cidr == ANYWHERE:
            there = self.standing.network(network.name)
            cidr = there.cidr if there else None
        return Network(network.name, cidr, network.gateway, network.dhcp, network.external)

    def _router(self, router: documents.Router, networks: dict[str, Network]) -> Router:
        there = self.standing.router(router.name)
        address = None
        if router.external:
            address = (there and there.external_address) or self._pick(networks[router.external])
        legs = tuple(
            Leg(leg.network, leg.address or self._pick(networks[leg.network])) for leg in router.legs
        )
        return Router(router.name, legs, router.external, address)

    def _server(self, host: documents.Host, network: Network) -> Server:
        there = self.standing.server(host.name)
        port = there.port_in(host.network) if there else None
        address = host.address
        if address is None and port is not None:
            address = next((each for each in port.addresses if network.holds(each)), None)
        groups = host.security_groups or (DEFAULT_GROUP,)
        return Server(host.name, (Port(host.network, (address or self._pick(network),), groups),))

    def _group(self, group: documents.SecurityGroup) -> Group:
        return Group(group.name, tuple(rule_key(rule, rule.remote_group) for rule in group.rules))

    def _floating_ips(self, servers: tuple[Server, ...]) -> Iterator[FloatingIP]:
        fixed = {server.name: server.ports[0].addresses[0] for server in servers}
        for host in self.topology.hosts:
            if not host.floating_ip:
                continue
            address = host.floating_ip if isinstance(host.floating_ip, IPv4Address) else self._floating(host)
            yield FloatingIP(address, host.name, fixed[host.name], meant=host.name)

    def _floating(self, host: documents.Host) -> IPv4Address:
        """The one made for the host, wherever it leads now; else the one that leads to it and is made for no other."""
        ours = [self.standing.promised[host.name]] if host.name in self.standing.promised else []
        ours += [each.address for each in self.standing.floating_ips if each.meant == host.name]
        ours += [
            each.address
            for each in self.standing.floating_ips
            if each.server == host.name and each.meant is None
        ]
        router = self.topology.reach_public(host)
        name = router.external if router else None
        network = self.topology.network(name) if name else next(iter(self.topology.external_networks), None)
        return ours[0] if ours else self._pick(Network("", network.cidr if network else None))

    def _guest(self, host: documents.Host, configured: Configuration) -> Guest:
        services = self.topology.services_of(host)
        server = configured.server(host.name)
        assert server is not None
        listening = {("*", SSH_PORT)} | {(service.bind or "*", service.port) for service in services}
        routes = tuple(GuestRoute(route.destination, route.via) for route in host.routes)
        return assumed_guest(configured, server, routes, frozenset(listening))

    def _pick(self, network: Network) -> IPv4Address:
        cidr = network.cidr if network.cidr not in (None, ANYWHERE) else UNNAMED
        assert cidr is not None
        hosts = self.free.setdefault(cidr, iter(cidr.hosts()))
        for address in hosts:
            if address not in self.taken:
                self.taken.add(address)
                return address
        return cidr.network_address


def assumed_guest(
    configuration: Configuration,
    server: Server,
    routes: tuple[GuestRoute, ...] = (),
    listening: frozenset[tuple[str, int]] = frozenset({("*", SSH_PORT)}),
) -> Guest:
    """The guest that DHCP makes of a server's ports: their addresses, and the first gateway as default route."""
    addresses: list[IPv4Interface] = []
    connected: list[GuestRoute] = []
    default: list[GuestRoute] = []
    for port in server.ports:
        network = configuration.network(port.network)
        if network is None or network.cidr is None:
            continue
        addresses += [IPv4Interface((each, network.cidr.prefixlen)) for each in port.addresses]
        connected.append(GuestRoute(network.cidr))
        if network.gateway:
            default.append(GuestRoute(ANYWHERE, network.gateway))
    return Guest(tuple(addresses), (*routes, *connected, *default[:1]), listening)


def questions(topology: Topology, host: str) -> tuple[Traffic, ...]:
    """What is asked of a host: ping, SSH, and its services' ports."""
    ports = dict.fromkeys((SSH_PORT, *(service.port for service in topology.services_of(host))))
    return (Traffic("icmp"), *(Traffic("tcp", port) for port in ports))
