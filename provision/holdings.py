"""What a run has on a cloud: everything with its id, read with few calls, for making and removing."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any, NamedTuple, Protocol, TypeVar

from provision.cloud import Cloud
from provision.mark import Whose


@dataclass(frozen=True)
class CloudSubnet:
    id: str
    name: str
    network_id: str
    cidr: IPv4Network
    gateway: IPv4Address | None
    dhcp: bool
    dns: tuple[IPv4Address, ...]


@dataclass(frozen=True)
class CloudNetwork:
    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    subnets: tuple[CloudSubnet, ...]


@dataclass(frozen=True)
class CloudPort:
    """A port; ``owner`` is neutron's device_owner (``network:router_interface``, ``compute:nova``...)."""

    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    network_id: str
    device_id: str
    owner: str
    mac: str
    addresses: tuple[IPv4Address, ...]
    security_groups: tuple[str, ...]
    status: str
    port_security: bool = True
    admin_up: bool = True

    @property
    def is_leg(self) -> bool:
        return self.owner.startswith(("network:router_interface", "network:ha_router_replicated_interface"))

    @property
    def of_server(self) -> bool:
        return self.owner.startswith("compute:")


@dataclass(frozen=True)
class CloudRouter:
    """A router; ``extra_routes`` are destination and next hop, ``snat`` whether its gateway translates sources."""

    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    external_id: str | None
    external_address: IPv4Address | None
    routes: int
    status: str
    extra_routes: tuple[tuple[IPv4Network, IPv4Address], ...] = ()
    admin_up: bool = True
    snat: bool = True


@dataclass(frozen=True)
class CloudFloatingIP:
    """A floating IP; ``fixed`` is the address that it is translated to."""

    id: str
    address: IPv4Address
    description: str
    tags: tuple[str, ...]
    port_id: str | None
    fixed: IPv4Address | None = None
    status: str = ""


class RuleKey(NamedTuple):
    """What a security group rule says; an unrestricted remote is None, however it was written."""

    direction: str
    ethertype: str
    protocol: str | None
    ports: tuple[int, int] | None
    remote: str | None
    group: str | None

    def named(self, groups: Mapping[str, str]) -> RuleKey:
        """With the remote group's name in place of its id."""
        return self._replace(group=groups.get(self.group, self.group) if self.group else None)

    def __str__(self) -> str:
        ports = "" if self.ports is None else " " + "-".join(map(str, sorted(set(self.ports))))
        remote = f"group {self.group}" if self.group else self.remote or "anywhere"
        word = "from" if self.direction == "ingress" else "to"
        return f"{self.direction} {self.ethertype} {self.protocol or 'any protocol'}{ports} {word} {remote}"


@dataclass(frozen=True)
class CloudRule:
    id: str
    key: RuleKey


@dataclass(frozen=True)
class CloudSecurityGroup:
    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    rules: tuple[CloudRule, ...]


@dataclass(frozen=True)
class CloudServer:
    id: str
    name: str
    status: str
    task: str | None
    flavor: str
    image_id: str | None
    key_name: str | None
    metadata: dict[str, str]
    addresses: tuple[IPv4Address, ...]
    fault: str = ""


@dataclass(frozen=True)
class CloudThing:
    """A keypair (whose id is its name) or an image; ``run`` is the run that it was made by, if that is written on it."""

    id: str
    name: str
    run: str = ""


