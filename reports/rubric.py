"""Rubrics: how many points each claim is worth, read from a TOML file.

Points are exact fractions: what adds up on paper adds up here. Late and bonus rules are the LMS's.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from reports.claims import Claim
from reports.claims import load as load_claims
from reports.text import plain
from reports.tomllines import Path as Place
from reports.tomllines import lines_of

RUBRICS = Path(__file__).with_name("rubrics")
DEFAULT = "lab"
SIZE_LIMIT = 1024 * 1024  # bytes of a rubric file

PARTIAL = ("none", "checks")
UNPROVEN = ("open", "excluded", "full")
NOT_EXAMINED = ("excluded", "open")

_KEYS = ("title", "points", "out_of", "round_to", "unproven", "not_examined", "partial", "objective")
_OBJECTIVE_KEYS = ("name", "points", "partial", "claims")
_CLAIM_KEYS = ("points", "partial")
_LMS = ("late", "bonus", "penalty", "malus", "deadline", "extra")


class RubricError(Exception):
    """A rubric is refused.

    Attributes:
        problems: everything that is wrong with it, a line each: ``file: line 12: key: reason``.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = [" ".join(plain(problem, 600).split("\n")) for problem in problems]
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Name:
    """What something is called, in English and in French."""

    en: str
    fr: str


@dataclass(frozen=True)
class Worth:
    """What a claim is worth.

    Attributes:
        claim: its id.
        points: all that can be had for it.
        partial: ``none`` gives the points when all of the claim's checks pass, ``checks`` gives each of
            them an equal share.
    """

    claim: str
    points: Fraction
    partial: str = "none"


@dataclass(frozen=True)
class Part:
    """An objective of the rubric, with its claims in the file's order."""

    name: Name
    points: Fraction
    claims: tuple[Worth, ...]


@dataclass(frozen=True)
class Rubric:
    """A course's way from claims to points.

    Attributes:
        points: the sum over the objectives.
        out_of: the scale of the grade that is handed out; the points themselves unless the file says so.
        round_to: the step that the grade is rounded to, half up.
        unproven: what a check that could not be made does to its points: ``open`` (neither given nor lost
            until the instructor decides), ``excluded`` (the grade is of the rest) or ``full``. Whichever,
            it is flagged; it never counts as zero.
        not_examined: the same for a claim that the run was not to look at, or whose part the lab does not
            have: ``excluded`` or ``open``.
        source: the file.
    """

    title: Name
    points: Fraction
    parts: tuple[Part, ...]
    out_of: Fraction
    round_to: Fraction = Fraction(1, 100)
    unproven: str = "open"
    not_examined: str = "excluded"
    source: Path | None = None

    @property
    def claims(self) -> tuple[str, ...]:
        return tuple(worth.claim for part in self.parts for worth in part.claims)


def load(rubric: str | Path = DEFAULT, claims: Mapping[str, Claim] | None = None) -> Rubric:
    """Reads a rubric.

    Args:
        rubric: a file, or the name of one that ships (``reports/rubrics/NAME.toml``).
        claims: those that there are; by default ``suites/claims.toml``.

    Raises:
        RubricError: it cannot be read, or anything in it is wrong; names every problem with its line.
    """
    path = _find(rubric)
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise RubricError([f"{path}: more than {SIZE_LIMIT} bytes; that is no rubric"])
        content = path.read_text(encoding="utf-8")
        document = tomllib.loads(content, parse_float=Decimal)
    except (OSError, ValueError, RecursionError) as error:
        raise RubricError([f"{path}: cannot be read: {error}"]) from error
    reader = _Reader(path, content, load_claims() if claims is None else claims)
    made = reader.rubric(document)
    if reader.problems or made is None:
        raise RubricError(reader.in_order())
    return made


def _find(rubric: str | Path) -> Path:
    if isinstance(rubric, str) and "/" not in rubric and not rubric.endswith(".toml"):
        shipped = sorted(each.stem for each in RUBRICS.glob("*.toml"))
        if rubric in shipped:
            return RUBRICS / f"{rubric}.toml"
        raise RubricError(
            [f"{rubric}: no rubric of that name ships (there are: {', '.join(shipped)}); name a .toml file"]
        )
    return Path(rubric)


