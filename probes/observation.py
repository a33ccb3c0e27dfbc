"""What a probe saw, and what a check concludes from it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a look ended.

    ``NOT_MADE`` says that the probe itself could not run (no shell, no such tool, no answer from the
    prober): nothing follows from it about the target.
    """

    REACHABLE = "reachable"
    FILTERED = "filtered"  # nothing came back during the whole window
    REFUSED = "refused"  # the target, or a firewall in its place, said no
    NO_ROUTE = "no route"  # the source itself has no way there
    UNREACHABLE = "unreachable"  # a router on the way, or ARP, reported it so
    NAME_ERROR = "name error"
    NO_ANSWER = "no answer"  # connected, but the service hung up or said nothing of its protocol
    SEEN = "seen"  # a fact was read (a file, a route, an API answer), nothing was to be reached
    NOT_MADE = "not made"


@dataclass(frozen=True)
class Observation:
    """One look at the lab: the evidence in the report.

    Attributes:
        probe: kind of look: ``ping``, ``tcp``, ``http``, ``command``, ``api``.
        source: name of the host that looked (``desktop``, ``calculator``), or of the API.
        target: what it looked at.
        command: what was tried, as a person could type it.
        outcome: how it ended.
        output: what came back, raw.
        numbers: what was measured: ``sent``, ``received``, ``ttl``, ``rtt_ms``, ``status``, ``port``.
        started: Unix time in seconds.
        seconds: how long the look took.
    """

    probe: str
    source: str
    target: str
    command: str
    outcome: Outcome
    output: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    started: float = 0.0
    seconds: float = 0.0

    @property
    def reached(self) -> bool:
        return self.outcome is Outcome.REACHABLE

    @property
    def last_words(self) -> str:
        """The last line that came back: of a look that was not made, why."""
        return next((line.strip() for line in reversed(self.output.splitlines()) if line.strip()), "")

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "outcome": str(self.outcome)}

    def __str__(self) -> str:
        what = f"{self.source}$ {self.command}  ->  {self.outcome} after {self.seconds:.1f} s"
        last = self.output.strip().splitlines()[-3:]
        return "\n    ".join([what, *last])


class Unproven(Exception):  # noqa: N818 - a verdict, not an error
    """The check could not be made: nothing is said about the lab, in its favour or against it.

    Attributes:
        observations: the looks that leave it open, where there are any.
    """

    observations: tuple[Observation, ...] = ()


class NotBuilt(AssertionError):  # noqa: N818 - a verdict, not an error
    """What a check is to look at is not there, and making it was the lab's task: the check fails, wherever it learns so."""


class Evidence:
    """Collects the observations made while a check runs (and before it, by the fixtures)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sinks: list[list[Observation]] = []
        self._thread = threading.local()

    def add(self, observation: Observation) -> Observation:
        apart: list[Observation] | None = getattr(self._thread, "apart", None)
        if apart is not None:
            apart.append(observation)
            return observation
        with self._lock:
            for sink in self._sinks:
                sink.append(observation)
        return observation

    @contextmanager
    def apart(self) -> Iterator[list[Observation]]:
        """Keeps what the calling thread observes out of the running check: for work in the background.

        Yields the list of it, for the check that asks for the work's result.
        """
        mine: list[Observation] = []
        before = getattr(self._thread, "apart", None)
        self._thread.apart = mine
        try:
            yield mine
        finally:
            self._thread.apart = before

    @contextmanager
    def collect(self) -> Iterator[list[Observation]]:
        """Yields a list that grows with every observation added until the block ends."""
        sink: list[Observation] = []
        with self._lock:
            self._sinks.append(sink)
        try:
            yield sink
        finally:
            with self._lock:
                self._sinks = [s for s in self._sinks if s is not sink]


evidence = Evidence()
