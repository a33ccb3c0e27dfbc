"""Gradescope's results.json (https://gradescope-autograders.readthedocs.io/en/latest/specs/), of one group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.claims import Claim
from reports.classroom import reasons
from reports.grades import Grade, Points
from reports.rubric import show
from reports.runfile import Verdict
from reports.text import one_line, plain

OUTPUT_LIMIT = 4_000  # characters of a test's output


def results(run: Mapping[str, Any], grade: Grade, claims: Mapping[str, Claim]) -> dict[str, Any]:
    """A test per claim of the rubric that counts, its score the points earned.

    Gradescope knows no open points: while there are any, nothing is shown to the students, and the
    output says between what and what the score can be.
    """
    why = reasons(run)
    open_ = grade.sum("open")
    said = [f"{show(grade.sum('earned'))} of {show(grade.counted)} points"]
    if open_:
        said.append(
            f"{show(open_)} points are open: what they stand for could not be told by this run. They are not "
            "lost; the instructor decides and publishes."
        )
    if out := grade.sum("excluded"):
        said.append(f"{show(out)} points were not examined and do not count")
    return {
        "score": float(grade.sum("earned")),
        "execution_time": round(float(run["seconds"])),
        "output": plain(". ".join(said), OUTPUT_LIMIT),
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": "hidden" if open_ else "after_published",
        "stdout_visibility": "hidden",
        "extra_data": {"run": str(run["run"]), "open_points": float(open_)},
        "tests": [
            _test(each, f"{number}.{place}", part.part.name.en, why.get(each.worth.claim, ""), claims)
            for number, part in enumerate(grade.parts, start=1)
            for place, each in enumerate(part.claims, start=1)
            if each.worth.points > each.excluded
        ],
    }


def _test(
    points: Points, number: str, objective: str, why: str, claims: Mapping[str, Claim]
) -> dict[str, Any]:
    claim = points.worth.claim
    words = claims[claim].text if claim in claims else ""
    lines = [why or str(points.verdict or "a check did not run")]
    if points.open:
        lines.append(f"{show(points.open)} points open, for the instructor to decide: {points.flag}")
    made: dict[str, Any] = {
        "score": float(points.earned),
        "max_score": float(points.worth.points - points.excluded),
        "name": one_line(f"{claim} {words}", 300),
        "number": number,
        "output": plain("\n".join(lines), OUTPUT_LIMIT),
        "tags": [one_line(objective, 100)],
        "visibility": "hidden" if points.open else "after_published",
        "extra_data": {"verdict": points.verdict},
    }
    if not points.open:
        made["status"] = "passed" if points.verdict == Verdict.PASS else "failed"
    return made
