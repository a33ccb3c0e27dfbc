"""A host's own part of a path: its addresses, routes, listening sockets and packet filter, by one command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError
from itertools import pairwise

from probes.host import Host
from probes.observation import Observation, Outcome
from probes.probe import FactProbe, fact

ANYWHERE = IPv4Network("0.0.0.0/0")

# Anything that is not there yet stays so: iptables would load its modules when it is only asked.
_COMMAND = """
echo "== addresses"
ip -4 -o address show
echo "== routes"
ip -4 route
echo "== listening"
awk '$4 == "0A" {print $2}' /proc/net/tcp /proc/net/tcp6 2>/dev/null
echo "== forwarding"
cat /proc/sys/net/ipv4/ip_forward
echo "== filter"
root=; [ "$(id -u)" = 0 ] || root="sudo -n"
if grep -Eq "^(iptable_filter|nf_tables) " /proc/modules; then $root iptables -S INPUT 2>/dev/null; fi
echo "== end"
"""
_REFUSING = ("unreachable", "prohibit", "blackhole", "throw")
_PLAIN_MATCHES = {"tcp", "udp", "icmp", "multiport", "conntrack", "state", "comment"}


@dataclass(frozen=True)
class GuestRoute:
    """A line of a routing table.

    Attributes:
        via: the next hop; None where the destination is on the link.
        refuses: a route of type unreachable, prohibit, blackhole or throw (ip-route(8)).
        metric: the smaller is preferred among routes to the same destination.
    """

    destination: IPv4Network
    via: IPv4Address | None = None
    device: str = ""
    refuses: bool = False
    metric: int = 0


@dataclass(frozen=True)
class FilterRule:
    """A rule of the INPUT chain.

    Attributes:
        target: ACCEPT, DROP, REJECT, or the name of a chain.
        protocol: None for any.
        ports: ranges of destination ports; empty for all.
        source: None for anybody.
        fits_new: whether it can match a connection's first packet.
        certain: False where it has conditions that are not read here.
    """

    target: str
    protocol: str | None = None
    ports: tuple[tuple[int, int], ...] = ()
    source: IPv4Network | None = None
    fits_new: bool = True
    certain: bool = True
    text: str = ""

    def matches(self, protocol: str, port: int, source: IPv4Address | None) -> bool:
        return (
            self.fits_new
            and self.certain
            and self.protocol in (None, "all", protocol)
            and (not self.ports or any(first <= port <= last for first, last in self.ports))
            and (self.source is None or (source is not None and source in self.source))
        )


@dataclass(frozen=True)
class Guest:
    """What a host shows of itself.

    Attributes:
        addresses: of all interfaces but the loopback.
        listening: TCP: address (``*`` for all) and port.
        forwarding: whether it passes on what is not for it (``net.ipv4.ip_forward``).
        policy: of the INPUT chain.
        filter: the chain's rules; empty with policy ACCEPT where there is no packet filter, or none to be seen.
    """

    addresses: tuple[IPv4Interface, ...] = ()
    routes: tuple[GuestRoute, ...] = ()
    listening: frozenset[tuple[str, int]] = frozenset()
    forwarding: bool = False
    policy: str = "ACCEPT"
    filter: tuple[FilterRule, ...] = ()

    def has(self, address: IPv4Address) -> bool:
        return any(each.ip == address for each in self.addresses)

    def route_to(self, address: IPv4Address) -> GuestRoute | None:
        """The route that is taken: longest prefix, then smallest metric (RFC 1812, 5.2.4.3); None without any."""
        fitting = [route for route in self.routes if address in route.destination]
        return max(fitting, key=lambda route: (route.destination.prefixlen, -route.metric), default=None)

    def listens(self, port: int) -> list[str]:
        """The addresses on which that TCP port is listened on."""
        return sorted(address for address, listened in self.listening if listened == port)

    def refusal(self, protocol: str, port: int, source: IPv4Address | None) -> FilterRule | None:
        """What of the packet filter keeps a first packet out; None if nothing does."""
        for rule in self.filter:
            if rule.target in ("ACCEPT", "DROP", "REJECT") and rule.matches(protocol, port, source):
                return None if rule.target == "ACCEPT" else rule
        if self.policy == "ACCEPT":
            return None
        return FilterRule(self.policy, text=f"-P INPUT {self.policy}")


def guest_state(host: Host, *, timeout: float = 10.0) -> FactProbe:
    """The look that :func:`read_guest` reads.

    Args:
        timeout: seconds.
    """
    return fact(host, _COMMAND.strip(), target=f"{host.name} itself", timeout=timeout)


def read_guest(seen: Observation) -> Guest | None:
    """What the look showed; None where the host could not be looked at. Lines that make no sense are left out."""
    if seen.outcome is not Outcome.SEEN or "== end" not in seen.output:
        return None
    parts = re.split(r"^== (\w+)\n", seen.output, flags=re.MULTILINE)
    part = dict(zip(parts[1::2], parts[2::2], strict=False))
    policy, rules = _filter(part.get("filter", ""))
    return Guest(
        addresses=tuple(_addresses(part.get("addresses", ""))),
        routes=tuple(_routes(part.get("routes", ""))),
        listening=frozenset(_sockets(part.get("listening", ""))),
        forwarding=part.get("forwarding", "").strip() == "1",
        policy=policy,
        filter=rules,
    )


def socket_of(text: str) -> tuple[str, int]:
    """A socket as /proc/net/tcp writes it (proc(5)): words of four bytes in the machine's, little-endian, order."""
    address, _, port = text.rpartition(":")
    raw = bytes.fromhex(address)
    words = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    if not any(words):
        return "*", int(port, 16)
    if len(words) == 16 and not words.startswith(bytes(10) + b"\xff\xff"):
        return words.hex(":", 2), int(port, 16)
    return str(IPv4Address(words[-4:])), int(port, 16)


