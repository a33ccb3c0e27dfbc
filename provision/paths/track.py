"""What is noted along a path, and a server's end of it: running, addressed, routed, let through, listening."""

from __future__ import annotations

from ipaddress import IPv4Address

from probes.guest import Guest, GuestRoute
from probes.observation import Outcome
from provision.paths import words
from provision.paths.configuration import Configuration, Port, Traffic
from provision.paths.groups import Passage, Peer, decide
from provision.paths.steps import Hop, State, Step, Way

QUIET = ("ACTIVE", "N/A")


class End(Exception):  # noqa: N818 - the walk is over
    """The packet goes no further, or need not.

    Attributes:
        outcome: what its source sees.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Track:
    """Steps and hops so far; ``c`` is what is configured, ``i`` the intention."""

    def __init__(
        self, configured: Configuration, intention: Configuration, traffic: Traffic, mend: bool
    ) -> None:
        self.c = configured
        self.i = intention
        self.traffic = traffic
        self.mend = mend
        self.steps: list[Step] = []
        self.hops: list[Hop] = []
        self.way: Way = "there"

    def good(self, kind: str, of: str, text: str, *, unseen: bool = False) -> None:
        self.steps.append(Step(kind, of, State.UNSEEN if unseen else State.HOLDS, text, self.way))

    def unlike(self, kind: str, of: str, text: str, state: State = State.UNLIKE) -> None:
        """Not as intended; whether the packet gets on by it is for what follows to tell."""
        self.steps.append(Step(kind, of, state, text, self.way))

    def lacks(self, kind: str, of: str, text: str, outcome: Outcome) -> None:
        """Where the packet dies, unless this walk mends."""
        if self.way == "back":
            outcome = Outcome.FILTERED  # whatever happens to a reply, its addressee hears nothing
        self.steps.append(Step(kind, of, State.MISSING, text, self.way, outcome))
        if not self.mend:
            raise End(outcome)

    def over(self, outcome: Outcome) -> None:
        raise End(Outcome.FILTERED if self.way == "back" else outcome)

    def status(self, of: str, what: str, status: str) -> None:
        """What an agent reports. It may lag behind what passes, so nothing ends there."""
        if status not in QUIET:
            self.unlike("status", of, f"{what} is {status}")

    # ---------- a server and its guest
    def running(self, name: str, outcome: Outcome) -> None:
        server = self.c.server(name)
        if server is None:
            self.lacks("server", name, f"server {name} is not there", outcome)
        elif not server.running:
            because = server.fault or server.task
            self.lacks(
                "server", name, f"server {name} is {server.status}" + f" ({because})" * bool(because), outcome
            )
        else:
            self.good("server", name, f"server {name} is {server.status}")

    def guest_of(self, name: str) -> Guest:
        return words.guest_of(name, self.c, self.i)

    def looked_into(self, name: str) -> bool:
        return name in self.c.guests

    def guest(self, name: str) -> Guest:
        """A guest as seen, or as it is meant to be where it could not be looked into."""
        if not self.looked_into(name):
            text = f"{name} could not be looked into: its routes and processes are taken as intended"
            self.good("guest", name, text, unseen=True)
            self.dhcp(name)
        return self.guest_of(name)

    def dhcp(self, name: str) -> None:
        server = self.c.server(name)
        for port in server.ports if server else ():
            there, meant = self.c.network(port.network), self.i.network(port.network)
            if there and meant and meant.dhcp and not there.dhcp:
                text = f"network {port.network} has DHCP off, so {name} may have no address; intended: on"
                self.unlike("dhcp", port.network, text)

    def own_address(self, name: str, port: Port | None) -> None:
        """Whether a sender has its port's address; port security drops what comes from another."""
        guest = self.guest_of(name)
        if port is None or any(guest.has(address) for address in port.addresses):
            return
        if guest.addresses and not port.port_security:
            return
        self.dhcp(name)
        wanted = ", ".join(map(str, port.addresses))
        outcome = Outcome.FILTERED if guest.addresses else Outcome.NO_ROUTE
        self.lacks("address", name, words.no_address(name, wanted, guest), outcome)

    def port_towards(self, name: str, target: IPv4Address) -> Port | None:
        """The port by which a server sends what is for an address; of one that is not there, as intended."""
        server = self.c.server(name) or self.i.server(name)
        ports = server.ports if server else ()
        route = self.guest_of(name).route_to(target)
        towards = route.via if route and route.via else target
        for port in ports:
            if words.reaches(self.c, port.network, towards) or words.reaches(self.i, port.network, towards):
                return port
        return next(iter(ports), None)

    def route(self, name: str, target: IPv4Address) -> GuestRoute | None:
        """A guest's route; a walk that mends takes the intended one."""
        found = self.guest_of(name).route_to(target)
        wanted = words.meant_route(name, target, self.i)
        wrong = words.wrong_route(name, target, self.c, self.i)
        if wrong is not None:
            state, text = wrong
            if found is None or found.refuses:
                self.lacks("route", name, text, Outcome.NO_ROUTE)
            else:
                self.unlike("route", name, text, state)
            return wanted if self.mend and wanted else found
        assert found is not None
        self.good("route", name, words.takes(name, target, found), unseen=not self.looked_into(name))
        return found

    def port(self, name: str, network: str, direction: str, peer: Peer) -> None:
        """A server's port: it is up, and its groups let the packet through."""
        server, meant = self.c.server(name), self.i.server(name)
        port = server.port_in(network) if server else None
        if port is None:
            return
        if not port.admin_up:
            text = f"{name}'s port in {network} is switched off (admin state down)"
            self.lacks("port", name, text, Outcome.FILTERED)
        elif server and server.running:
            self.status(name, f"{name}'s port in {network}", port.status)
        passage = Passage(direction, name, self.traffic, peer)
        decision = decide(passage, port, meant.port_in(network) if meant else None, self.c, self.i)
        if not decision.passes:
            self.lacks(direction, name, decision.told, Outcome.FILTERED)
        elif decision.amiss:
            self.unlike(direction, name, decision.amiss)
        else:
            self.good(direction, name, decision.told)

    def received(self, name: str, address: IPv4Address, peer: Peer) -> None:
        """Whether a guest takes the packet for its own, and its packet filter lets it in."""
        guest = self.guest_of(name)
        if not guest.has(address):
            self.dhcp(name)
            self.lacks("address", name, words.no_address(name, str(address), guest), Outcome.UNREACHABLE)
        for twin in words.twins(self.c, name, address):
            self.unlike("address", twin, f"{twin} has {address} too, which is {name}'s")
        refusal = guest.refusal(self.traffic.protocol, self.traffic.port, peer.address)
        if refusal is not None:
            refused = refusal.target == "REJECT" and self.traffic.protocol == "tcp"
            text = f"{name}'s own packet filter keeps {self.traffic} out: {refusal.text}"
            self.lacks("filter", name, text, Outcome.REFUSED if refused else Outcome.FILTERED)

    def process(self, name: str, address: IPv4Address) -> None:
        if self.traffic.protocol != "tcp":
            return
        text = words.not_listening(name, address, self.traffic.port, self.c, self.i)
        if text:
            self.lacks("process", name, text, Outcome.REFUSED)
            return
        meant = self.i.guests.get(name)
        told = f"{name} listens on {self.traffic}"
        if (
            meant
            and self.looked_into(name)
            and not {"*", str(address)} & set(meant.listens(self.traffic.port))
        ):
            self.unlike("process", name, f"{told} at {address}; intended: not there")
        else:
            self.good("process", name, told, unseen=not self.looked_into(name))
