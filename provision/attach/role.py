"""A part of a topology, and what plays it in a project: one thing, none, or several that it could be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from provision.holdings import CloudNetwork, CloudRouter, CloudServer

T = TypeVar("T")


@dataclass(frozen=True)
class Role(Generic[T]):
    """What plays a part.

    Attributes:
        thing: what was found; None where nothing was, or what it is cannot be told.
        told: the thing as its owner knows it, with its address.
        missing: what was looked for and what there is, in a sentence; empty where there is something.
        ambiguous: what it could be and how to name it, in a sentence.
        apart: whether it is told apart from its like, and not only taken in some order.
    """

    thing: T | None = None
    told: str = ""
    missing: str = ""
    ambiguous: str = ""
    apart: bool = True

    @property
    def problem(self) -> str:
        """Why there is no one thing; empty where there is."""
        return self.missing or self.ambiguous

    def __str__(self) -> str:
        if self.missing:
            return f"missing: {self.missing}"
        if self.ambiguous:
            return f"ambiguous: {self.ambiguous}"
        return self.told if self.apart else f"{self.told}, not told apart"


def several(what: str, candidates: Iterable[str], key: str) -> Role[T]:
    """A part that several things could play.

    Args:
        key: what names it in a submission file.
    """
    there = ", ".join(sorted(candidates))
    return Role(
        ambiguous=f"{what} could be any of {there}; name it in the submission file: [roles] {key} = …"
    )


@dataclass(frozen=True)
class Place:
    """Where a service is: the part that its VM plays, and the port.

    Attributes:
        apart: whether it is known to be this service's.
    """

    host: str
    port: int
    apart: bool = True


@dataclass(frozen=True)
class Arrangement:
    """A topology's parts in a project, by the topology's names.

    Attributes:
        topology: the document's name.
        services: where each service is that has a place.
    """

    topology: str
    networks: Mapping[str, Role[CloudNetwork]] = field(default_factory=dict)
    routers: Mapping[str, Role[CloudRouter]] = field(default_factory=dict)
    hosts: Mapping[str, Role[CloudServer]] = field(default_factory=dict)
    services: Mapping[str, Place] = field(default_factory=dict)

    def roles(self) -> Iterator[tuple[str, Role[CloudNetwork] | Role[CloudRouter] | Role[CloudServer]]]:
        """Every part by name."""
        yield from self.networks.items()
        yield from self.routers.items()
        yield from self.hosts.items()

    @property
    def there(self) -> bool:
        """Whether somebody has built it, whole or not: its networks and routers are there."""
        frame: list[Role[Any]] = [*self.networks.values(), *self.routers.values()]
        return bool(frame) and not any(role.missing for role in frame)

    @property
    def begun(self) -> bool:
        """Whether somebody has set about it: its networks are there."""
        return bool(self.networks) and not any(role.missing for role in self.networks.values())

    def missing(self) -> list[str]:
        """What is not there, a sentence each."""
        return list(dict.fromkeys(role.missing for _, role in self.roles() if role.missing))

    def ambiguous(self) -> list[str]:
        """What cannot be told, a sentence each."""
        return list(dict.fromkeys(role.ambiguous for _, role in self.roles() if role.ambiguous))
