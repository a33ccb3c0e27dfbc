"""The look not yet made, and the simplest one: a fact read from a host."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

from probes.host import CommandResult, CommandTimeout, Host, HostError
from probes.observation import Observation, Outcome, Unproven, evidence
from probes.shell import quoted

COMMAND_SECONDS = 30.0
"""That a command may take where nothing else is said: on an emulated processor that others use too, the quickest takes
seconds."""
_NO_SUCH_TOOL = (126, 127)
_KEPT = 64 * 1024


@dataclass(frozen=True)
class Probe(ABC):
    """A look not yet made: it can be made now, later, again, or together with others.

    Attributes:
        source: the host that looks.
        target: what it looks at, an address, a name or a URL.
    """

    source: Host
    target: str

    kind = ""

    @abstractmethod
    def look(self) -> Observation:
        """Makes it. Never raises for what the lab or the host does: that a look could not be made is its
        outcome."""

    def quick(self) -> Self:
        """The same look, content with the least that proves the target reachable."""
        return self

    def __str__(self) -> str:
        return f"{self.kind} {self.source.name} -> {self.target}"


@dataclass(frozen=True)
class FactProbe(Probe):
    """A command whose output is the evidence. As a positive control it holds when it ends with status 0."""

    text: str = ""
    timeout: float = COMMAND_SECONDS

    kind = "command"

    def look(self) -> Observation:
        started, began = time.time(), time.monotonic()
        numbers: dict[str, float] = {}
        try:
            result = self.source.run(self.text, timeout=self.timeout)
        except HostError as error:
            outcome, output = Outcome.NOT_MADE, not_run(error)
        else:
            outcome = Outcome.NOT_MADE if result.status in _NO_SUCH_TOOL else Outcome.SEEN
            output = shown(result)
            numbers["status"] = float(result.status)
        return Observation(
            self.kind,
            self.source.name,
            self.target or self.source.name,
            self.text,
            outcome,
            output,
            numbers,
            started,
            time.monotonic() - began,
        )


def fact(
    source: Host, cmd: str, *args: object, target: str = "", timeout: float = COMMAND_SECONDS
) -> FactProbe:
    """A command to be run on a host, as a look: ``fact(vm, "systemctl is-active ssh")``."""
    return FactProbe(source, target, quoted(cmd, *args), timeout)


def command(
    source: Host, cmd: str, *args: object, target: str = "", timeout: float = COMMAND_SECONDS
) -> Observation:
    """Runs a command on a host and adds what it said to the evidence.

    Args:
        source: where it runs.
        cmd: shell text, ``%s`` for each of the args, which are quoted.
        target: what it is about; the host itself when empty.
        timeout: seconds it may take.

    Returns:
        Outcome ``SEEN`` whatever its exit status (``numbers["status"]``). ``output`` is its stdout, then its
        stderr.

    Raises:
        Unproven: it could not be run, did not end, or there is no such command.
    """
    seen = evidence.add(fact(source, cmd, *args, target=target, timeout=timeout).look())
    if seen.outcome is Outcome.NOT_MADE:
        error = Unproven(f"cannot be told, the command could not be run: {seen.last_words}\n{seen}")
        error.observations = (seen,)
        raise error
    return seen


def shown(result: CommandResult) -> str:
    """Output as evidence: stdout, then stderr, the middle of too much left out."""
    joint = "" if not result.stdout or result.stdout.endswith("\n") or not result.stderr else "\n"
    return capped(f"{result.stdout}{joint}{result.stderr}")


def capped(text: str) -> str:
    if len(text) <= _KEPT:
        return text
    half = _KEPT // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


def not_run(error: HostError) -> str:
    said = f"{error.stdout}{error.stderr}" if isinstance(error, CommandTimeout) else ""
    return capped(f"{said}\n{error}".strip())