class _Reader:
    """Makes a rubric of a document, and collects what is wrong with it."""

    def __init__(self, path: Path, content: str, claims: Mapping[str, Claim]) -> None:
        self.path = path
        self.claims = claims
        self.problems: list[tuple[int, str]] = []
        self._content = content
        self._lines: dict[Place, int] | None = None

    def in_order(self) -> list[str]:
        return [text for _, text in sorted(self.problems, key=lambda each: each[0])]

    def wrong(self, place: Place, reason: str) -> None:
        if self._lines is None:
            self._lines = lines_of(self._content)
        key = place
        while key and key not in self._lines:
            key = key[:-1]
        line = self._lines.get(key, 1)
        shown = ".".join(str(each + 1) if isinstance(each, int) else each for each in place) or "rubric"
        self.problems.append((line, f"{self.path}: line {line}: {shown}: {reason}"))

    def rubric(self, document: dict[str, Any]) -> Rubric | None:
        self._unknown(document, _KEYS, ())
        objectives = document.get("objective", [])
        if not isinstance(objectives, list) or not objectives:
            self.wrong(
                ("objective",) if "objective" in document else (), "no [[objective]] in it: nothing to grade"
            )
            return None
        partial = self._one_of(document, "partial", PARTIAL, (), "none")
        parts = [self._part(each, ("objective", n), partial) for n, each in enumerate(objectives)]
        self._twice(parts)
        total = self._points(document, "points", ())
        summed = sum((part.points for part in parts), Fraction())
        if total is not None and not self.problems and summed != total:
            self.wrong(("points",), f"is {show(total)}, but the objectives' points add up to {show(summed)}")
        total = summed if total is None else total
        out_of = self._positive(document, "out_of", total)
        return Rubric(
            title=self._name(document, "title", (), "Grades"),
            points=total,
            parts=tuple(parts),
            out_of=out_of,
            round_to=self._positive(document, "round_to", Fraction(1, 100)),
            unproven=self._one_of(document, "unproven", UNPROVEN, (), "open"),
            not_examined=self._one_of(document, "not_examined", NOT_EXAMINED, (), "excluded"),
            source=self.path,
        )

    def _part(self, entry: Any, place: Place, partial: str) -> Part:
        if not isinstance(entry, dict):
            self.wrong(place, "is no table; write [[objective]]")
            return Part(Name("?", "?"), Fraction(), ())
        self._unknown(entry, _OBJECTIVE_KEYS, place)
        if "name" not in entry:
            self.wrong(place, "has no name")
        name = self._name(entry, "name", place, "?")
        partial = self._one_of(entry, "partial", PARTIAL, place, partial)
        listed = entry.get("claims")
        if not isinstance(listed, dict) or not listed:
            self.wrong((*place, "claims"), "lists no claims; write [objective.claims], below it OS-05 = 2")
            listed = {}
        claims = tuple(self._worth(c, v, (*place, "claims", c), partial) for c, v in listed.items())
        summed = sum((worth.points for worth in claims), Fraction())
        points = self._points(entry, "points", place)
        if points is not None and listed and points != summed:
            self.wrong(
                (*place, "points"), f"is {show(points)}, but its claims' points add up to {show(summed)}"
            )
        return Part(name, summed if points is None else points, claims)

    def _worth(self, claim: str, value: Any, place: Place, partial: str) -> Worth:
        if claim not in self.claims:
            near = difflib.get_close_matches(claim.upper(), self.claims, n=1)
            hint = f"; {near[0]}?" if near else ""
            self.wrong(place, f"unknown claim{hint} (the ids are in suites/claims.toml)")
        if not isinstance(value, dict):
            value = {"points": value}
            return Worth(claim, self._points(value, "points", place, inline=True) or Fraction(), partial)
        self._unknown(value, _CLAIM_KEYS, place)
        points = self._points(value, "points", place)
        return Worth(claim, points or Fraction(), self._one_of(value, "partial", PARTIAL, place, partial))

    def _twice(self, parts: list[Part]) -> None:
        seen: dict[str, int] = {}
        for number, part in enumerate(parts):
            for worth in part.claims:
                if worth.claim in seen:
                    self.wrong(
                        ("objective", number, "claims", worth.claim),
                        f"is graded in objective {seen[worth.claim] + 1} already; it would count twice",
                    )
                seen.setdefault(worth.claim, number)

    def _points(
        self, table: dict[str, Any], key: str, place: Place, *, inline: bool = False
    ) -> Fraction | None:
        where = place if inline else (*place, key)
        if key not in table:
            self.wrong(place, f"has no {key}")
            return None
        value = _number(table[key])
        if value is None or value < 0:
            self.wrong(where, f"{_shown(table[key])} is no number of points (0 or more)")
            return None
        return value

    def _positive(self, table: dict[str, Any], key: str, otherwise: Fraction) -> Fraction:
        if key not in table:
            return otherwise
        value = _number(table[key])
        if value is None or value <= 0:
            self.wrong((key,), f"{_shown(table[key])} is no number above 0")
            return otherwise
        return value

    def _one_of(
        self, table: dict[str, Any], key: str, allowed: tuple[str, ...], place: Place, otherwise: str
    ) -> str:
        value = table.get(key, otherwise)
        if value in allowed:
            return str(value)
        never = "; a check that could not be made is never zero by itself" if "full" in allowed else ""
        self.wrong((*place, key), f"{_shown(value)} is none of {', '.join(allowed)}{never}")
        return otherwise

    def _name(self, table: dict[str, Any], key: str, place: Place, otherwise: str) -> Name:
        value = table.get(key, otherwise)
        if isinstance(value, str) and value.strip():
            return Name(value, value)
        if isinstance(value, dict) and set(value) == {"en", "fr"} and all(map(_says, value.values())):
            return Name(value["en"], value["fr"])
        self.wrong((*place, key), 'is neither a text nor { en = "...", fr = "..." }')
        return Name(otherwise, otherwise)

    def _unknown(self, table: dict[str, Any], known: tuple[str, ...], place: Place) -> None:
        for key in table:
            if key in known:
                continue
            if any(word in key.lower() for word in _LMS):
                reason = "late and bonus rules are left to the LMS"
            else:
                reason = f"unknown key; there are {', '.join(known)}"
            self.wrong((*place, key), reason)


def _says(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _number(value: Any) -> Fraction | None:
    if isinstance(value, Decimal):
        return Fraction(value) if value.is_finite() and abs(value.adjusted()) <= 9 else None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**9:
        return Fraction(value)
    return None


def _shown(value: Any) -> str:
    text = repr(str(value) if isinstance(value, Decimal) else value)
    return text if len(text) <= 60 else text[:59] + "…"


def show(points: Fraction) -> str:
    """Points as people write them: ``2``, ``0.5``, ``3.33``."""
    return str(points.numerator) if points.denominator == 1 else f"{float(round(points, 2)):g}"
