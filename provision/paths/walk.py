"""The way of a packet and of its reply, step by step, by what is configured.

Each step is compared with the intention. What a step finds missing ends the walk; a walk that mends goes on with what
was intended there, to see what else is not right.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from probes.guest import GuestRoute
from probes.observation import Outcome
from provision.paths import words
from provision.paths.configuration import Beyond, Configuration, FloatingIP, Leg, Owner, Router, Traffic
from provision.paths.groups import Peer
from provision.paths.steps import Hop, Path, State
from provision.paths.track import End, Track

MOST_ROUTERS = 8
ELSEWHERE = IPv4Address("192.0.2.1")
"""Stands for a host beyond the cloud whose address is not known (RFC 5737, TEST-NET-1)."""


def walk(
    configured: Configuration,
    intention: Configuration,
    source: str,
    target: IPv4Address,
    traffic: Traffic,
    *,
    mend: bool = False,
) -> Path:
    """The path from a host to an address.

    Args:
        configured: what the packet meets.
        intention: what each step is compared with; the same again to walk the intention.
        source: a server, or a host beyond the cloud (``desktop``, ``outside``).
        mend: at a step that does not hold, go on with what was intended there.
    """
    way = _Walk(configured, intention, traffic, mend)
    try:
        way.go(source, target)
        outcome = Outcome.REACHABLE
    except End as end:
        outcome = end.outcome
    return Path(source, target, traffic, outcome, tuple(way.steps), tuple(way.hops))


class _Walk(Track):
    source = ""
    seen_as = Peer("", None)
    translated_by = ""
    routers = 0

    # ---------- the way there
    def go(self, source: str, target: IPv4Address) -> None:
        self.source = source
        outsider = self.c.outsider(source)
        if outsider is not None:
            self.seen_as = Peer(source, outsider.address)
            self.leave_campus(outsider, target)
            self.public(target)
            return
        self.running(source, Outcome.NOT_MADE)
        if self.guest(source).has(target) or target.is_loopback:
            self.process(source, target)
            return
        port = self.port_towards(source, target)
        self.own_address(source, port)
        self.seen_as = self.peer(source, port.addresses[0] if port and port.addresses else None)
        route = self.route(source, target)
        if port is not None:
            self.port(source, port.network, "egress", self.peer(words.whose(self.c, target), target))
        self.onward(source, route, target)

    def peer(self, name: str, address: IPv4Address | None) -> Peer:
        """The other side of a packet, with the groups that the address is in, and is meant to be in."""
        there, meant = (
            next((p.security_groups for p in server.ports if address in p.addresses), ()) if server else ()
            for server in (self.c.server(name), self.i.server(name))
        )
        return Peer(name, address, there, meant)

    def onward(self, name: str, route: GuestRoute | None, target: IPv4Address) -> None:
        """From a server: to its own network, or to the next hop."""
        port = self.port_towards(name, (route.via if route else None) or target)
        if port is None:
            self.lacks(
                "port", name, f"server {name} has no port in a network of the topology", Outcome.NO_ROUTE
            )
            self.over(Outcome.NO_ROUTE)
            return
        self.hop(name, port.network, port.addresses[0] if port.addresses else None)
        if route is None or route.via is None:
            self.deliver(port.network, target)
        else:
            self.next_hop(name, port.network, route.via, target)

    def hop(self, of: str, network: str, address: IPv4Address | None) -> None:
        self.hops.append(Hop(of, network, address, self.way))

    def next_hop(self, name: str, network: str, via: IPv4Address, target: IPv4Address) -> None:
        router = self.c.router_at(network, via)
        owner = self.c.owner(network, via) if router is None else None
        if owner is not None:
            self.relay(owner, name, via, target)
            return
        if router is not None:
            self.good("next hop", router.name, f"{via} is {router.name}'s leg in {network}")
        else:
            text = words.nobody(self.c, self.i, network, via, name)
            self.lacks("next hop", network, text, Outcome.UNREACHABLE)
            router = self.i.router_at(network, via)
        if router is None:
            self.over(Outcome.UNREACHABLE)
            return
        self.hop(router.name, network, via)
        self.router(router.name, target)

    def relay(self, owner: Owner, name: str, via: IPv4Address, target: IPv4Address) -> None:
        """A next hop that is a server; port security lets it pass on nothing that is not its own."""
        server = owner.server.name
        if not self.guest_of(server).forwarding or owner.port.port_security:
            text = f"{via}, where {name} sends it, is {server}, which is no router"
            self.lacks("next hop", server, text, Outcome.FILTERED)
            self.over(Outcome.FILTERED)
        self.count(target)
        self.onward(server, self.guest_of(server).route_to(target), target)

    def count(self, target: IPv4Address) -> None:
        self.routers += 1
        if self.routers > MOST_ROUTERS:
            self.lacks("router", str(target), f"what is for {target} goes in a circle", Outcome.FILTERED)
            self.over(Outcome.FILTERED)

    def router(self, name: str, target: IPv4Address) -> None:
        self.count(target)
        router, meant = self.c.router(name) or self.i.router(name), self.i.router(name)
        assert router is not None
        self.router_up(router)
        leg = self.leg_to(router, target)
        missing = self.leg_to(meant, target) if meant else None
        fitting = [route for route in router.routes if target in route.destination]
        extra = max(fitting, key=lambda route: route.destination.prefixlen, default=None)
        if leg is not None:
            self.leg(router, leg.network)
            self.hop(name, leg.network, leg.address)
            self.deliver(leg.network, target)
            return
        if missing is not None:
            if extra or router.external:
                self.unlike("router", name, words.no_leg(router, missing), State.MISSING)
            else:
                self.lacks("router", name, words.no_leg(router, missing), Outcome.UNREACHABLE)
            if self.mend:
                self.deliver(missing.network, target)
                return
        if extra is not None:
            self.extra_route(router, extra.via, target)
        elif router.external:
            self.gateway(router, target)
        else:
            self.without_gateway(router, meant, target)

    def leg_to(self, router: Router, target: IPv4Address) -> Leg | None:
        return next((leg for leg in router.legs if words.reaches(self.c, leg.network, target)
                     or words.reaches(self.i, leg.network, target)), None)  # fmt: skip

    def router_up(self, router: Router) -> None:
        if not router.admin_up:
            text = f"router {router.name} is switched off (admin state down)"
            self.lacks("router", router.name, text, Outcome.FILTERED)
        else:
            self.status(router.name, f"router {router.name}", router.status)

    def leg(self, router: Router, network: str) -> None:
        leg, meant = router.leg_in(network), self.i.router(router.name)
        assert leg is not None
        if meant is not None and meant.leg_in(network) is None:
            text = f"{router.name} has a leg in {network} ({leg.address}); intended: none"
            self.unlike("router", router.name, text)
        else:
            self.good("router", router.name, f"{router.name} has its leg {leg.address} in {network}")
        self.status(router.name, f"{router.name}'s leg in {network} ({leg.address})", leg.status)

    def extra_route(self, router: Router, via: IPv4Address, target: IPv4Address) -> None:
        leg = self.leg_to(router, via)
        after = self.c.router_at(leg.network, via) if leg else None
        if after is None:
            text = f"{router.name} sends what is for {target} to {via}, where no router is"
            self.lacks("router", router.name, text, Outcome.UNREACHABLE)
            self.over(Outcome.UNREACHABLE)
            return
        meant = self.i.router(router.name)
        text = f"{router.name} sends what is for {target} to {after.name} ({via})"
        if meant is not None and not any(target in route.destination for route in meant.routes):
            self.unlike("router", router.name, f"{text}; intended: no such route")
        else:
            self.good("router", router.name, text)
        self.router(after.name, target)

    def without_gateway(self, router: Router, meant: Router | None, target: IPv4Address) -> None:
        if meant is None or not meant.external:
            text = f"{router.name} has no way to {target}"
            self.lacks("gateway", router.name, text, Outcome.UNREACHABLE)
            self.over(Outcome.UNREACHABLE)
            return
        text = f"{router.name} has no external gateway; intended: on {meant.external}"
        self.lacks("gateway", router.name, text, Outcome.UNREACHABLE)
        self.gateway(meant, target)

    def gateway(self, router: Router, target: IPv4Address) -> None:
        """Out to the public network, the source translated."""
        meant = self.i.router(router.name)
        if self.way == "back":
            text = f"{router.name} sends the reply out by its external gateway, where {target} is not"
            self.lacks("gateway", router.name, text, Outcome.FILTERED)
            return
        if meant is not None and not meant.external:
            text = f"{router.name} has an external gateway on {router.external}; intended: none"
            self.unlike("gateway", router.name, text)
        elif self.c.router(router.name) is not None and router.external:
            self.good("gateway", router.name, f"{router.name} has its external gateway on {router.external}")
        self.hop(router.name, router.external or "", router.external_address)
        floating = self.c.floating_ip_of(self.source)
        if floating is None and not router.snat:
            text = f"{router.name} does not translate {self.source}'s address (SNAT is off), so no reply finds it"
            self.lacks("gateway", router.name, text, Outcome.FILTERED)
        self.seen_as = Peer(self.source, floating.address if floating else router.external_address)
        self.public(target)

    # ---------- the public network
    def leave_campus(self, outsider: Beyond, target: IPv4Address) -> None:
        """What stands between a host beyond the cloud and the public network."""
        name, guest = outsider.name, self.c.guests.get(outsider.name)
        if guest is not None and not guest.has(target):
            route = guest.route_to(target)
            if route is None or route.refuses:
                self.lacks("route", name, f"{name} has no route to {target}", Outcome.NO_ROUTE)
        if outsider.ports is None or self.traffic.protocol != "tcp" or self.c.floating_ip(target) is None:
            return
        if any(first <= self.traffic.port <= last for first, last in outsider.ports):
            self.good("campus", name, f"{self.traffic} is let through from {name} to the floating IPs")
            return
        ports = ", ".join(words.span(each) for each in outsider.ports)
        text = f"{self.traffic} is not among the ports let through from {name} to the floating IPs ({ports})"
        self.lacks("campus", name, text, Outcome.FILTERED)

    def public(self, target: IPv4Address) -> None:
        """On the public network: a floating IP, a host beyond, a router's own address."""
        floating, meant = self.c.floating_ip(target), self.i.floating_ip(target)
        if floating is not None or meant is not None:
            self.floating(target, floating, meant)
            return
        if any(each.address == target for each in self.c.beyond):
            text = f"{target} is on the other side; its replies come back by the translation"
            self.good("public", str(target), text)
            return
        router = next((each for each in self.c.routers if each.external_address == target), None)
        if router is not None:
            self.good("public", router.name, f"{target} is {router.name}'s own on {router.external}")
            self.over(Outcome.REACHABLE if self.traffic.protocol == "icmp" else Outcome.REFUSED)
        network = self.c.network_of(target) or self.i.network_of(target)
        if network is not None:
            text = f"no way leads from the public network into {network.name}: {target} is not routed there"
            self.lacks("public", network.name, text, Outcome.FILTERED)
            self.over(Outcome.FILTERED)
        if self.c.network_of(target, external=True):
            text = f"nothing is known to have {target} on the public network"
            self.lacks("public", str(target), text, Outcome.UNREACHABLE)
            self.over(Outcome.UNREACHABLE)
        self.good("public", str(target), f"{target} is beyond the cloud; nothing is known of it", unseen=True)

    def floating(self, target: IPv4Address, there: FloatingIP | None, meant: FloatingIP | None) -> None:
        text = words.floating(target, there, meant, self.i)
        leads = there if there and there.server and there.fixed else None
        if leads is None:
            self.lacks("floating IP", str(target), text, Outcome.UNREACHABLE)
        elif text:
            self.unlike("floating IP", str(target), text)
        else:
            self.good(
                "floating IP", str(target), f"floating IP {target} leads to {leads.server} ({leads.fixed})"
            )
            self.status(str(target), f"floating IP {target}", leads.status)
        leads = meant if self.mend and meant and text else leads
        network = words.network_of(leads, self.c, self.i) if leads else None
        if leads is None or leads.fixed is None or network is None:
            self.over(Outcome.UNREACHABLE)
            return
        router = words.translating(self.c, network)
        if router is not None:
            self.translated_by = router.name
            self.router_up(router)
            self.leg(router, network)
        else:
            self.lacks("gateway", network, words.not_joined(self.c, self.i, network), Outcome.UNREACHABLE)
            router = words.translating(self.i, network)
            self.translated_by = router.name if router else ""
        if router is not None:
            leg = router.leg_in(network)
            self.hop(router.name, router.external or "", target)
            self.hop(router.name, network, leg.address if leg else None)
        self.deliver(network, leads.fixed)

    # ---------- the target's end, and the reply
    def deliver(self, network: str, address: IPv4Address) -> None:
        if self.way == "back":
            self.good("delivery", network, f"the reply finds {self.source} ({address}) in {network}")
            return
        owner = self.c.owner(network, address)
        if owner is None:
            router = self.c.router_at(network, address)
            if router is not None:
                self.good("delivery", router.name, f"{address} is {router.name}'s leg in {network}")
                self.over(Outcome.REACHABLE if self.traffic.protocol == "icmp" else Outcome.REFUSED)
            text = words.not_owned(self.c, self.i, network, address)
            self.lacks("delivery", network, text, Outcome.UNREACHABLE)
            owner = self.i.owner(network, address)
        if owner is None:
            self.over(Outcome.UNREACHABLE)
            return
        name = owner.server.name
        self.running(name, Outcome.UNREACHABLE)
        self.guest(name)
        self.port(name, network, "ingress", self.seen_as)
        self.hop(name, network, address)
        self.received(name, address, self.seen_as)
        self.back(name)
        self.process(name, address)

    def back(self, name: str) -> None:
        """The reply: by the guest's own route; to the router that translated, if one did."""
        self.way = "back"
        try:
            asker = self.seen_as.address or ELSEWHERE
            route = self.route(name, asker)
            if self.translated_by:
                self.back_to_translator(name, route, asker)
            else:
                self.routers = 0
                self.onward(name, route, asker)
        finally:
            self.way = "there"

    def back_to_translator(self, name: str, route: GuestRoute | None, asker: IPv4Address) -> None:
        via, port = route.via if route else None, self.port_towards(name, asker)
        by = (
            self.c.router_at(port.network, via) or self.i.router_at(port.network, via)
            if port and via
            else None
        )
        if by is not None and by.name == self.translated_by:
            self.good("next hop", by.name, f"{name}'s reply goes back by {by.name}, which translates it")
            assert port is not None
            self.hop(name, port.network, next(iter(port.addresses), None))
            return
        leaves = (
            f"by {by.name} ({via})"
            if by
            else f"to {via}, where no router is"
            if via
            else "into its own network"
        )
        text = (
            f"{name}'s reply leaves {leaves}, not by {self.translated_by}, which translates its floating IP"
        )
        self.lacks("next hop", name, text, Outcome.FILTERED)
