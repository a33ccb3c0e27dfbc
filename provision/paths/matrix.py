"""Who can reach whom in a topology, on which port: as intended, as configured, as measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from probes.observation import Observation, Outcome
from provision.paths.configuration import ICMP, Configuration, Traffic
from provision.paths.explain import address_of, explain, fate
from provision.paths.intention import intended, questions
from provision.paths.measured import Question, measured
from provision.paths.walk import walk
from provision.topology import Topology


@dataclass(frozen=True)
class Cell:
    """One question, and its three answers.

    Attributes:
        address: at which the target is asked; None where it has none, and nothing can be asked.
        configured: None where the configuration could not be read.
        measured: None where nobody has tried.
        why: what is wrong, in one sentence; empty where the answers agree.
    """

    source: str
    target: str
    address: IPv4Address | None
    traffic: Traffic
    intended: Outcome
    configured: Outcome | None = None
    measured: Outcome | None = None
    why: str = ""

    @property
    def agrees(self) -> bool:
        """Whether a packet fares in all of them alike; which word a lost one gets does not count."""
        answers = {fate(each) for each in (self.intended, self.configured, self.measured) if each is not None}
        return len(answers) == 1

    def as_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "target": self.target,
            "address": str(self.address) if self.address else None,
            "traffic": str(self.traffic),
            "intended": str(self.intended),
            "configured": str(self.configured) if self.configured else None,
            "measured": str(self.measured) if self.measured else None,
            "agrees": self.agrees,
            "why": self.why,
        }


@dataclass(frozen=True)
class Matrix:
    """A topology's cells, source by source."""

    topology: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def unlike(self) -> tuple[Cell, ...]:
        """The cells whose answers do not agree."""
        return tuple(cell for cell in self.cells if not cell.agrees)

    def of(self, source: str, target: str) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if (cell.source, cell.target) == (source, target))

    def as_json(self) -> dict[str, Any]:
        """As it stands in the run file's ``matrices``."""
        return {
            "topology": self.topology,
            "sources": list(self.sources),
            "targets": list(self.targets),
            "cells": [cell.as_json() for cell in self.cells],
        }


def matrix(
    topology: Topology, configuration: Configuration | None = None, observations: Iterable[Observation] = ()
) -> Matrix:
    """The reachability matrix.

    Args:
        configuration: what stands; None where it could not be read.
        observations: looks at reachability; of several that asked the same, the last counts.
    """
    standing = configuration or Configuration()
    intention = intended(topology, standing)
    seen = measured(observations)
    cells = []
    for source, target, traffic in asked_of(topology, intention):
        address = address_of(intention, source, target)
        if address is None:
            continue
        meant = walk(intention, intention, source, address, traffic).outcome
        there = walk(standing, intention, source, address, traffic).outcome if configuration else None
        answer = seen.outcome(Question(source, address, traffic))
        cell = Cell(source, target, address, traffic, meant, there, answer)
        why = "" if cell.agrees else _why(topology, standing, cell)
        cells.append(Cell(source, target, address, traffic, meant, there, answer, why))
    hosts = [*(host.name for host in topology.hosts), *(each.name for each in intention.beyond)]
    sources, targets = {cell.source for cell in cells}, {cell.target for cell in cells}
    return Matrix(
        topology.name,
        tuple(name for name in hosts if name in sources),
        tuple(name for name in hosts if name in targets),
        tuple(cells),
    )


def asked_of(topology: Topology, intention: Configuration) -> Iterator[tuple[str, str, Traffic]]:
    """Every question of a topology: its hosts and those beyond, ping, SSH and the services' ports; ping alone outwards."""
    hosts = [host.name for host in topology.hosts]
    beyond = [each.name for each in intention.beyond]
    for source in (*hosts, *beyond):
        for target in hosts:
            if source != target:
                for traffic in questions(topology, target):
                    yield source, target, traffic
        if source in hosts:
            for target in beyond:
                yield source, target, ICMP


def _why(topology: Topology, configuration: Configuration, cell: Cell) -> str:
    assert cell.address is not None
    lines = explain(topology, configuration, cell.source, cell.address, cell.traffic, cell.measured)
    return lines[0] if lines else ""
