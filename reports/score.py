"""The top of a report: what was reached, as a figure, a ring and the counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from reports.grades import Grade
from reports.markup import SIGNS, both, number, text, verdict_word
from reports.runfile import Verdict

_AROUND = 2 * 3.14159265 * 54  # of the ring


def score(run: Mapping[str, Any], grade: Grade | None) -> str:
    """The score of a run: points where it is graded, else claims proven."""
    figure, words, shares = _graded(grade) if grade else _proven(run)
    counts = run["summary"]["verdicts"]
    tiles = "".join(
        f'<li class="lp-tile lp-{verdict}"><b>{counts[verdict]}</b> '
        f'<span><span aria-hidden="true">{SIGNS[verdict]}</span> {verdict_word(verdict)}</span></li>'
        for verdict in Verdict
        if counts[verdict] or verdict is not Verdict.SKIP
    )
    not_run = run["planned"] - len(run["checks"])
    cut = (
        both(
            f"{not_run} of {run['planned']} checks did not run.",
            f"{not_run} des {run['planned']} vérifications n'ont pas été exécutées.",
        )
        if not_run > 0
        else ""
    )
    title = both("Score", "Résultat")
    checks = both("Checks", "Vérifications")
    return (
        f'<section class="lp-score"><h2 class="lp-away">{title}</h2>{_ring(shares)}'
        f'<div class="lp-figure"><p class="lp-big">{figure}</p><p>{words}</p>'
        f"{f'<p class=lp-warn>{cut}</p>' if cut else ''}</div>"
        f'<div class="lp-tally"><h3>{checks}</h3><ul class="lp-tiles">{tiles}</ul></div></section>'
    )


def grade_range(grade: Grade) -> str:
    """The grade, or from where to where it can be while points are open."""
    if grade.lowest is None or grade.highest is None:
        return "–"
    if grade.final is not None:
        return number(grade.final)
    return f"{number(grade.lowest)} … {number(grade.highest)}"


def _graded(grade: Grade) -> tuple[str, str, Sequence[tuple[str, float]]]:
    earned, counted, left, out = (
        number(each)
        for each in (grade.sum("earned"), grade.counted, grade.sum("open"), grade.sum("excluded"))
    )
    figure = f"<b>{grade_range(grade)}</b> / {number(grade.rubric.out_of)}"
    words = [both(f"{earned} of {counted} points", f"{earned} points sur {counted}")]
    if grade.sum("open"):
        words.append(
            both(
                f"<b>{left} open</b>: not told by this run, the instructor decides",
                f"<b>{left} en suspens</b> : cette exécution ne tranche pas, l'enseignant décide",
            )
        )
    if grade.sum("excluded"):
        words.append(both(f"{out} not examined and not counted", f"{out} non examinés, non comptés"))
    words.append(
        f'<span class="lp-soft">{both(text(grade.rubric.title.en, 200), text(grade.rubric.title.fr, 200))}</span>'
    )
    whole = grade.counted or Fraction(1)
    shares = [
        (kind, float(grade.sum(what) / whole))
        for kind, what in (("pass", "earned"), ("unproven", "open"), ("fail", "lost"))
    ]
    return figure, "<br>".join(words), shares


def _proven(run: Mapping[str, Any]) -> tuple[str, str, Sequence[tuple[str, float]]]:
    verdicts = [claim["verdict"] for claim in run["claims"].values()]
    proven = verdicts.count(Verdict.PASS)
    figure = f"<b>{proven}</b> / {len(verdicts)}"
    words = both("claims proven", "affirmations prouvées")
    whole = len(verdicts) or 1
    return figure, words, [(str(v), verdicts.count(v) / whole) for v in Verdict]


def _ring(shares: Sequence[tuple[str, float]]) -> str:
    parts, begun = [], 0.0
    for kind, share in shares:
        if share <= 0:
            continue
        gap = 1.5 if share < 1 else 0.0
        parts.append(
            f'<circle class="lp-arc-{kind}" r="54" cx="64" cy="64" stroke-dasharray="{max(share * _AROUND - gap, 0.5):.2f} '
            f'{_AROUND:.2f}" stroke-dashoffset="{-begun * _AROUND:.2f}"/>'
        )
        begun += share
    return (
        '<svg class="lp-ring" viewBox="0 0 128 128" aria-hidden="true"><g transform="rotate(-90 64 64)">'
        f'<circle class="lp-arc" r="54" cx="64" cy="64"/>{"".join(parts)}</g></svg>'
    )
