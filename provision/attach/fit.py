"""Makes of a topology's document the one that a project is held against: its structure, on the project's own terms.

Names are the document's parts; CIDRs, addresses, flavors and security groups those that were found. Where what was found is
against the structure that the document asks for, the intention stays: front's gateway is the first router's leg, the static
route leads to the second router's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Any, cast

from provision.attach.project import Project
from provision.attach.role import Arrangement
from provision.attach.view import Attached, group_names
from provision.deployment import Deployment
from provision.differences import rule_key
from provision.holdings import CloudNetwork, CloudSecurityGroup, CloudServer, Holdings, RuleKey
from provision.topology import SERVICE_PORTS, Host, Leg, Network, Route, Router, Rule, SecurityGroup, Topology


@dataclass(frozen=True)
class Fitted:
    """A document on a project's own terms.

    Attributes:
        topology: with those hosts and services alone that were found.
        attached: what of the project it is.
    """

    topology: Topology
    attached: Attached


def fitted(document: Topology, arrangement: Arrangement, have: Holdings, external: str) -> Fitted:
    """Fits a document to what was found of it.

    Args:
        document: of ``labs/topologies``.
        arrangement: what plays its parts; its networks and routers are all found.
        have: everything of the project.
        external: id of the lab's external network.
    """
    return _Fit(document, arrangement, Project(have, external)).fitted()


class _Fit:
    def __init__(self, document: Topology, arrangement: Arrangement, project: Project) -> None:
        self.document, self.project = document, project
        self.networks = _things(arrangement.networks)
        self.routers = _things(arrangement.routers)
        self.servers: dict[str, CloudServer] = _things(arrangement.hosts)
        self.arrangement = arrangement
        self.playing = self._groups_playing()
        self.group_names = group_names(project.have, self.playing)
        self.legs = {
            (router.name, leg.network): self._leg(router, leg)
            for router in document.routers
            for leg in router.legs
        }

    def fitted(self) -> Fitted:
        document = self.document
        hosts = tuple(self._host(each) for each in document.hosts if each.name in self.servers)
        places = self.arrangement.services
        services = tuple(
            replace(each, host=places[each.name].host, port=places[each.name].port, bind=None)
            for each in document.services
            if each.name in places and places[each.name].host in self.servers
        )
        there = {each.name for each in services}
        services = tuple(
            replace(each, backends=tuple(b for b in each.backends if b in there)) for each in services
        )
        topology = Topology(
            document.name,
            tuple(each if each.external else self._network(each) for each in document.networks),
            tuple(self._router(each) for each in document.routers),
            tuple(self._groups(hosts)),
            hosts,
            services,
        )
        return Fitted(topology, self._attached(topology))

    def _attached(self, topology: Topology) -> Attached:
        second = [router for router in self.document.routers if not router.external]
        back = {leg.network for router in second for leg in router.legs if leg.gateway}
        front = {leg.network for router in second for leg in router.legs if not leg.gateway}
        return Attached(
            topology.name,
            {each.id: name for name, each in self.networks.items()},
            {each.id: name for name, each in self.routers.items()},
            {each.id: name for name, each in self.servers.items()},
            self.playing,
            frozenset(self.networks[name].id for name in back),
            frozenset(self.networks[name].id for name in front),
        )

    def _network(self, network: Network) -> Network:
        found = self.project.subnet(self.networks[network.name])
        router = self.document.gateway_router(network)
        gateway = self.legs[router.name, network.name] if router else found.gateway
        return Network(network.name, found.cidr, gateway, found.dhcp, found.dns)

    def _router(self, router: Router) -> Router:
        legs = (Leg(leg.network, self.legs[router.name, leg.network], leg.gateway) for leg in router.legs)
        return replace(router, legs=tuple(legs))

    def _leg(self, router: Router, leg: Leg) -> IPv4Address:
        """Where a router's leg is; where it has none, where it should be: at the gateway's address, or a free one."""
        network = self.networks[leg.network]
        found = self.project.legs(self.routers[router.name], network)
        if found:
            return found[0]
        subnet = self.project.subnet(network)
        if leg.gateway and subnet.gateway is not None:
            return subnet.gateway
        return self._free(network, subnet.cidr, subnet.gateway)

    def _free(self, network: CloudNetwork, cidr: IPv4Network, gateway: IPv4Address | None) -> IPv4Address:
        taken = {
            a for port in self.project.have.ports if port.network_id == network.id for a in port.addresses
        }
        taken |= {gateway} if gateway else set()
        return next((each for each in cidr.hosts() if each not in taken), cidr.network_address)

    def _host(self, host: Host) -> Host:
        server = self.servers[host.name]
        network = self.networks[host.network]
        groups = sorted(self.group_names[each.id] for each in self.project.groups(server, network))
        return Host(
            host.name,
            host.network,
            self.project.address(server, network),
            None,
            server.flavor,
            bool(host.floating_ip),
            tuple(groups),
            tuple(self._route(each) for each in host.routes),
        )

    def _route(self, route: Route) -> Route:
        """The document's route, to the found network by the found leg."""
        to = next(n for n in self.document.internal_networks if n.cidr == route.destination)
        via = next(
            (router.name, leg.network) for router in self.document.routers for leg in router.legs
            if leg.address == route.via
        )  # fmt: skip
        return Route(self.project.subnet(self.networks[to.name]).cidr, self.legs[via])

    def _groups_playing(self) -> dict[str, str]:
        """The one VM's group plays the document's; of several, the one whose rules are nearest to it."""
        if "vm" not in self.servers:
            return {}
        asked = self.document.security_groups[0]
        host = self.document.host("vm")
        found = self.project.groups(self.servers["vm"], self.networks[host.network])
        if not found:
            return {}
        nearest = min(found, key=lambda group: (_unlike(asked, group), group.id))
        return {nearest.id: asked.name}

    def _groups(self, hosts: Collection[Host]) -> Iterator[SecurityGroup]:
        """What the document asks of the group that plays its own; the hosts' others as they are."""
        used = {name for host in hosts for name in host.security_groups}
        for item in self.project.have.security_groups:
            name = self.group_names[item.id]
            if name not in used:
                continue
            if item.id in self.playing:
                asked = self.document.security_group(name)
                # what a later objective has put into it: the calculator's and the services' ports
                more = (rule.key for rule in item.rules if _is_for_services(rule.key))
                later = (_rule(key, self.group_names) for key in more)
                yield replace(asked, rules=tuple(dict.fromkeys((*asked.rules, *later))))
            else:
                yield SecurityGroup(name, tuple(_rule(rule.key, self.group_names) for rule in item.rules))


