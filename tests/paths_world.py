"""Configurations that are as a topology intends, and ways to break them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from probes.guest import Guest, GuestRoute
from provision.holdings import RuleKey
from provision.paths.configuration import Beyond, Configuration, FloatingIP, Group, Leg, Server
from provision.paths.intention import intended
from provision.topology import Topology

TOPOLOGIES = Path(__file__).resolve().parent.parent / "labs" / "topologies"
OUTSIDE = IPv4Address("198.51.100.8")
BEYOND = (
    Beyond("desktop", IPv4Address("10.1.5.89"), ((22, 22), (50000, 50050))),
    Beyond("outside", OUTSIDE),
)
Break = Callable[[Configuration], Configuration]


def topology(name: str) -> Topology:
    return Topology.load(TOPOLOGIES / f"{name}.json")


def healthy(name: str) -> Configuration:
    made = intended(topology(name), Configuration(beyond=BEYOND))
    return replace(made, promised={f.meant: f.address for f in made.floating_ips if f.meant})


def server(name: str, **changes: Any) -> Break:
    return lambda c: replace(
        c, servers=tuple(replace(s, **changes) if s.name == name else s for s in c.servers)
    )


def port(name: str, **changes: Any) -> Break:
    def change(each: Server) -> Server:
        return replace(each, ports=tuple(replace(p, **changes) for p in each.ports))

    return lambda c: replace(c, servers=tuple(change(s) if s.name == name else s for s in c.servers))


def no_server(name: str) -> Break:
    return lambda c: replace(c, servers=tuple(s for s in c.servers if s.name != name))


def router(name: str, **changes: Any) -> Break:
    return lambda c: replace(
        c, routers=tuple(replace(r, **changes) if r.name == name else r for r in c.routers)
    )


def no_router(name: str) -> Break:
    return lambda c: replace(c, routers=tuple(r for r in c.routers if r.name != name))


def legs(name: str, change: Callable[[Leg], Leg | None], *more: Leg) -> Break:
    def broken(c: Configuration) -> Configuration:
        there = c.router(name)
        assert there is not None
        kept = tuple(new for leg in there.legs if (new := change(leg)) is not None)
        return router(name, legs=(*kept, *more))(c)

    return broken


def no_leg(name: str, network: str) -> Break:
    return legs(name, lambda leg: None if leg.network == network else leg)


def leg(name: str, network: str, **changes: Any) -> Break:
    return legs(name, lambda each: replace(each, **changes) if each.network == network else each)


def more_leg(name: str, network: str, address: str) -> Break:
    return legs(name, lambda each: each, Leg(network, IPv4Address(address)))


def network(name: str, **changes: Any) -> Break:
    return lambda c: replace(
        c, networks=tuple(replace(n, **changes) if n.name == name else n for n in c.networks)
    )


def rules(group: str, change: Callable[[tuple[RuleKey, ...]], tuple[RuleKey, ...]]) -> Break:
    return lambda c: replace(
        c, groups=tuple(Group(g.name, change(g.rules)) if g.name == group else g for g in c.groups)
    )


def no_rules(group: str, direction: str = "ingress", protocol: str | None = "any") -> Break:
    return rules(
        group,
        lambda there: tuple(
            r for r in there if r.direction != direction or protocol not in ("any", r.protocol)
        ),
    )


def other_rule(group: str, protocol: str, /, **changes: Any) -> Break:
    """The rules of a protocol, changed."""
    return rules(
        group, lambda there: tuple(r._replace(**changes) if r.protocol == protocol else r for r in there)
    )


def more_rule(group: str, key: RuleKey) -> Break:
    return rules(group, lambda there: (*there, key))


def no_group(name: str) -> Break:
    return lambda c: replace(c, groups=tuple(g for g in c.groups if g.name != name))


def floating(host: str, **changes: Any) -> Break:
    return lambda c: replace(
        c, floating_ips=tuple(replace(f, **changes) if f.meant == host else f for f in c.floating_ips)
    )


def no_floating(host: str) -> Break:
    return lambda c: replace(c, floating_ips=tuple(f for f in c.floating_ips if f.meant != host))


def more_floating(address: str, host: str) -> Break:
    def broken(c: Configuration) -> Configuration:
        there = c.server(host)
        assert there is not None
        fip = FloatingIP(IPv4Address(address), host, there.ports[0].addresses[0])
        return replace(c, floating_ips=(*c.floating_ips, fip))

    return broken


def guest(name: str, change: Callable[[Guest], Guest]) -> Break:
    return lambda c: replace(c, guests={n: change(g) if n == name else g for n, g in c.guests.items()})


def unseen(*names: str) -> Break:
    return lambda c: replace(c, guests={n: g for n, g in c.guests.items() if n not in names})


def no_route(name: str, destination: str) -> Break:
    return guest(
        name,
        lambda g: replace(g, routes=tuple(r for r in g.routes if r.destination != IPv4Network(destination))),
    )


def reroute(name: str, destination: str, via: str | None, **more: Any) -> Break:
    """The route replaced, or added."""
    to = IPv4Network(destination)
    fresh = GuestRoute(to, IPv4Address(via) if via else None, **more)
    return guest(name, lambda g: replace(g, routes=(*(r for r in g.routes if r.destination != to), fresh)))


def listening(name: str, *sockets: tuple[str, int]) -> Break:
    return guest(name, lambda g: replace(g, listening=frozenset({("*", 22), *sockets})))


def both(*breaks: Break) -> Break:
    def broken(c: Configuration) -> Configuration:
        for each in breaks:
            c = each(c)
        return c

    return broken
