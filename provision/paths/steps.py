"""A path as it was computed: its steps, its hops, and what its source will see."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Any, Literal

from probes.observation import Outcome
from provision.paths.configuration import Traffic

Way = Literal["there", "back"]


class State(StrEnum):
    """What a step is, beside the intention."""

    HOLDS = "holds"
    MISSING = "missing"
    UNLIKE = "unlike the intention"
    UNSEEN = "unseen"  # could not be looked at; taken as intended


@dataclass(frozen=True)
class Step:
    """One thing that must be right for the packet to go on.

    Attributes:
        kind: ``server``, ``address``, ``route``, ``egress``, ``next hop``, ``router``, ``gateway``, ``floating IP``,
            ``delivery``, ``ingress``, ``filter``, ``process``; ``status`` for what an agent reports of a thing, which
            decides nothing by itself.
        of: whose it is.
        text: a sentence without its full stop.
        ends: what the source sees if the packet goes no further; None if it does.
    """

    kind: str
    of: str
    state: State
    text: str
    way: Way = "there"
    ends: Outcome | None = None

    @property
    def holds(self) -> bool:
        return self.state in (State.HOLDS, State.UNSEEN)

    def as_json(self) -> dict[str, Any]:
        ends = str(self.ends) if self.ends else None
        return {
            "kind": self.kind,
            "of": self.of,
            "state": str(self.state),
            "text": self.text,
            "way": self.way,
            "ends": ends,
        }

    def __str__(self) -> str:
        return f"{self.state}: {'on the way back, ' if self.way == 'back' else ''}{self.text}"


@dataclass(frozen=True)
class Hop:
    """A place that the packet passes, where it could be watched.

    Attributes:
        of: server or router; the external network's name for what leads to the floating IPs.
        network: the side on which it passes.
        address: of the port, the leg or the floating IP there.
    """

    of: str
    network: str
    address: IPv4Address | None
    way: Way = "there"

    def __str__(self) -> str:
        at = f" {self.address}" if self.address else ""
        return f"{self.of}'s side of {self.network}{at}"


@dataclass(frozen=True)
class Path:
    """The way from a host to an address, as configured.

    Attributes:
        outcome: what its source will see.
        steps: in the packet's order, as far as it comes.
        hops: likewise.
    """

    source: str
    target: IPv4Address
    traffic: Traffic
    outcome: Outcome
    steps: tuple[Step, ...]
    hops: tuple[Hop, ...]

    @property
    def arrives(self) -> bool:
        return self.outcome is Outcome.REACHABLE

    @property
    def broken(self) -> tuple[Step, ...]:
        """The steps that do not hold."""
        return tuple(step for step in self.steps if not step.holds)

    def as_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "target": str(self.target),
            "traffic": str(self.traffic),
            "outcome": str(self.outcome),
            "steps": [step.as_json() for step in self.steps],
            "hops": [str(hop) for hop in self.hops],
        }

    def __str__(self) -> str:
        head = f"{self.source} -> {self.target} {self.traffic}: {self.outcome}"
        return "\n  ".join([head, *map(str, self.steps)])
