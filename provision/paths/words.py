"""What is said of a step that is not as intended, and the look-ups that are needed to say it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from probes.guest import ANYWHERE, Guest, GuestRoute
from provision.paths.configuration import Configuration, FloatingIP, Leg, Router
from provision.paths.intention import SSH_PORT, assumed_guest
from provision.paths.steps import State


def guest_of(name: str, configured: Configuration, intention: Configuration) -> Guest:
    """A guest as seen; else as DHCP makes it of what is configured, with the processes and routes intended."""
    if name in configured.guests:
        return configured.guests[name]
    meant = intention.guests.get(name, Guest(listening=frozenset({("*", SSH_PORT)})))
    server = configured.server(name)
    if server is None:
        return meant
    static = tuple(route for route in meant.routes if route.via and route.destination != ANYWHERE)
    return assumed_guest(configured, server, static, meant.listening)


def meant_route(name: str, target: IPv4Address, intention: Configuration) -> GuestRoute | None:
    guest = intention.guests.get(name)
    return guest.route_to(target) if guest else None


def wrong_route(
    name: str, target: IPv4Address, configured: Configuration, intention: Configuration
) -> tuple[State, str] | None:
    """How a guest's route is not the intended one; None if it is, or if nothing is known of an intention."""
    guest = guest_of(name, configured, intention)
    found, wanted = guest.route_to(target), meant_route(name, target, intention)
    usable = found is not None and not found.refuses
    if found is not None and usable:
        if name not in intention.guests or (wanted is not None and found.via == wanted.via):
            return None
        if wanted is None:
            via = found.via or "its own network"
            return (
                State.UNLIKE,
                f"{name} sends what is for {target} to {via}; intended: it has no route there",
            )
        if found.destination == wanted.destination or any(
            r.destination == wanted.destination for r in guest.routes
        ):
            return State.UNLIKE, _led_astray(name, found, wanted, configured, intention)
    if found is not None and found.refuses:
        return State.MISSING, f"{name}'s routing table refuses {found.destination} (a route of its own)"
    if wanted is None:
        return State.MISSING, f"{name} has no route to {target}"
    return State.MISSING, _no_route(name, wanted, configured, intention)


def takes(name: str, target: IPv4Address, route: GuestRoute) -> str:
    """A route as it is taken."""
    if route.via is None:
        return f"{name} has {target} on its own network"
    return f"{name} sends {_destination(route)} to {route.via}"


def _led_astray(
    name: str, found: GuestRoute, wanted: GuestRoute, configured: Configuration, intention: Configuration
) -> str:
    if found.destination == ANYWHERE:
        text = f"{name}'s default route leads to {_next(found, configured)}"
    else:
        text = f"{name} sends {found.destination} to {_next(found, configured)}"
    text += f"; intended: to {_next(wanted, intention)}"
    for network in configured.networks:
        if found.via and network.gateway == found.via and network.holds(found.via):
            meant = intention.network(network.name)
            if meant and meant.gateway != network.gateway:
                text += f"; the gateway of {network.name} is set to {network.gateway}"
    return text


def _next(route: GuestRoute, configuration: Configuration) -> str:
    for router in configuration.routers:
        if any(leg.address == route.via for leg in router.legs):
            return f"{route.via} ({router.name}'s leg)"
    return str(route.via or "its own network")


def _no_route(name: str, wanted: GuestRoute, configured: Configuration, intention: Configuration) -> str:
    text = f"{name} has no {'default route' if wanted.destination == ANYWHERE else f'route to {wanted.destination}'}"
    if wanted.via is None:
        return f"{text}, its own network"
    for of, would in ((configured, "would lead there"), (intention, "is meant to lead there")):
        for router in of.routers:
            if any(leg.address == wanted.via for leg in router.legs):
                return f"{text}; {router.name}'s leg {wanted.via} {would}"
    return f"{text}; intended: through {wanted.via}"


def _destination(route: GuestRoute) -> str:
    return "all else" if route.destination == ANYWHERE else str(route.destination)


def no_address(name: str, wanted: str, guest: Guest) -> str:
    has = ", ".join(str(each.ip) for each in guest.addresses)
    return f"{name} does not have its address {wanted}; it has {has or 'none at all'}"


def twins(configured: Configuration, name: str, address: IPv4Address) -> Iterator[str]:
    """Other guests that have the same address."""
    return (other for other, guest in configured.guests.items() if other != name and guest.has(address))