@dataclass(frozen=True)
class Holdings:
    """What there is; ``prefix`` is what the names begin with before those of the topology."""

    prefix: str = ""
    networks: tuple[CloudNetwork, ...] = ()
    routers: tuple[CloudRouter, ...] = ()
    ports: tuple[CloudPort, ...] = ()
    floating_ips: tuple[CloudFloatingIP, ...] = ()
    security_groups: tuple[CloudSecurityGroup, ...] = ()
    servers: tuple[CloudServer, ...] = ()
    keypairs: tuple[CloudThing, ...] = ()
    images: tuple[CloudThing, ...] = ()

    def __bool__(self) -> bool:
        return any(True for _ in self.things())

    def things(self) -> Iterator[tuple[str, str, str]]:
        """Kind, name and id of everything."""
        kinds: dict[str, tuple[Any, ...]] = {
            "network": self.networks,
            "router": self.routers,
            "port": self.ports,
            "floating IP": self.floating_ips,
            "security group": self.security_groups,
            "server": self.servers,
            "keypair": self.keypairs,
            "image": self.images,
        }
        for kind, items in kinds.items():
            for item in items:
                yield kind, str(item.address) if kind == "floating IP" else item.name or item.id, item.id

    def network(self, name: str) -> CloudNetwork | None:
        return _named(self.networks, self.prefix + name)

    def router(self, name: str) -> CloudRouter | None:
        return _named(self.routers, self.prefix + name)

    def security_group(self, name: str) -> CloudSecurityGroup | None:
        return _named(self.security_groups, self.prefix + name)

    def server(self, name: str) -> CloudServer | None:
        return _named(self.servers, self.prefix + name)

    def keypair(self, name: str) -> CloudThing | None:
        return _named(self.keypairs, self.prefix + name)

    def legs(self, router_id: str) -> tuple[CloudPort, ...]:
        return tuple(port for port in self.ports if port.is_leg and port.device_id == router_id)

    def host_port(self, name: str) -> CloudPort | None:
        """The port of a topology's host: by its name, else the one that its server is on."""
        server = self.server(name)
        by_device = [port for port in self.ports if server and port.device_id == server.id]
        return _named(self.ports, self.prefix + name) or (by_device[0] if by_device else None)

    def floating_ip(self, port_id: str) -> CloudFloatingIP | None:
        return next((item for item in self.floating_ips if item.port_id == port_id), None)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)


def _named(items: Iterable[N], name: str) -> N | None:
    return next((item for item in items if item.name == name), None)


LISTS = (
    "networks",
    "subnets",
    "routers",
    "ports",
    "floating IPs",
    "security groups",
    "servers",
    "keypairs",
    "images",
)


def holdings(cloud: Cloud, mark: Whose | None = None, *, lists: Collection[str] = LISTS) -> Holdings:
    """What a run (or a topology of it) has on the cloud; everything of the project without a mark.

    What somebody else has built is seen under the names of the parts that it plays.

    Things that hang on the run's own are among it whatever their name: ports in its networks, and their
    floating IPs. The lists are read at the same time.

    Args:
        lists: those that are read; of what is in the others nothing is known then.

    Raises:
        CloudError: a list could not be read.
    """
    api, project = cloud.api, cloud.project
    servers_named = {"name": f"^{re.escape(mark.prefix)}"} if mark and mark.prefix else {}
    reads: dict[str, Callable[[], Iterable[Any]]] = {
        "networks": lambda: api.network.networks(project_id=project),
        "subnets": lambda: api.network.subnets(project_id=project),
        "routers": lambda: api.network.routers(project_id=project),
        "ports": lambda: api.network.ports(project_id=project),
        "floating IPs": lambda: api.network.ips(project_id=project),
        "security groups": lambda: api.network.security_groups(project_id=project),
        "servers": lambda: api.compute.servers(details=True, **servers_named),
        "keypairs": api.compute.keypairs,
        "images": lambda: api.image.images(owner=project),
    }

    def read(what: str) -> list[Any]:
        with cloud.doing(f"listing the {what}"):
            return list(reads[what]())

    wanted = [name for name in reads if name in lists]
    with ThreadPoolExecutor(len(wanted)) as pool:
        listed = dict(zip(wanted, pool.map(read, wanted), strict=True))
    found = _select({name: [] for name in LISTS} | listed, mark)
    return mark.view(found) if mark else found