def _addresses(text: str) -> Iterable[IPv4Interface]:
    for match in re.finditer(r"^\d+:\s+(\S+)\s+inet (\S+)", text, re.MULTILINE):
        if match[1] != "lo":
            try:
                yield IPv4Interface(match[2])
            except (AddressValueError, NetmaskValueError):
                continue


def _routes(text: str) -> Iterable[GuestRoute]:
    for line in text.splitlines():
        words = line.split()
        refuses = bool(words) and words[0] in _REFUSING
        words = words[1:] if refuses or words[:1] == ["unicast"] else words
        if not words:
            continue
        after = dict(pairwise(words))
        try:
            yield GuestRoute(
                ANYWHERE if words[0] == "default" else IPv4Network(words[0]),
                IPv4Address(after["via"]) if "via" in after else None,
                after.get("dev", ""),
                refuses,
                int(after.get("metric", 0)),
            )
        except ValueError:
            continue


def _sockets(text: str) -> Iterable[tuple[str, int]]:
    for line in text.split():
        if re.fullmatch(r"(?:[0-9A-F]{8}|[0-9A-F]{32}):[0-9A-F]{4}", line):
            yield socket_of(line)


def _filter(text: str) -> tuple[str, tuple[FilterRule, ...]]:
    policy, rules = "ACCEPT", []
    for line in text.splitlines():
        try:
            words = shlex.split(line)
        except ValueError:
            continue
        if words[:2] == ["-P", "INPUT"] and len(words) == 3:
            policy = words[2]
        elif words[:2] == ["-A", "INPUT"]:
            rules.append(_rule(words[2:], line.strip()))
    return policy, tuple(rules)


def _rule(words: list[str], text: str) -> FilterRule:
    """A rule as ``iptables -S`` writes it; what follows its target are the target's own options."""
    end = words.index("-j") if "-j" in words else len(words)
    rule = FilterRule(words[end + 1] if end + 1 < len(words) else "", text=text)
    options = iter(words[:end])
    for option in options:
        value = next(options, "")
        try:
            if option == "-p":
                rule = replace(rule, protocol=value)
            elif option == "-s":
                rule = replace(rule, source=IPv4Network(value))
            elif option in ("--dport", "--dports"):
                rule = replace(rule, ports=tuple(_span(part) for part in value.split(",")))
            elif option in ("--ctstate", "--state"):
                rule = replace(rule, fits_new="NEW" in value.split(","))
            elif option == "-i":
                rule = replace(rule, fits_new=rule.fits_new and value != "lo")
            elif option == "--icmp-type":
                rule = replace(rule, fits_new=rule.fits_new and value in ("8", "any", "echo-request"))
            elif option != "--comment" and (option != "-m" or value not in _PLAIN_MATCHES):
                rule = replace(rule, certain=False)
        except ValueError:
            rule = replace(rule, certain=False)
    return rule


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition(":")
    return int(first), int(last or first)
