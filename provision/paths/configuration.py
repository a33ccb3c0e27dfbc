"""What decides over a packet's way through a standing topology: the cloud's settings, and the guests' own.

Names are the topology's; a thing of the project that is not of the topology has the name that the cloud lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Literal, NamedTuple

from probes.guest import Guest
from provision.holdings import RuleKey

RUNNING = ("ACTIVE", "VERIFY_RESIZE", "PASSWORD")
"""The states of a server whose guest runs (nova's API guide, "Server concepts")."""


@dataclass(frozen=True)
class Traffic:
    """What is sent: ICMP echo, or TCP to a port."""

    protocol: Literal["icmp", "tcp"]
    port: int = 0

    def __str__(self) -> str:
        return self.protocol if self.protocol == "icmp" else f"tcp {self.port}"

    @classmethod
    def parse(cls, text: str) -> Traffic:
        """``icmp`` or ``tcp 50001``.

        Raises:
            ValueError: neither.
        """
        words = text.split()
        if words == ["icmp"]:
            return ICMP
        if len(words) == 2 and words[0] == "tcp" and words[1].isdigit() and 0 < int(words[1]) < 65536:
            return cls("tcp", int(words[1]))
        raise ValueError(f"{text!r} is neither icmp nor tcp with a port of 1 to 65535")


ICMP = Traffic("icmp")
SSH = Traffic("tcp", 22)


@dataclass(frozen=True)
class Network:
    """``cidr``, ``gateway`` and ``dhcp`` are its first subnet's; ``cidr`` is None where it is not shown."""

    name: str
    cidr: IPv4Network | None
    gateway: IPv4Address | None = None
    dhcp: bool = True
    external: bool = False

    def holds(self, address: IPv4Address) -> bool:
        return self.cidr is not None and address in self.cidr


@dataclass(frozen=True)
class Leg:
    """A router's interface; ``status`` is its port's."""

    network: str
    address: IPv4Address
    status: str = "ACTIVE"


@dataclass(frozen=True)
class RouterRoute:
    """One of a router's extra routes."""

    destination: IPv4Network
    via: IPv4Address


@dataclass(frozen=True)
class Router:
    """``external`` is the network that its gateway is on; ``snat`` whether that translates sources."""

    name: str
    legs: tuple[Leg, ...] = ()
    external: str | None = None
    external_address: IPv4Address | None = None
    routes: tuple[RouterRoute, ...] = ()
    status: str = "ACTIVE"
    admin_up: bool = True
    snat: bool = True

    def leg_in(self, network: str) -> Leg | None:
        return next((leg for leg in self.legs if leg.network == network), None)


@dataclass(frozen=True)
class Port:
    """A server's port. Without ``port_security`` no group applies to it and any source address passes."""

    network: str
    addresses: tuple[IPv4Address, ...]
    security_groups: tuple[str, ...] = ()
    port_security: bool = True
    admin_up: bool = True
    status: str = "ACTIVE"


@dataclass(frozen=True)
class Server:
    """``status`` and ``task`` are nova's; ``fault`` why it is in ERROR."""

    name: str
    ports: tuple[Port, ...]
    status: str = "ACTIVE"
    task: str | None = None
    fault: str = ""

    @property
    def running(self) -> bool:
        return self.status in RUNNING

    def port_in(self, network: str) -> Port | None:
        return next((port for port in self.ports if port.network == network), None)


@dataclass(frozen=True)
class FloatingIP:
    """A floating IP.

    Attributes:
        server: name of the server whose port it leads to; None if it leads to nothing.
        fixed: the address it is translated to.
        meant: the host that the topology made it for; None where that is not written on it.
    """

    address: IPv4Address
    server: str | None = None
    fixed: IPv4Address | None = None
    status: str = "ACTIVE"
    meant: str | None = None


@dataclass(frozen=True)
class Group:
    """A security group; in its rules, groups go by their names."""

    name: str
    rules: tuple[RuleKey, ...] = ()


@dataclass(frozen=True)
class Beyond:
    """A host that is not the cloud's: the desktop, or one on the internet.

    Attributes:
        address: the one that it is seen with; None where it is not known.
        ports: TCP ports that what stands before it lets through to the floating IPs, as ranges; None for all.
    """

    name: str
    address: IPv4Address | None = None
    ports: tuple[tuple[int, int], ...] | None = None


class Owner(NamedTuple):
    """Whose an address in a network is."""

    server: Server
    port: Port


@dataclass(frozen=True)
class Configuration:
    """All of it; look-ups by a name that is not there return None.

    Attributes:
        guests: those that could be looked into, by the server's name; hosts beyond the cloud, too.
        promised: floating IPs by the host that they were made for, whether they are still there or not.
    """

    networks: tuple[Network, ...] = ()
    routers: tuple[Router, ...] = ()
    servers: tuple[Server, ...] = ()
    groups: tuple[Group, ...] = ()
    floating_ips: tuple[FloatingIP, ...] = ()
    guests: Mapping[str, Guest] = field(default_factory=dict)
    beyond: tuple[Beyond, ...] = ()
    promised: Mapping[str, IPv4Address] = field(default_factory=dict)

    def network(self, name: str) -> Network | None:
        return next((each for each in self.networks if each.name == name), None)

    def router(self, name: str) -> Router | None:
        return next((each for each in self.routers if each.name == name), None)

    def server(self, name: str) -> Server | None:
        return next((each for each in self.servers if each.name == name), None)

    def group(self, name: str) -> Group | None:
        return next((each for each in self.groups if each.name == name), None)

    def outsider(self, name: str) -> Beyond | None:
        return next((each for each in self.beyond if each.name == name), None)

    def floating_ip(self, address: IPv4Address) -> FloatingIP | None:
        return next((each for each in self.floating_ips if each.address == address), None)

    def floating_ip_of(self, server: str) -> FloatingIP | None:
        return next((each for each in self.floating_ips if each.server == server), None)

    def network_of(self, address: IPv4Address, *, external: bool = False) -> Network | None:
        """The project's network that an address is in; the external one if asked for."""
        return next(
            (each for each in self.networks if each.external == external and each.holds(address)), None
        )

    def owner(self, network: str, address: IPv4Address) -> Owner | None:
        """The server whose port has an address in a network."""
        for server in self.servers:
            for port in server.ports:
                if port.network == network and address in port.addresses:
                    return Owner(server, port)
        return None

    def router_at(self, network: str, address: IPv4Address) -> Router | None:
        """The router whose leg has an address in a network."""
        return next(
            (r for r in self.routers for leg in r.legs if (leg.network, leg.address) == (network, address)),
            None,
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a file."""
        plain: dict[str, Any] = _plain(self)
        return plain


def rule_text(rule: RuleKey) -> str:
    """What a rule lets through: ``tcp 50001-50004 from group lab``."""
    ports = "" if rule.ports is None else " " + "-".join(str(each) for each in dict.fromkeys(rule.ports))
    word = "from" if rule.direction == "ingress" else "to"
    whom = f"group {rule.group}" if rule.group else rule.remote or "anywhere"
    return f"{rule.protocol or 'anything'}{ports} {word} {whom}"


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, RuleKey):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, frozenset):
        return sorted((_plain(each) for each in value), key=str)
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
