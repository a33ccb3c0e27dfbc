"""How the things of a run are known on a cloud."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from provision.holdings import Holdings

MARK = "labproof"
RUN = re.compile(r"[a-z0-9]{1,24}")


class Whose(Protocol):
    """Which of a project's things are a topology's, and what they are called: those that a run has made
    (:class:`Mark`), or those that somebody else has built (:class:`provision.attach.view.Attached`).
    """

    @property
    def prefix(self) -> str:
        """What the names begin with before those of the topology."""

    @property
    def topology(self) -> str | None: ...

    def name(self, thing: str) -> str:
        """The name of one of the topology's things."""

    def description(self, thing: str = "") -> str:
        """What is written on one of the topology's things."""

    def owns(self, name: str, description: str = "", tags: Iterable[str] = ()) -> bool:
        """Whether a thing is to be looked at."""

    def owns_server(self, metadata: Mapping[str, str]) -> bool:
        """Whether a server is to be looked at."""

    def view(self, have: Holdings) -> Holdings:
        """What there is, under the names that it is looked at by."""


@dataclass(frozen=True)
class Mark:
    """How a run's things are known on a cloud: by their names, and by what is written on them.

    Args:
        run: small letters and digits only (no hyphen: run ``a``'s names must not begin those of ``a-b``).
        topology: None for all of the run's.
    """

    run: str
    topology: str | None = None

    def __post_init__(self) -> None:
        if not RUN.fullmatch(self.run):
            raise ValueError(f"run {self.run!r}: must be 1 to 24 small letters and digits")

    @property
    def prefix(self) -> str:
        return f"{MARK}-{self.run}-" + (f"{self.topology}-" if self.topology else "")

    def name(self, thing: str) -> str:
        return f"{self.prefix}{thing}"

    def description(self, thing: str = "") -> str:
        """For what has no name (floating IPs), and for what has no tags at the moment of its making."""
        return " ".join(filter(None, (f"{MARK}:{self.run}", self.topology, thing)))

    @property
    def tags(self) -> list[str]:
        return [MARK, f"{MARK}:{self.run}"]

    @property
    def metadata(self) -> dict[str, str]:
        """What is written on a server."""
        return {f"{MARK}_run": self.run, **({f"{MARK}_topology": self.topology} if self.topology else {})}

    def owns_server(self, metadata: Mapping[str, str]) -> bool:
        """Whether a server of this run is of the topology, if one is named."""
        return self.topology is None or metadata.get(f"{MARK}_topology") == self.topology

    def view(self, have: Holdings) -> Holdings:
        """What there is: its names are its marks, and stay."""
        return have

    def owns(self, name: str, description: str = "", tags: Iterable[str] = ()) -> bool:
        """Whether a thing is of this run, and of the topology if one is named."""
        words = (description or "").split()
        if words[:1] == [f"{MARK}:{self.run}"]:
            return self.topology is None or words[1:2] == [self.topology]
        if self.topology is not None:
            # Without a description there is only the name to go by, and "two-" begins "two-networks-" too.
            return False
        return (
            name.startswith(self.prefix)
            or (description or "").startswith(self.prefix)
            or f"{MARK}:{self.run}" in tags
        )
