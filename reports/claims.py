"""The observations that a check can prove, read from ``suites/claims.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CLAIMS_FILE = Path(__file__).resolve().parent.parent / "suites" / "claims.toml"

# The lab's handout counts objectives that its reports answer together; they are told together too.
_GROUPS: tuple[tuple[tuple[int, ...], str], ...] = (
    ((2, 3), "VM against container"),
    ((4,), "NAT VM"),
    ((5,), "Docker"),
    ((6,), "OpenStack, one VM"),
    ((7,), "Management operations"),
    ((8,), "Client and API"),
    ((9,), "Calculator"),
    ((10, 11), "Two networks"),
    ((12,), "Kubernetes"),
)


class ClaimsError(Exception):
    """The list of claims cannot be used; the text names the file, the claim and the reason."""


@dataclass(frozen=True)
class Claim:
    """One observation of the lab reports.

    Attributes:
        id: stable for ever, such as ``OS-05``.
        objective: number of the objective in the lab's handout.
        text: what a healthy lab shows.
        sources: the reports that state it; ``own`` for what none of them states.
    """

    id: str
    objective: int
    text: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, order=True)
class Objective:
    """One or more objectives of the handout that are told as one."""

    order: int
    key: str
    name: str

    def __str__(self) -> str:
        return f"{self.key} {self.name}"


def objective(number: int) -> Objective:
    """The group that an objective's number belongs to; an unknown number is a group of its own."""
    for order, (numbers, name) in enumerate(_GROUPS):
        if number in numbers:
            return Objective(order, "/".join(map(str, numbers)), name)
    return Objective(len(_GROUPS) + number, str(number), f"Objective {number}")


def objectives_of(claims: Iterable[Claim]) -> list[Objective]:
    return sorted({objective(claim.objective) for claim in claims})


@cache
def load(path: Path = CLAIMS_FILE) -> dict[str, Claim]:
    """All claims by id, in the file's order.

    Raises:
        ClaimsError: unreadable, a key missing or of the wrong type, or an id given twice.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ClaimsError(f"{path}: cannot be read: {error}") from error
    claims: dict[str, Claim] = {}
    for number, entry in enumerate(document.get("claim", []), start=1):
        try:
            claim = Claim(
                str(entry["id"]), int(entry["objective"]), str(entry["text"]), tuple(entry.get("from", ()))
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ClaimsError(f"{path}: claim no. {number}: {type(error).__name__}: {error}") from error
        if claim.id in claims:
            raise ClaimsError(f"{path}: claim no. {number}: id {claim.id} is there already")
        claims[claim.id] = claim
    if not claims:
        raise ClaimsError(f"{path}: no [[claim]] in it")
    return claims
