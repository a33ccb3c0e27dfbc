"""Reads a topology document, in the project's own shape or in the lab report's.

The project's own, keys with a question mark may be left out::

    {"name"?, "networks": [{"name", "cidr", "gateway"?, "dhcp"?, "dns"?: [address], "type"?: "external"}],
     "routers"?: [{"name", "external"?: network, "legs"?: [{"network", "address"?}]}],
     "security_groups"?: [{"name", "rules"?: [{"direction", "protocol"?, "ports"?, "remote"?,
                                               "ethertype"?}]}],
     "hosts"?: [{"name", "network", "address"?, "image"?, "flavor", "floating_ip"?: true | address,
                 "security_groups"?: [name], "routes"?: [{"destination", "via"}]}],
     "services"?: [{"name", "host", "port", "backends"?: [service], "bind"?: address}]}

A gateway left out is the network's first address, as Neutron has it; ``null`` is none. A leg without an
address has the network's gateway's. An external network may leave out its CIDR. ``remote`` is a CIDR or
``group:NAME``; left out, it is anybody.

The lab report nests ``instances`` (with ``ip``) and a ``router`` in a network, and gives routers as
``external_network``, ``internal_networks`` and ``interfaces`` (the address of an interface tells which
network it is in); both shapes may be mixed. What was read is then checked as a whole by
:mod:`provision.topology_checks`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path, PurePath

from provision.topology import (
    ANYWHERE,
    Direction,
    Ethertype,
    Host,
    Leg,
    Network,
    Protocol,
    Route,
    Router,
    Rule,
    SecurityGroup,
    Service,
    Topology,
    TopologyError,
)
from provision.topology_checks import Draft, Kind, PlacedHost, PlacedLeg, PlacedRouter, check
from provision.topology_json import NAME, PORTS, Item, Problems, parse_file, shown

DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")
PROTOCOLS: tuple[Protocol, ...] = ("icmp", "tcp", "udp")
ETHERTYPES: tuple[Ethertype, ...] = ("IPv4", "IPv6")

DOCUMENT_KEYS = ("name", "networks", "routers", "security_groups", "hosts", "services")
NETWORK_KEYS = ("name", "cidr", "gateway", "dhcp", "dns", "type", "router", "instances")
ROUTER_KEYS = ("name", "external", "legs", "external_network", "internal_networks", "interfaces")
LEG_KEYS = ("network", "address")
GROUP_KEYS = ("name", "rules")
RULE_KEYS = ("direction", "protocol", "ports", "remote", "ethertype")
INSTANCE_KEYS = (
    "name",
    "address",
    "ip",
    "image",
    "flavor",
    "floating_ip",
    "security_groups",
    "routes",
)
HOST_KEYS = (*INSTANCE_KEYS, "network")
ROUTE_KEYS = ("destination", "via")
SERVICE_KEYS = ("name", "host", "port", "backends", "bind")


def load(path: str | Path, flavors: Collection[str] | None) -> Topology:
    """See :meth:`provision.topology.Topology.load`."""
    problems = Problems(str(path))
    value = parse_file(path, problems)
    if problems.lines:
        raise TopologyError(problems.lines)
    return from_json(value, str(path), flavors)


def from_json(obj: object, source: str, flavors: Collection[str] | None) -> Topology:
    """See :meth:`provision.topology.Topology.from_json`."""
    problems = Problems(source)
    document = Item(obj, "", DOCUMENT_KEYS, problems)
    if not document.valid:
        raise TopologyError(problems.lines)
    draft = _read(document, problems)
    check(draft, flavors)
    if problems.lines:
        raise TopologyError(problems.lines)
    return _topology(draft)


def _topology(draft: Draft) -> Topology:
    """The model of a draft that has passed every check."""
    networks = {network.name: network for _, network in draft.networks}
    return Topology(
        name=draft.name,
        networks=tuple(networks.values()),
        routers=tuple(
            Router(r.name, r.external, tuple(_leg(leg, networks) for leg in r.legs)) for r in draft.routers
        ),
        security_groups=tuple(group for _, group in draft.groups),
        hosts=tuple(placed.host for placed in draft.hosts),
        services=tuple(service for _, service in draft.services),
    )


def _leg(placed: PlacedLeg, networks: dict[str, Network]) -> Leg:
    network = networks[placed.network or ""]
    address = placed.address or network.gateway
    return Leg(network.name, address, gateway=address == network.gateway)


def _read(document: Item, problems: Problems) -> Draft:
    stem = PurePath(problems.source).stem
    name = document.name(required=False) or (stem if NAME.fullmatch(stem) else "topology")
    draft = Draft(name, problems)
    if document.values.get("networks") in (None, []):
        problems.add("networks", "is missing or empty: a topology needs at least a network")
        draft.lose("network")
    for item in _entries(document, "networks", NETWORK_KEYS, "network", draft):
        _read_network(item, draft)
    for item in _entries(document, "routers", ROUTER_KEYS, "router", draft):
        _read_router(item, draft)
    for router in draft.routers:
        _place_legs(router, draft)
    for item in _entries(document, "security_groups", GROUP_KEYS, "security group", draft):
        group = draft.define("security group", item.name(), item.place)
        rules = tuple(_rule(rule, draft) for rule in item.items("rules", RULE_KEYS))
        draft.groups.append((item.place, SecurityGroup(group, rules)))
    for item in _entries(document, "hosts", HOST_KEYS, "host", draft):
        network = draft.refer("network", item.name("network"), item.at("network"))
        _read_host(item, network, item.at("network"), draft)
    for item in _entries(document, "services", SERVICE_KEYS, "service", draft):
        draft.services.append((item.place, _service(item, draft)))
    return draft


def _entries(item: Item, key: str, known: tuple[str, ...], kind: Kind, draft: Draft) -> list[Item]:
    """The objects of a list; one that is none, or the whole list, may be what something else refers to."""
    entries = item.items(key, known)
    value = item.values.get(key)
    if value is not None and not (isinstance(value, list) and len(value) == len(entries)):
        draft.lose(kind)
    return entries


def _read_network(item: Item, draft: Draft) -> None:
    name = draft.define("network", item.name(), item.place)
    role = item.choice("type", ("external", "internal"))
    external = role == "external"
    cidr = item.cidr("cidr", required=not external)
    gateway = item.address("gateway")
    dns = [item.parse_address(text, place) for text, place in item.strings("dns")]
    dhcp = item.flag("dhcp", default=True)
    if external and not item.has("cidr"):
        cidr = ANYWHERE
    if cidr is not None and (role or not item.has("type")):
        if not external and "gateway" not in item.values and cidr.prefixlen < 31:
            gateway = cidr.network_address + 1
        servers = tuple(address for address in dns if address)
        draft.networks.append((item.place, Network(name, cidr, gateway, dhcp, servers, external)))
    if item.has("router"):
        router = Item(item.values["router"], item.at("router"), ROUTER_KEYS, item.problems)
        if router.valid:
            _read_router(router, draft, home=name)
    for instance in _entries(item, "instances", INSTANCE_KEYS, "host", draft):
        _read_host(instance, name, instance.place, draft)


def _read_router(item: Item, draft: Draft, home: str | None = None) -> None:
    name = draft.define("router", item.name(), item.place)
    key = item.either("external", "external_network")
    external: str | None = None
    if isinstance(item.values.get(key), list):
        names = [draft.refer("network", other, place) for other, place in item.names(key)]
        external = names[0] if names else None
        if len(names) > 1:
            item.problems.add(item.at(key), f"names {len(names)} external networks; a router has at most one")
    elif item.has(key):
        external = draft.refer("network", item.name(key), item.at(key))
    legs = []
    for leg in item.items("legs", LEG_KEYS):
        network = draft.refer("network", leg.name("network"), leg.at("network"))
        address = leg.address("address")
        refused = leg.has("address") and address is None
        legs.append(PlacedLeg(leg.place, leg.at("address"), network, address, refused))
    for network, place in item.names("internal_networks"):
        draft.refer("network", network, place)
        legs.append(PlacedLeg(place, place, network, None, listed=True))
    for text, place in item.strings("interfaces"):
        address = item.parse_address(text, place)
        legs.append(PlacedLeg(place, place, None, address, refused=address is None))
    draft.routers.append(PlacedRouter(item.place, item.at(key), name, external, legs, home))


def _place_legs(router: PlacedRouter, draft: Draft) -> None:
    """Finds the network of each interface that is given by its address alone."""
    internal = [network for _, network in draft.networks if not network.external]
    legs = []
    for leg in router.legs:
        if leg.network is None and leg.address is not None:
            home = next((network.name for network in internal if leg.address in network.cidr), None)
            if home is None:
                draft.problems.add(leg.place, f"{leg.address} is in no internal network's CIDR")
            legs.append(replace(leg, network=home, refused=home is None))
        else:
            legs.append(leg)
    addressed = {leg.network for leg in legs if not leg.listed}
    router.legs = [leg for leg in legs if not (leg.listed and leg.network in addressed)]


def _rule(item: Item, draft: Draft) -> Rule:
    direction = item.choice("direction", DIRECTIONS, required=True) or "ingress"
    protocol = item.choice("protocol", PROTOCOLS)
    ethertype = item.choice("ethertype", ETHERTYPES) or "IPv4"
    ports = _ports(item)
    if ports and not item.has("protocol"):
        item.problems.add(item.at("ports"), 'needs a "protocol": tcp or udp')
    if ports and protocol == "icmp":
        item.problems.add(item.at("ports"), "icmp has no ports")
    remote: IPv4Network | None = None
    group: str | None = None
    text, place = item.text("remote"), item.at("remote")
    if text is not None and text.startswith("group:"):
        group = text.removeprefix("group:")
        if item.check_name(group, place):
            draft.refer("security group", group, place)
    elif text is not None and ethertype == "IPv6":
        item.problems.add(place, f'{shown(text)}: an IPv6 rule takes "group:NAME", or no remote for anybody')
    elif text is not None:
        remote = item.parse_cidr(text, place)
    return Rule(direction, protocol, ports, remote, group, ethertype)


def _ports(item: Item) -> tuple[int, int] | None:
    """A port or a range of them: ``22``, ``"22"``, ``"50000-50050"``."""
    value, place = item.values.get("ports"), item.at("ports")
    if value is None:
        return None
    text = shown(value) if isinstance(value, int) else value
    match = PORTS.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        item.problems.add(place, f"{shown(value)} is not a port, nor a range of them such as 50000-50050")
        return None
    first, last = int(match[1]), int(match[2] or match[1])
    outside = [port for port in (first, last) if not 1 <= port <= 65535]
    if outside:
        item.problems.add(place, f"{outside[0]} is not a port: 1 to 65535")
    elif first > last:
        item.problems.add(place, f"{first}-{last} is the wrong way round; did you mean {last}-{first}?")
    else:
        return first, last
    return None


def _read_host(item: Item, network: str, network_place: str, draft: Draft) -> None:
    name = draft.define("host", item.name(), item.place)
    key = item.either("address", "ip")
    floating: bool | IPv4Address
    if isinstance(item.values.get("floating_ip"), str):
        floating = item.address("floating_ip") or False
    else:
        floating = item.flag("floating_ip", default=False)
    routes = []
    for route in item.items("routes", ROUTE_KEYS):
        destination, via = route.cidr("destination"), route.address("via", required=True)
        if destination and via:
            routes.append((route.place, Route(destination, via)))
    groups = item.names("security_groups")
    for group, place in groups:
        draft.refer("security group", group, place)
    host = Host(
        name=name,
        network=network,
        address=item.address(key),
        image=item.text("image"),
        flavor=item.text("flavor", required=True) or "",
        floating_ip=floating,
        security_groups=tuple(group for group, _ in groups),
        routes=tuple(route for _, route in routes),
    )
    draft.hosts.append(PlacedHost(item.place, network_place, item.at(key), host, tuple(routes)))


def _service(item: Item, draft: Draft) -> Service:
    backends = item.names("backends")
    for backend, place in backends:
        draft.refer("service", backend, place)
    bind = item.address("bind")
    return Service(
        name=draft.define("service", item.name(), item.place),
        host=draft.refer("host", item.name("host"), item.at("host")),
        port=item.number("port", 1, 65535) or 0,
        backends=tuple(backend for backend, _ in backends),
        bind=str(bind) if bind else None,
    )
