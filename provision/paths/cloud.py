"""The configuration of a standing topology, read from the cloud's API: seven lists at the same time, nothing changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from provision.cloud import Cloud
from provision.holdings import (
    CloudFloatingIP,
    CloudNetwork,
    CloudPort,
    CloudRouter,
    CloudServer,
    Holdings,
    holdings,
)
from provision.mark import MARK, Whose
from provision.paths.configuration import (
    Beyond,
    Configuration,
    FloatingIP,
    Group,
    Leg,
    Network,
    Port,
    Router,
    RouterRoute,
    Server,
)
from provision.topology import Topology

LISTS = ("networks", "subnets", "routers", "ports", "floating IPs", "security groups", "servers")


class _Thing(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def tags(self) -> tuple[str, ...]: ...


def read(cloud: Cloud, topology: Topology, mark: Whose, beyond: Iterable[Beyond] = ()) -> Configuration:
    """What the cloud reports of a topology that stands, and of all else that a packet in it may meet.

    Args:
        mark: of the run, and of the topology; or what else tells which things are the topology's.
        beyond: the hosts that are not the cloud's.

    Raises:
        CloudError: something could not be listed.
    """
    have = mark.view(holdings(cloud, lists=LISTS))
    named = next(iter(topology.external_networks), None)
    external = {}
    if named is not None:
        network = Network(named.name, cloud.external_cidr(), named.gateway, external=True)
        external[cloud.external_network()] = network
    return configured(have, mark, external, beyond)


def configured(
    have: Holdings, mark: Whose, external: dict[str, Network], beyond: Iterable[Beyond] = ()
) -> Configuration:
    """The configuration in a project's holdings.

    Args:
        have: everything of the project.
        external: the external network by its id, under the topology's name for it.
    """
    ours = [each for each in have.networks if _ours(each, mark)]
    names = {each.id: each.name.removeprefix(mark.prefix) for each in ours}
    names |= {key: network.name for key, network in external.items()}
    groups = {each.id: _name(each, mark) for each in have.security_groups}
    servers = {each.id: _server_name(each, mark) for each in have.servers}
    ports = [port for port in have.ports if port.network_id in names]
    owners = {port.id: servers.get(port.device_id) for port in have.ports}
    joined = {port.device_id for port in ports}

    def legs(router_id: str) -> tuple[Leg, ...]:
        mine = [port for port in ports if port.is_leg and port.device_id == router_id]
        return tuple(Leg(names[p.network_id], a, _status(p)) for p in mine for a in p.addresses)

    def router(item: CloudRouter) -> Router:
        gateway = names.get(item.external_id, item.external_id) if item.external_id else None
        routes = tuple(RouterRoute(to, via) for to, via in item.extra_routes)
        return Router(
            _name(item, mark),
            legs(item.id),
            gateway,
            item.external_address,
            routes,
            item.status,
            item.admin_up,
            item.snat,
        )

    def server(item: CloudServer) -> Server:
        mine = tuple(_port(port, names, groups) for port in ports if port.device_id == item.id)
        return Server(servers[item.id], mine, item.status, item.task, item.fault)

    def floating_ip(item: CloudFloatingIP) -> FloatingIP:
        to = (owners.get(item.port_id) or "no server") if item.port_id else None
        meant = meant_for(item.description, mark)
        return FloatingIP(item.address, to, item.fixed, item.status or "ACTIVE", meant)

    return Configuration(
        networks=(*external.values(), *(_network(each, names[each.id]) for each in ours)),
        routers=tuple(router(each) for each in have.routers if _ours(each, mark) or each.id in joined),
        servers=tuple(
            server(each) for each in have.servers if each.id in joined or _topology(each) == mark.topology
        ),
        groups=tuple(
            Group(groups[each.id], tuple(rule.key.named(groups) for rule in each.rules))
            for each in have.security_groups
        ),
        floating_ips=tuple(floating_ip(each) for each in have.floating_ips),
        beyond=tuple(beyond),
    )


def meant_for(description: str, mark: Whose) -> str | None:
    """The host that a floating IP was made for, as its description says (:meth:`provision.mark.Mark.description`)."""
    words = description.split()
    return words[2] if len(words) == 3 and words[:2] == mark.description().split() else None


def _ours(item: _Thing, mark: Whose) -> bool:
    """By what is written on it; by its name alone where nothing is, for then somebody has made it by hand."""
    marked = (item.description or "").startswith(f"{MARK}:")
    return mark.owns(item.name, item.description, item.tags) if marked else item.name.startswith(mark.prefix)


def _name(item: _Thing, mark: Whose) -> str:
    return item.name.removeprefix(mark.prefix) if _ours(item, mark) else item.name


def _topology(server: CloudServer) -> str | None:
    return server.metadata.get(f"{MARK}_topology")


def _server_name(server: CloudServer, mark: Whose) -> str:
    return (
        server.name.removeprefix(mark.prefix) if _topology(server) in (None, mark.topology) else server.name
    )


def _status(port: CloudPort) -> str:
    return port.status if port.admin_up else "DOWN"


def _port(port: CloudPort, names: dict[str, str], groups: dict[str, str]) -> Port:
    in_groups = tuple(sorted(groups.get(each, each) for each in port.security_groups))
    return Port(
        names[port.network_id], port.addresses, in_groups, port.port_security, port.admin_up, port.status
    )


def _network(item: CloudNetwork, name: str) -> Network:
    subnet = next(iter(item.subnets), None)
    return Network(name, subnet.cidr, subnet.gateway, subnet.dhcp) if subnet else Network(name, None)
