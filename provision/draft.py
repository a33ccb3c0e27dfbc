"""What the steps of a plan share: what is there, what is to be made, and the ids as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from openstack.exceptions import NotFoundException

from probes.ending import ENDING
from provision.cloud import Cloud, CloudError
from provision.graph import Graph
from provision.holdings import Holdings
from provision.journal import Journal
from provision.mark import Mark
from provision.topology import Topology
from provision.waiters import WaitCancelled

# Estimated seconds on a slow cloud. They decide which of the ready steps goes first: what leads to a server's
# making, which the boot (the server's own) hangs on, before what leads to a floating IP.
COST = {"network": 0.1, "subnet": 0.2, "security group": 0.1, "rules": 0.2, "keypair": 0.1, "ports": 0.8}
COST |= {"server": 30.0, "router": 0.5, "leg": 0.8, "floating IP": 0.6, "tags": 0.1, "look": 0.2}


class Refused(Exception):  # noqa: N818 - the topology is refused, nothing failed
    """What stands differs from the topology in something that cannot be changed in place."""


@dataclass
class Draft:
    """A plan in the making.

    Attributes:
        have: what is there.
        graph: the steps.
        changes: what they make or change, in words.
        ids: (kind, topology's name) -> id, of what is there and, as the steps end, of what they made.
        records: what the cloud answered on making them, by the same keys.
        needs: what they take of the project's quota.
        intents: kind and cloud's name of everything that they make.
        made: kind, cloud's name and id of what they made.
        untagged: kinds and names of what still needs its tags.
    """

    cloud: Cloud
    topology: Topology
    mark: Mark
    have: Holdings
    journal: Journal | None = None
    graph: Graph = field(default_factory=Graph)
    changes: list[str] = field(default_factory=list)
    ids: dict[tuple[str, str], str] = field(default_factory=dict)
    records: dict[tuple[str, str], Any] = field(default_factory=dict)
    needs: dict[str, int] = field(default_factory=dict)
    intents: list[tuple[str, str]] = field(default_factory=list)
    made: list[tuple[str, str, str]] = field(default_factory=list)
    untagged: list[tuple[str, str]] = field(default_factory=list)

    def need(self, quota: str, amount: int = 1) -> None:
        """Counts what a step takes of the quota (see :meth:`Cloud.check_quota`)."""
        self.needs[quota] = self.needs.get(quota, 0) + amount

    def step(
        self,
        name: str,
        action: Callable[[], Any],
        *,
        cost: str,
        after: Iterable[str] = (),
        change: str = "",
        waits: bool = False,
    ) -> None:
        """Adds a step.

        Args:
            cost: key of :data:`COST`.
            after: steps; those that are none are passed over, for their things are there already.
            change: what it changes, in words; empty if nothing.
        """

        def run() -> Any:
            if ENDING.is_set():
                raise WaitCancelled(f"{name}: the run is being ended")
            with self.cloud.doing(name):
                return action()

        if change:
            self.changes.append(change)
        self.graph.add(name, run, [step for step in after if step in self.graph], COST[cost], waits=waits)

    def make(
        self,
        kind: str,
        name: str,
        create: Callable[[str], Any],
        *,
        after: Iterable[str] = (),
        quota: str = "",
    ) -> None:
        """Adds a step ``KIND NAME`` that makes a thing.

        Args:
            create: is given the cloud's name for it, and returns the cloud's record.
        """
        if quota:
            self.need(quota)
        self.intend(kind, name)
        self.step(
            f"{kind} {name}",
            lambda: self.note(kind, name, create(self.mark.name(name))),
            cost=kind,
            after=after,
            change=f"{kind} {name} made",
        )

    def intend(self, kind: str, name: str) -> None:
        self.intents.append((kind, self.mark.name(name)))

    def note(self, kind: str, name: str, record: Any) -> None:
        """Keeps what the cloud answered on making a thing.

        Raises:
            CloudError: the answer does not say which thing it made.
        """
        if not record.id:
            raise CloudError(
                "fault", f"{kind} {name}", "the cloud's answer to its making has no id",
                "the fault is on the cloud's side, or a proxy's before it",
            )  # fmt: skip
        self.ids[kind, name] = record.id
        self.records[kind, name] = record
        self.made.append((kind, self.mark.name(name), record.id))
        if self.journal:
            self.journal.made(kind, self.mark.name(name), record.id)

    def goes_with(self, kind: str, name: str, parent: str) -> None:
        """Notes that something is made that goes with what it is part of, whose id is written beside it."""
        if self.journal:
            self.journal.made(kind, self.mark.name(name), parent)

    def found(self, kind: str, name: str, item: Any) -> None:
        """Keeps a thing that is there; it gets its tags if it has not got them (a run died in between)."""
        self.ids[kind, name] = item.id
        if not set(self.mark.tags) <= set(item.tags):
            self.untagged.append((kind, name))

    def refuse(self, what: str, there: object, asked: object) -> NoReturn:
        """Raises Refused."""
        raise Refused(
            f"{what} stands with {there}, the topology asks for {asked}, which cannot be changed in place; "
            f"destroy {self.topology.name} first"
        )


def take_away(id_: str, remove: Callable[..., Any], find: Callable[[str], Any]) -> None:
    """Removes a thing that the topology does not have, by two calls of the SDK.

    One that the cloud does not know (HTTP 404) may be gone by somebody else's hand: whether it is, is looked up.

    Raises:
        NotFoundException: the cloud says that there is none, and shows it.
    """
    try:
        remove(id_, ignore_missing=False)
    except NotFoundException:
        if find(id_) is not None:
            raise
