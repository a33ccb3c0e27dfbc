"""From a run to points, by a rubric: each claim's points are earned, lost, open, or not counted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from reports.rubric import Part, Rubric, Worth
from reports.runfile import Verdict
from reports.text import one_line

_DECISIVE = (Verdict.PASS, Verdict.FAIL, Verdict.UNPROVEN)


@dataclass(frozen=True)
class Points:
    """What a run makes of one claim's points; what is not earned, open or excluded is lost.

    Attributes:
        verdict: the claim's in the run; None where a check of it did not run, and ``absent`` where the run
            was not to look at it.
        flag: why the instructor should look; empty where nothing is to be decided.
        passed, counted: of the claim's checks, those that passed and those that said anything.
    """

    worth: Worth
    verdict: str | None
    earned: Fraction = Fraction()
    open: Fraction = Fraction()
    excluded: Fraction = Fraction()
    flag: str = ""
    passed: int = 0
    counted: int = 0

    @property
    def lost(self) -> Fraction:
        return self.worth.points - self.earned - self.open - self.excluded


@dataclass(frozen=True)
class PartGrade:
    part: Part
    claims: tuple[Points, ...]

    def sum(self, what: str) -> Fraction:
        return _sum(self.claims, what)


@dataclass(frozen=True)
class Grade:
    """A run's points by a rubric.

    Attributes:
        run: the run's name.
        parts: the rubric's objectives with the run's points.
    """

    run: str
    rubric: Rubric
    parts: tuple[PartGrade, ...]

    @property
    def claims(self) -> tuple[Points, ...]:
        return tuple(each for part in self.parts for each in part.claims)

    def sum(self, what: str) -> Fraction:
        """``earned``, ``open``, ``excluded`` or ``lost`` points, over all claims."""
        return _sum(self.claims, what)

    @property
    def counted(self) -> Fraction:
        """The points that this run could earn or lose, or that are open."""
        return self.rubric.points - self.sum("excluded")

    @property
    def lowest(self) -> Fraction | None:
        """The grade if all that is open were lost; None where nothing was examined."""
        return self._scaled(self.sum("earned"))

    @property
    def highest(self) -> Fraction | None:
        """The grade if all that is open were given."""
        return self._scaled(self.sum("earned") + self.sum("open"))

    @property
    def final(self) -> Fraction | None:
        """The grade, once nothing is open; None before: no claim that is unproven counts as a zero."""
        return None if self.sum("open") else self.lowest

    @property
    def flagged(self) -> tuple[Points, ...]:
        return tuple(each for each in self.claims if each.flag)

    def _scaled(self, points: Fraction) -> Fraction | None:
        if not self.counted:
            return None
        return rounded(points / self.counted * self.rubric.out_of, self.rubric.round_to)

    def as_json(self) -> dict[str, Any]:
        """Numbers for other programs; ``grade`` is null while points are open."""
        return {
            "run": self.run,
            "rubric": self.rubric.title.en,
            "grade": _float(self.final),
            "lowest": _float(self.lowest),
            "highest": _float(self.highest),
            "out_of": float(self.rubric.out_of),
            "points": {
                "all": float(self.rubric.points),
                **{what: float(self.sum(what)) for what in ("earned", "lost", "open", "excluded")},
            },
            "objectives": [
                {
                    "name": part.part.name.en,
                    "points": float(part.part.points),
                    **{what: float(part.sum(what)) for what in ("earned", "lost", "open", "excluded")},
                    "claims": [_claim_json(each) for each in part.claims],
                }
                for part in self.parts
            ],
        }


def grade(run: Mapping[str, Any], rubric: Rubric) -> Grade:
    """Grades a run file's document."""
    checks: dict[str, list[Mapping[str, Any]]] = {}
    for check in run["checks"]:
        for claim in check["claims"]:
            checks.setdefault(claim, []).append(check)
    return Grade(
        str(run["run"]),
        rubric,
        tuple(
            PartGrade(part, tuple(_points(run, rubric, w, checks.get(w.claim, [])) for w in part.claims))
            for part in rubric.parts
        ),
    )


def rounded(value: Fraction, step: Fraction) -> Fraction:
    """``value`` to the nearest multiple of ``step``, half up as grades are."""
    return math.floor(value / step + Fraction(1, 2)) * step


def _points(
    run: Mapping[str, Any], rubric: Rubric, worth: Worth, checks: Sequence[Mapping[str, Any]]
) -> Points:
    claim = run["claims"].get(worth.claim)
    verdict = claim["verdict"] if claim else "absent"
    if verdict in ("absent", Verdict.SKIP):
        why = "not in this run" if verdict == "absent" else _reason(checks, Verdict.SKIP)
        return _set_aside(worth, verdict, rubric.not_examined, worth.points, why)
    said = [each["verdict"] for each in checks if each["verdict"] in _DECISIVE]
    passed, counted = said.count(Verdict.PASS), len(said)
    if verdict is None:
        return _set_aside(worth, None, rubric.unproven, worth.points, "a check did not run", passed, counted)
    unproven = said.count(Verdict.UNPROVEN)
    if worth.partial == "checks" and counted:
        share = worth.points / counted
        if not unproven:
            return Points(worth, verdict, share * passed, passed=passed, counted=counted)
        aside = _set_aside(
            worth,
            verdict,
            rubric.unproven,
            share * unproven,
            _reason(checks, Verdict.UNPROVEN),
            passed,
            counted,
        )
        return Points(
            worth,
            verdict,
            aside.earned + share * passed,
            aside.open,
            aside.excluded,
            aside.flag,
            passed,
            counted,
        )
    if verdict == Verdict.UNPROVEN:
        why = _reason(checks, Verdict.UNPROVEN)
        return _set_aside(worth, verdict, rubric.unproven, worth.points, why, passed, counted)
    earned = worth.points if verdict == Verdict.PASS else Fraction()
    return Points(worth, verdict, earned, passed=passed, counted=counted)


def _set_aside(
    worth: Worth,
    verdict: str | None,
    rule: str,
    points: Fraction,
    why: str,
    passed: int = 0,
    counted: int = 0,
) -> Points:
    """Points that no verdict gives or takes: what becomes of them is the rubric's rule."""
    kind = {"open": "open", "excluded": "excluded", "full": "earned"}[rule]
    flag = why if verdict not in ("absent", Verdict.SKIP) or rule == "open" else ""
    return Points(worth, verdict, **{kind: points}, flag=flag, passed=passed, counted=counted)


def _reason(checks: Sequence[Mapping[str, Any]], verdict: Verdict) -> str:
    reasons = (one_line(str(each["reason"]), 200) for each in checks if each["verdict"] == verdict)
    return next(filter(None, reasons), f"{verdict}, no reason given")


def _sum(claims: Sequence[Points], what: str) -> Fraction:
    return sum((getattr(each, what) for each in claims), Fraction())


def _float(value: Fraction | None) -> float | None:
    return None if value is None else float(value)


def _claim_json(points: Points) -> dict[str, Any]:
    return {
        "claim": points.worth.claim,
        "verdict": points.verdict,
        "points": float(points.worth.points),
        **{what: float(getattr(points, what)) for what in ("earned", "lost", "open", "excluded")},
        "flag": points.flag,
    }