def not_listening(
    name: str, address: IPv4Address, port: int, configured: Configuration, intention: Configuration
) -> str:
    """Why a TCP connection to a guest's address is refused there; empty if it is not."""
    guest = guest_of(name, configured, intention)
    at = guest.listens(port)
    if {"*", str(address)} & set(at):
        return ""
    if at:
        return f"{name} listens on {', '.join(f'{each}:{port}' for each in at)}, not {address}:{port}"
    text = f"nothing listens on tcp {port} of {name}"
    meant = intention.guests.get(name)
    if meant is None:
        return text
    if not meant.listens(port):
        return text
    strange = sorted(
        {listened for _, listened in guest.listening} - {listened for _, listened in meant.listening}
    )
    near = [each for each in strange if SSH_PORT not in (port, each)][:3]
    return text + (f"; something listens on tcp {', '.join(map(str, near))}" if near else "")


def nobody(
    configured: Configuration, intention: Configuration, network: str, via: IPv4Address, name: str
) -> str:
    """Why there is no next hop at an address."""
    meant = intention.router_at(network, via)
    if meant is None:
        return f"nobody has {via} in {network}, where {name} sends it"
    router = configured.router(meant.name)
    if router is None:
        return f"router {meant.name} is not there; intended with a leg {via} in {network}"
    leg = meant.leg_in(network)
    return no_leg(router, leg or Leg(network, via))


def no_leg(router: Router, meant: Leg) -> str:
    """A router without the leg that it is meant to have."""
    at = router.leg_in(meant.network)
    if at is not None:
        return f"{router.name}'s leg in {meant.network} is {at.address}; intended {meant.address}"
    return f"{router.name} has no leg in {meant.network}; intended {meant.address}"


def reaches(configuration: Configuration, network: str, target: IPv4Address) -> bool:
    found = configuration.network(network)
    return found is not None and found.holds(target)


def whose(configuration: Configuration, target: IPv4Address) -> str:
    """The name of who has an address; the address itself where that is not known."""
    named = {each.address: each.name for each in configuration.beyond}
    named |= {
        a: server.name for server in configuration.servers for port in server.ports for a in port.addresses
    }
    return named.get(target, str(target))


def floating(
    target: IPv4Address, there: FloatingIP | None, meant: FloatingIP | None, intention: Configuration
) -> str:
    """How a floating IP is not as intended; empty if it is, or where nothing is known of an intention."""
    if there is None:
        return f"there is no floating IP {target}" + (f"; intended: to {meant.server}" if meant else "")
    if there.server is None:
        return f"floating IP {target} leads to nothing" + (f"; intended: to {meant.server}" if meant else "")
    if meant is not None and there.server != meant.server:
        return f"floating IP {target} leads to port of {there.server}, not {meant.server}"
    if meant is not None and there.fixed != meant.fixed:
        return f"floating IP {target} leads to {there.fixed} of {there.server}; intended: to {meant.fixed}"
    if meant is None and intention.server(there.server):
        return f"floating IP {target} leads to {there.server}; intended: no floating IP"
    return ""


def network_of(floating: FloatingIP, configured: Configuration, intention: Configuration) -> str | None:
    """The network of the port that a floating IP leads to."""
    for configuration in (configured, intention):
        server = configuration.server(floating.server or "")
        for port in server.ports if server else ():
            if floating.fixed in port.addresses:
                return port.network
    return None


def translating(configuration: Configuration, network: str) -> Router | None:
    """The router that joins a network to the public one: the network's gateway, if several do."""
    joining = [router for router in configuration.routers if router.external and router.leg_in(network)]
    found = configuration.network(network)
    gateway = found.gateway if found else None
    return next((r for r in joining for leg in r.legs if leg.address == gateway), next(iter(joining), None))


def not_joined(configured: Configuration, intention: Configuration, network: str) -> str:
    """Why no router joins a network to the public one."""
    meant = translating(intention, network)
    if meant is None:
        return f"no router joins {network} to the public network"
    router = configured.router(meant.name)
    if router is None:
        return f"router {meant.name} is not there; intended between {network} and {meant.external}"
    if not router.external:
        return f"{meant.name} has no external gateway; intended: on {meant.external}"
    leg = meant.leg_in(network)
    assert leg is not None
    return no_leg(router, leg)


def not_owned(configured: Configuration, intention: Configuration, network: str, address: IPv4Address) -> str:
    """Why nobody has an address in a network."""
    meant = intention.owner(network, address)
    if meant is None:
        return f"nobody has {address} in {network}"
    name = meant.server.name
    server = configured.server(name)
    if server is None:
        return f"server {name} is not there"
    there = [f"{each} in {port.network}" for port in server.ports for each in port.addresses]
    return f"{name} has {', '.join(there) or 'no address'}; intended {address} in {network}"


def span(ports: tuple[int, int]) -> str:
    """``22`` or ``50000-50050``."""
    return "-".join(str(port) for port in dict.fromkeys(ports))
