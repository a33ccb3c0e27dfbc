"""Whether security groups let a first packet through, and what is amiss when they do not.

Rules only ever allow, and a reply passes by its connection's state (neutron, "Security groups"): so one rule that fits
is enough, and only the way there is asked for one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from provision.holdings import RuleKey
from provision.paths.configuration import Configuration, Port, Traffic, rule_text

# the protocols may be written as numbers (IANA, "Assigned Internet Protocol Numbers")
_NUMBERS = {"1": "icmp", "6": "tcp", "17": "udp", "any": None, "0": None}
ECHO_REQUEST = 8


@dataclass(frozen=True)
class Peer:
    """The other side of a packet, as the port sees it.

    Attributes:
        name: in words: a host, ``desktop``.
        address: None where it is not known; only a rule for anybody fits it then.
        groups: the security groups that it is in; of none when its address was translated on the way.
        meant: those that it is meant to be in.
    """

    name: str
    address: IPv4Address | None
    groups: tuple[str, ...] = ()
    meant: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} ({self.address})" if self.address else self.name


@dataclass(frozen=True)
class Passage:
    """A packet at a server's port."""

    direction: str
    server: str
    traffic: Traffic
    peer: Peer

    def __str__(self) -> str:
        if self.direction == "ingress":
            return f"{self.traffic} in from {self.peer.name}"
        return f"{self.traffic} out of {self.server} to {self.peer.name}"

    def fits(self, rule: RuleKey) -> bool:
        """Whether a rule lets it through."""
        return self._fits(rule, self.peer.groups)

    def is_meant_to_fit(self, rule: RuleKey) -> bool:
        """Whether it would if the peer were in the groups that it is meant to be in."""
        return self._fits(rule, self.peer.meant)

    def _fits(self, rule: RuleKey, groups: tuple[str, ...]) -> bool:
        peer = rule.group in groups if rule.group else _among(self.peer.address, rule.remote)
        return peer and self.concerns(rule)

    def concerns(self, rule: RuleKey) -> bool:
        """Whether a rule is for such packets, whoever the peer is."""
        protocol = _NUMBERS.get(rule.protocol or "any", rule.protocol)
        if rule.direction != self.direction or rule.ethertype != "IPv4":
            return False
        if protocol is None:
            return True
        if protocol != self.traffic.protocol:
            return False
        if rule.ports is None:
            return True
        first, last = rule.ports
        if self.traffic.protocol == "icmp":
            return first == ECHO_REQUEST
        return first <= self.traffic.port <= (first if last is None else last)


@dataclass(frozen=True)
class Decision:
    """``passes`` whatever was intended; ``amiss`` says how it is unlike the intention, empty if it is not."""

    passes: bool
    told: str
    amiss: str = ""


def decide(
    passage: Passage, port: Port, meant: Port | None, configured: Configuration, intention: Configuration
) -> Decision:
    """What the groups of a port do with a packet.

    Args:
        port: as configured; ``meant`` as intended, None where nothing is known of that.
    """
    whose = f"{passage.server}'s port"
    if not port.port_security:
        told = f"port security is off for {whose}, so no security group applies"
        return Decision(True, told, f"{told}; intended: on" if meant and meant.port_security else "")
    fitting = [(group, rule) for group, rule in rules_of(port, configured) if passage.fits(rule)]
    wanted = [(group, rule) for group, rule in rules_of(meant, intention) if passage.is_meant_to_fit(rule)]
    for group, rule in fitting:
        told = f"rule {rule_text(rule)} of security group {group} lets {passage}"
        if meant is None or (group, rule) in wanted:
            return Decision(True, told)
    if fitting:
        group, rule = fitting[0]
        told = f"rule {rule_text(rule)} of security group {group} lets {passage}"
        if wanted:
            return Decision(True, told)
        return Decision(True, told, f"{told}; intended: nothing that does")
    return Decision(False, *[_missing(passage, port, meant, wanted, configured, intention)] * 2)


def rules_of(port: Port | None, configuration: Configuration) -> Iterator[tuple[str, RuleKey]]:
    """The rules that apply to a port, each with its group's name."""
    for name in port.security_groups if port else ():
        group = configuration.group(name)
        for rule in group.rules if group else ():
            yield name, rule


def _missing(
    passage: Passage,
    port: Port,
    meant: Port | None,
    wanted: list[tuple[str, RuleKey]],
    configured: Configuration,
    intention: Configuration,
) -> str:
    """Why nothing lets it through: the first thing that should and does not."""
    if not wanted:
        if not port.security_groups:
            return f"{passage.server}'s port is in no security group, so nothing passes it"
        return f"no rule of {_groups(port.security_groups)} lets {passage}"
    group, rule = wanted[0]
    if group not in port.security_groups:
        there = ", ".join(port.security_groups) or "none"
        return (
            f"{passage.server} is not in security group {group}, whose rule {rule_text(rule)} is meant to let "
            f"{passage}; its groups: {there}"
        )
    actual = configured.group(group)
    rules = actual.rules if actual else ()
    if rule in rules:
        return (
            f"rule {rule_text(rule)} of security group {group} does not let {passage}: "
            f"{passage.peer} is not in group {rule.group}"
        )
    intended = intention.group(group)
    strange = [each for each in rules if not intended or each not in intended.rules]
    near = sorted(
        (each for each in strange if each.ethertype == "IPv4"),
        key=lambda each: each.protocol != rule.protocol,
    )
    has = f"; it has {', '.join(map(_in_full, near[:2]))} instead" if near else ""
    what = f"security group {group}" if actual else f"security group {group}, which is not there,"
    return f"no rule of {what} lets {passage}; intended: {rule_text(rule)}{has}"


def _in_full(rule: RuleKey) -> str:
    return f"{rule.direction} {rule_text(rule)}"


def _among(address: IPv4Address | None, remote: str | None) -> bool:
    if remote is None:
        return True
    try:
        network = IPv4Network(remote, strict=False)
    except ValueError:
        return False
    return network.prefixlen == 0 or (address is not None and address in network)


def _groups(names: Collection[str] | Iterable[str]) -> str:
    listed = list(names)
    return f"security group{'s' * (len(listed) > 1)} {', '.join(listed)}"