def _select(lists: dict[str, list[Any]], mark: Whose | None) -> Holdings:
    def ours(item: Any) -> bool:
        return mark is None or mark.owns(item.name or "", item.description or "", item.tags or ())

    subnets = [_subnet(item) for item in lists["subnets"] if item.ip_version == 4]
    networks = tuple(
        CloudNetwork(
            n.id,
            n.name,
            n.description or "",
            tuple(n.tags or ()),
            tuple(s for s in subnets if s.network_id == n.id),
        )
        for n in lists["networks"]
        if ours(n)
    )
    routers = tuple(_router(item) for item in lists["routers"] if ours(item))
    servers = tuple(
        _server(item) for item in lists["servers"] if mark is None or mark.owns_server(item.metadata or {})
    )
    around = {n.id for n in networks} | {r.id for r in routers} | {s.id for s in servers}
    ports = tuple(
        _port(p)
        for p in lists["ports"]
        if p.device_owner != "network:dhcp" and (ours(p) or p.network_id in around or p.device_id in around)
    )
    port_ids = {port.id for port in ports}
    return Holdings(
        prefix=mark.prefix if mark else "",
        networks=networks,
        routers=routers,
        ports=ports,
        floating_ips=tuple(
            CloudFloatingIP(
                f.id,
                IPv4Address(f.floating_ip_address),
                f.description or "",
                tuple(f.tags or ()),
                f.port_id,
                _address(f.fixed_ip_address),
                f.status or "",
            )
            for f in lists["floating IPs"]
            if ours(f) or f.port_id in port_ids
        ),
        security_groups=tuple(_group(item) for item in lists["security groups"] if ours(item)),
        servers=servers,
        keypairs=tuple(
            CloudThing(k.name, k.name)
            for k in lists["keypairs"]
            if mark is None or k.name.startswith(mark.prefix)
        ),
        images=tuple(
            CloudThing(i.id, i.name or "", str((i.properties or {}).get("labproof_run", "")))
            for i in lists["images"]
            if mark is None or mark.owns(i.name or "", "", i.tags or ())
        ),
    )


def _address(text: str | None) -> IPv4Address | None:
    return IPv4Address(text) if text and ":" not in text else None


def _subnet(item: Any) -> CloudSubnet:
    return CloudSubnet(
        item.id,
        item.name,
        item.network_id,
        IPv4Network(item.cidr),
        _address(item.gateway_ip),
        bool(item.is_dhcp_enabled),
        tuple(IPv4Address(text) for text in item.dns_nameservers or () if ":" not in text),
    )


def _router(item: Any) -> CloudRouter:
    outside = item.external_gateway_info or {}
    addresses = [_address(fixed["ip_address"]) for fixed in outside.get("external_fixed_ips") or ()]
    return CloudRouter(
        item.id,
        item.name,
        item.description or "",
        tuple(item.tags or ()),
        outside.get("network_id"),
        next(filter(None, addresses), None),
        len(item.routes or ()),
        item.status or "",
        tuple(_routes(item.routes or ())),
        item.is_admin_state_up is not False,
        outside.get("enable_snat") is not False,
    )


def _routes(items: Iterable[Mapping[str, str]]) -> Iterator[tuple[IPv4Network, IPv4Address]]:
    for item in items:
        via = _address(item["nexthop"])
        if via is not None:
            yield IPv4Network(item["destination"], strict=False), via


def _port(item: Any) -> CloudPort:
    return CloudPort(
        item.id,
        item.name or "",
        item.description or "",
        tuple(item.tags or ()),
        item.network_id,
        item.device_id or "",
        item.device_owner or "",
        item.mac_address,
        tuple(filter(None, (_address(fixed["ip_address"]) for fixed in item.fixed_ips or ()))),
        tuple(item.security_group_ids or ()),
        item.status or "",
        item.is_port_security_enabled is not False,
        item.is_admin_state_up is not False,
    )


def _group(item: Any) -> CloudSecurityGroup:
    rules = tuple(rule_of(rule) for rule in item.security_group_rules or ())
    return CloudSecurityGroup(item.id, item.name, item.description or "", tuple(item.tags or ()), rules)


def rule_of(rule: Any) -> CloudRule:
    """A rule as the API writes it."""
    low, high = rule.get("port_range_min"), rule.get("port_range_max")
    remote = rule.get("remote_ip_prefix")
    key = RuleKey(
        rule["direction"],
        rule.get("ethertype") or rule.get("ether_type"),
        rule.get("protocol"),
        None if low is None else (low, high),
        None if remote in {None, "0.0.0.0/0", "::/0"} else remote,
        rule.get("remote_group_id"),
    )
    return CloudRule(rule["id"], key)


def _server(item: Any) -> CloudServer:
    addresses = [entry for entries in (item.addresses or {}).values() for entry in entries]
    return CloudServer(
        item.id,
        item.name,
        item.status,
        item.task_state,
        (item.flavor or {}).get("original_name") or (item.flavor or {}).get("name") or "",
        (item.image or {}).get("id"),
        item.key_name,
        dict(item.metadata or {}),
        tuple(IPv4Address(entry["addr"]) for entry in addresses if entry.get("version") == 4),
        (item.fault or {}).get("message", "") if item.status == "ERROR" else "",
    )