def _things(roles: Mapping[str, Any]) -> dict[str, Any]:
    return {name: role.thing for name, role in roles.items() if role.thing is not None}


def _unlike(asked: SecurityGroup, found: CloudSecurityGroup) -> int:
    """How many rules of the two are not in the other."""
    wanted = {rule_key(rule, rule.remote_group) for rule in asked.rules}
    return len(wanted ^ {rule.key.named({found.id: asked.name}) for rule in found.rules})


def _is_for_services(key: RuleKey) -> bool:
    first, last = key.ports or (0, 0)
    return key.protocol == "tcp" and first in SERVICE_PORTS and last in SERVICE_PORTS


def _rule(key: RuleKey, names: Mapping[str, str]) -> Rule:
    """A rule as it was found; its protocol and its remote may be others than a document can have."""
    remote: Any = None
    if key.remote is not None:
        remote = ip_network(key.remote, strict=False)
    return Rule(
        cast(Any, key.direction),
        cast(Any, key.protocol),
        key.ports,
        remote,
        names.get(key.group, key.group) if key.group else None,
        cast(Any, key.ethertype),
    )


def with_listed_names(deployment: Deployment, have: Holdings) -> Deployment:
    """A deployment whose things have the names that the cloud lists.

    Args:
        have: everything of the project, as it lists it.
    """
    listed = {id_: name for _, name, id_ in have.things()}
    return replace(
        deployment,
        networks={k: replace(v, name=listed.get(v.id, v.name)) for k, v in deployment.networks.items()},
        routers={k: replace(v, name=listed.get(v.id, v.name)) for k, v in deployment.routers.items()},
        security_groups={
            k: replace(v, name=listed.get(v.id, v.name)) for k, v in deployment.security_groups.items()
        },
        hosts={
            k: replace(v, server_name=listed.get(v.server_id, v.server_name))
            for k, v in deployment.hosts.items()
        },
    )
