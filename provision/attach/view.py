"""A project under the names of the parts that its things play, without what else is in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network

from provision.holdings import CloudNetwork, CloudPort, CloudRouter, CloudSecurityGroup, CloudServer, Holdings


@dataclass(frozen=True)
class Attached:
    """What somebody else has built, as a topology's; in place of a run's mark (:class:`provision.mark.Whose`).

    Attributes:
        topology: the document's name.
        networks: id -> the part's name; ``routers``, ``servers`` and ``groups`` likewise.
        alone: networks that no other router is meant to have a leg in.
        gated: networks that no other router is meant to link to the external network.
    """

    topology: str
    networks: Mapping[str, str] = field(default_factory=dict)
    routers: Mapping[str, str] = field(default_factory=dict)
    servers: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    alone: frozenset[str] = frozenset()
    gated: frozenset[str] = frozenset()

    @property
    def prefix(self) -> str:
        return ""

    def name(self, thing: str) -> str:
        return thing

    def description(self, thing: str = "") -> str:
        """Nothing is written on what others have made."""
        return ""

    def owns(self, name: str, description: str = "", tags: Iterable[str] = ()) -> bool:
        """Everything is looked at: which of it counts, :meth:`view` says."""
        return True

    def owns_server(self, metadata: Mapping[str, str]) -> bool:
        return True

    def view(self, have: Holdings) -> Holdings:
        """What plays a part, under the part's name, and the routers that should not be there; nothing else.

        Args:
            have: everything of the project.
        """
        networks = tuple(self._network(each, have) for each in have.networks if each.id in self.networks)
        routers = self._routers(have)
        devices = {each.id for each in routers} | set(self.servers)
        ports = [p for p in have.ports if p.network_id in self.networks and p.device_id in devices]
        ports.sort(key=lambda port: (port.addresses, port.id))
        led = {port.id for port in ports}
        names = group_names(have, self.groups)
        return Holdings(
            prefix="",
            networks=networks,
            routers=routers,
            ports=tuple(self._ports(ports)),
            floating_ips=tuple(
                replace(f, description="", tags=()) for f in have.floating_ips if f.port_id in led
            ),
            security_groups=tuple(_group(each, names) for each in have.security_groups),
            servers=tuple(self._server(each) for each in have.servers if each.id in self.servers),
        )

    def _network(self, item: CloudNetwork, have: Holdings) -> CloudNetwork:
        used = [a for port in have.ports if port.network_id == item.id for a in port.addresses]
        subnets = sorted(item.subnets, key=lambda s: (-sum(a in s.cidr for a in used), s.cidr, s.id))
        return replace(item, name=self.networks[item.id], description="", tags=(), subnets=tuple(subnets))

    def _routers(self, have: Holdings) -> tuple[CloudRouter, ...]:
        """Those that play a part, and others that link what is meant to be apart."""
        taken = set(self.routers.values())
        found = []
        for item in have.routers:
            at = {leg.network_id for leg in have.legs(item.id)}
            if item.id in self.routers:
                name = self.routers[item.id]
            elif at & self.alone or (item.external_id and at & self.gated):
                name = _unlike(item.name, item.id, taken)
            else:
                continue
            found.append(replace(item, name=name, description="", tags=()))
        return tuple(found)

    def _ports(self, ports: Iterable[CloudPort]) -> Iterable[CloudPort]:
        """A server's first port has its name, by which the port of a host is found."""
        named: set[str] = set()
        for port in ports:
            name = self.servers.get(port.device_id, "")
            yield replace(port, name="" if name in named else name, description="", tags=())
            named.add(name)

    def _server(self, item: CloudServer) -> CloudServer:
        return replace(item, name=self.servers[item.id], metadata={})


def group_names(have: Holdings, playing: Mapping[str, str]) -> dict[str, str]:
    """The security groups' names by id, each unique: those that play a part have the part's.

    Args:
        playing: id -> the part's name.
    """
    names = dict(playing)
    for item in sorted(have.security_groups, key=lambda each: each.id):
        if item.id not in names:
            names[item.id] = _unlike(item.name, item.id, set(names.values()))
    return names


def _unlike(name: str, id_: str, taken: set[str]) -> str:
    return name if name and name not in taken else f"{name} {id_}".strip()


def _group(item: CloudSecurityGroup, names: Mapping[str, str]) -> CloudSecurityGroup:
    rules = tuple(replace(rule, key=rule.key._replace(remote=_plain(rule.key.remote))) for rule in item.rules)
    return replace(item, name=names[item.id], description="", tags=(), rules=rules)


def _plain(remote: str | None) -> str | None:
    """A remote as the topology writes it: host bits cut off."""
    if remote is None:
        return None
    try:
        return str(ip_network(remote, strict=False))
    except ValueError:
        return remote
