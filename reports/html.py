"""The report of one run: the score, where it failed, then objective by objective, evidence one click off.

The same body goes into pytest-html's page and into a page made from the run file alone. Whatever comes from
a lab's machines goes through :func:`reports.text.plain` and is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports import matrix, svg
from reports.claims import objective
from reports.evidence import OUTPUT_SHOWN, evidence
from reports.grades import Grade, Points
from reports.markup import (
    SIGNS,
    anchor,
    badge,
    both,
    claim_words,
    document,
    moment,
    number,
    objective_name,
    script,
    seconds,
    style,
    text,
    tools,
    verdict_word,
)
from reports.runfile import Verdict
from reports.score import score
from reports.svg import clean_svg

__all__ = ["badge", "body", "clean_svg", "evidence", "overview", "page", "script", "seconds", "style", "text"]

SIZE_WANTED = 1_600_000  # bytes of evidence: with all else a page stays below 2 MB
_CUTS = ((OUTPUT_SHOWN, OUTPUT_SHOWN), (OUTPUT_SHOWN, 1_024), (4_096, 256), (1_024, 80), (200, 40))


def page(
    run: Mapping[str, Any],
    grade: Grade | None = None,
    *,
    group: str = "",
    lang: str = "",
    sections: Sequence[str] = (),
) -> str:
    """A whole page from a run file alone; see :func:`body`."""
    title = f"Labproof {group or 'report'} {run['run']}"
    return document(title, body(run, grade, group=group, sections=sections), lang=lang)


def body(
    run: Mapping[str, Any], grade: Grade | None = None, *, group: str = "", sections: Sequence[str] = ()
) -> str:
    """All of a report that is seen.

    Args:
        run: a run file's document.
        grade: the run's points, where it is graded.
        group: whose run it is.
        sections: more parts, as HTML, between the drawings and the objectives.
    """
    title = text(group, 100) if group else both("Labproof report", "Rapport Labproof")
    facts = [moment(run["started"]), both("took ", "durée ") + seconds(run["seconds"])]
    facts += [f"lab <b>{text(run['lab'], 100)}</b>"] if run["lab"] else []
    facts.append(f'<span class="lp-soft">{text(run["run"], 40)}</span>')
    skip = both("Skip to the objectives", "Aller aux objectifs")
    paper = both(
        "On paper: the evidence of what is not proven, long outputs cut. The page itself has all of it.",
        "Sur papier : les preuves de ce qui n'est pas prouvé, sorties longues coupées. La page a le tout.",
    )
    return (
        f'<a class="lp-jump" href="#lp-objectives">{skip}</a><main class="lp-report">'
        f'<header class="lp-head"><div><h1>{title}</h1><p class="lp-facts">{" · ".join(facts)}</p></div>{tools()}</header>'
        f"{overview(run, grade)}{_matrices(run)}{''.join(sections)}{_filters(run)}"
        f'<p class="lp-paper lp-soft">{paper}</p>'
        f'<div id="lp-objectives" tabindex="-1">{_objectives(run, grade)}</div>{_about(run)}</main>'
    )


def overview(run: Mapping[str, Any], grade: Grade | None = None) -> str:
    """The run at a glance: the score, the drawings with what failed marked on them, what is not proven."""
    return f"{score(run, grade)}{_left_behind(run)}{_drawings(run)}{_not_proven(run)}"


def _matrices(run: Mapping[str, Any]) -> str:
    """Who reaches whom, of each topology that stood."""
    tables = "".join(matrix.html(each) for each in run.get("matrices", ()))
    title = both("Who reaches whom", "Qui atteint qui")
    return f'<section class="lp-matrices"><h2>{title}</h2>{tables}</section>' if tables else ""


def _left_behind(run: Mapping[str, Any]) -> str:
    if not run["left_behind"]:
        return ""
    rows = "".join(
        f"<li>{text(_name(check_id), 300)}: <code>{text(what, 1_000)}</code></li>"
        for check_id, what in run["left_behind"].items()
    )
    title = both("This run left something behind", "Cette exécution a laissé quelque chose derrière elle")
    return f'<section class="lp-left"><h2>{title}</h2><ul>{rows}</ul></section>'


def _not_proven(run: Mapping[str, Any]) -> str:
    """Failed and unproven claims with the reason; those of which nothing can be told come as a list of ids."""
    reasons: dict[tuple[str, str], str] = {}
    for check in run["checks"]:
        for claim_id in check["claims"]:
            reasons.setdefault((claim_id, check["verdict"]), check["reason"])
    items, silent = [], []
    for claim_id in run["not_proven"]:
        claim = run["claims"].get(claim_id)
        if claim is None or claim["verdict"] not in (Verdict.FAIL, Verdict.UNPROVEN):
            silent.append(f'<a href="#{anchor(claim_id)}">{text(claim_id, 40)}</a>')
            continue
        reason = text(reasons.get((claim_id, claim["verdict"]), ""), 300)
        items.append(
            f'<li>{badge(claim["verdict"])} <div><a href="#{anchor(claim_id)}"><b>{text(claim_id, 40)}</b> '
            f"{claim_words(claim_id, claim['text'])}</a>"
            f'<div class="lp-reason lp-ink-{claim["verdict"]}">{reason}</div></div></li>'
        )
    if not items and not silent:
        return ""
    title = both("What is not proven", "Ce qui n'est pas prouvé")
    rest = both("Skipped or not run: ", "Ignorés ou pas exécutés : ")
    more = f'<p class="lp-soft">{rest}{", ".join(silent)}</p>' if silent else ""
    listed = f'<ul class="lp-faults">{"".join(items)}</ul>' if items else ""
    return f'<section class="lp-unmet"><h2>{title}</h2>{listed}{more}</section>'


def _drawings(run: Mapping[str, Any]) -> str:
    parsed = [(each["title"], svg.parse(each["svg"])) for each in run["drawings"]]
    topologies = [
        (title, svg.Drawing.of(root))
        for title, root in parsed
        if root is not None and "lp-topology" in root.get("class", "")
    ]
    others = [(t, r) for t, r in parsed if r is not None and "lp-topology" not in r.get("class", "")]
    anchors = {claim_id: anchor(claim_id) for check in run["checks"] for claim_id in check["claims"]}
    found = svg.marks([drawing for _, drawing in topologies], run["checks"])
    parts = []
    for (title, drawing), marks in zip(topologies, found, strict=True):
        svg.draw_marks(drawing, marks, anchors)
        parts.append(_figure(title, svg.write(drawing.root), _legend(marks)))
    parts += [_figure(title, svg.write(root), "") for title, root in others]
    if not parts:
        return ""
    head = both("The lab as it stood", "Le montage tel qu'il était")
    return f'<section class="lp-drawings"><h2>{head}</h2>{"".join(parts)}</section>'


def _figure(title: str, drawn: str, legend: str) -> str:
    return (
        f'<figure class="lp-drawing"><figcaption>{text(title, 200)}</figcaption>'
        f'<div class="lp-wide" tabindex="0" role="region" aria-label="{text(title, 200)}">{drawn}</div>{legend}</figure>'
    )


def _legend(marks: Sequence[svg.Mark]) -> str:
    rows = []
    for mark in marks:
        claims = ", ".join(f'<a href="#{anchor(c)}">{text(c, 40)}</a>' for c in mark.claims)
        rows.append(f"<li>{badge(mark.verdict)} <b>{text(mark.name, 100)}</b>: {claims}</li>")
    return f'<ul class="lp-legend">{"".join(rows)}</ul>' if rows else ""


def _filters(run: Mapping[str, Any]) -> str:
    present = [v for v in (*Verdict, None) if any(c["verdict"] == v for c in run["claims"].values())]
    boxes = "".join(
        f'<label class="lp-ink-{verdict or "skip"}"><input type="checkbox" data-show="{verdict or "none"}" checked> '
        f'<span aria-hidden="true">{SIGNS[verdict or "not run"]}</span> {verdict_word(verdict)}</label>'
        for verdict in present
    )
    shows = both("Claims shown", "Affirmations affichées")
    find = both("Search", "Chercher")
    every = both("Open / close all evidence", "Ouvrir / fermer toutes les preuves")
    keys = both(
        "<b>j</b> <b>k</b> next, previous check · <b>n</b> <b>p</b> next, previous not proven · <b>Enter</b> evidence · "
        "<b>e</b> all evidence · <b>/</b> search",
        "<b>j</b> <b>k</b> vérification suivante, précédente · <b>n</b> <b>p</b> suivante, précédente non prouvée · "
        "<b>Entrée</b> preuve · <b>e</b> toutes les preuves · <b>/</b> chercher",
    )
    switch = both("Keys on", "Touches actives")
    return (
        f'<form class="lp-filters" hidden><fieldset><legend class="lp-away">{shows}</legend>{boxes}</fieldset>'
        f'<label>{find} <input type="search" data-find autocomplete="off"></label>'
        f'<button type="button" data-do="all">{every}</button>'
        f"<details><summary>{both('Keyboard', 'Clavier')}</summary><p>{keys}</p>"
        f'<label><input type="checkbox" data-keys checked> {switch}</label></details>'
        f'<p class="lp-count" role="status"></p></form>'
    )


def _objectives(run: Mapping[str, Any], grade: Grade | None) -> str:
    points = {each.worth.claim: each for each in grade.claims} if grade else {}
    groups: dict[str, list[str]] = {}
    for claim_id, claim in run["claims"].items():
        groups.setdefault(objective(claim["objective"]).key, []).append(claim_id)
    order = sorted(groups, key=lambda key: objective(int(key.partition("/")[0])))
    shown = _Checks(run)
    parts = []
    for key in order:
        about = objective(int(key.partition("/")[0]))
        claims = "".join(_claim(run, claim_id, points.get(claim_id), shown) for claim_id in groups[key])
        worth = [points[each] for each in groups[key] if each in points]
        parts.append(
            f'<section class="lp-objective" aria-labelledby="lp-o-{about.order}">'
            f'<h2 id="lp-o-{about.order}"><span class="lp-key">{key}</span> {objective_name(about.name)}'
            f"{_worth(worth)}</h2>{_bar(run, groups[key])}{claims}</section>"
        )
    if rest := shown.rest():
        title = both("Other checks", "Autres vérifications")
        parts.append(f'<section class="lp-objective"><h2>{title}</h2>{rest}</section>')
    return "".join(parts)


def _worth(points: Sequence[Points]) -> str:
    if not points:
        return ""
    counted = sum((each.worth.points - each.excluded for each in points), start=points[0].worth.points * 0)
    if not counted:
        return f'<span class="lp-points">{both("not counted", "non compté")}</span>'
    earned, left = (sum((getattr(p, what) for p in points), counted * 0) for what in ("earned", "open"))
    more = f" · {both('open', 'en suspens')} {number(left)}" if left else ""
    return f'<span class="lp-points"><b>{number(earned)}</b> / {number(counted)}{more}</span>'


def _bar(run: Mapping[str, Any], claims: Sequence[str]) -> str:
    counts = [
        (verdict, sum(run["claims"][each]["verdict"] == verdict for each in claims))
        for verdict in (*Verdict, None)
    ]
    bar = "".join(f'<i class="lp-{v or "none"}" style="flex:{n}"></i>' for v, n in counts if n)
    said = " · ".join(
        f'<span class="lp-ink-{v or "skip"}">{n} {verdict_word(v)}</span>' for v, n in counts if n
    )
    return f'<div class="lp-bar" aria-hidden="true">{bar}</div><p class="lp-counts">{said}</p>'


class _Checks:
    """The checks of a run, each with its evidence told once: at the first of its claims."""

    def __init__(self, run: Mapping[str, Any]) -> None:
        self._of: dict[str, list[int]] = {}
        self._checks = run["checks"]
        for place, check in enumerate(self._checks):
            for claim_id in check["claims"]:
                self._of.setdefault(claim_id, []).append(place)
        self._told: dict[int, str] = {}
        self._cut = _cut(self._checks)

    def of(self, claim_id: str) -> Iterator[str]:
        for place in self._of.get(claim_id, ()):
            if place in self._told:
                title = _title(self._checks[place])
                also = both("told at", "voir")
                first = self._told[place]
                yield (
                    f'<p class="lp-also">{_sign(self._checks[place]["verdict"])} {title} '
                    f'<span class="lp-soft">{also} <a href="#lp-check-{place}">{text(first, 40)}</a></span></p>'
                )
                continue
            self._told[place] = claim_id
            yield self._check(place)

    def rest(self) -> str:
        return "".join(self._check(n) for n in range(len(self._checks)) if n not in self._told)

    def _check(self, place: int) -> str:
        check = self._checks[place]
        verdict = check["verdict"]
        bad, good = self._cut
        acts = f' <span class="lp-acts">{both("acts", "agit")}</span>' if check["acts"] else ""
        left = f' <span class="lp-badge lp-fail">{both("left something behind", "a laissé quelque chose")}</span>'
        reason = (
            f'<span class="lp-reason lp-ink-{verdict}">{text(check["reason"], 400)}</span>'
            if check["reason"] and verdict != Verdict.PASS
            else ""
        )
        where = ", ".join(text(each, 60) for each in check["where"][:4])
        return (
            f'<details class="lp-check" id="lp-check-{place}" data-v="{verdict}"><summary>{_sign(verdict)}'
            f'<span class="lp-what">{_title(check)}{acts}{left if check["left_behind"] else ""}{reason}</span>'
            f'<span class="lp-where">{where}</span><span class="lp-took">{seconds(check["seconds"])}</span></summary>'
            f"{evidence(check, good if verdict == Verdict.PASS else bad)}</details>"
        )


def _cut(checks: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """How much of an output is shown, of failed and of passed checks, for the page to be of a size to send."""
    for bad, good in _CUTS:
        size = sum(
            min(len(look["output"]), good if check["verdict"] == Verdict.PASS else bad)
            + min(len(look["command"]), 2_000)
            + 300
            for check in checks
            for look in check["observations"]
        )
        if size <= SIZE_WANTED:
            return bad, good
    return _CUTS[-1]


def _claim(run: Mapping[str, Any], claim_id: str, points: Points | None, checks: _Checks) -> str:
    claim = run["claims"][claim_id]
    told = "".join(checks.of(claim_id))
    flag = ""
    if points and points.flag:
        flag = f'<p class="lp-flag">{both("For the instructor to decide", "À décider par l’enseignant")}</p>'
    return (
        f'<article class="lp-claim" id="{anchor(claim_id)}" data-v="{claim["verdict"] or "none"}">'
        f'<h3>{badge(claim["verdict"])} <span><b class="lp-id">{text(claim_id, 40)}</b> '
        f"{claim_words(claim_id, claim['text'])}</span>{_worth([points]) if points else ''}</h3>{flag}{told}</article>"
    )


def _about(run: Mapping[str, Any]) -> str:
    parts = []
    if run["timings"]:
        rows = "".join(
            f'<tr><th scope="row">{text(each["step"], 200)}</th><td>{seconds(each["seconds"])}</td></tr>'
            for each in run["timings"]
        )
        title = both("Provisioning, step by step", "Mise en place, pas à pas")
        parts.append(f"<details><summary>{title}</summary><table>{rows}</table></details>")
    if run["facts"]:
        rows = "".join(
            f'<tr><th scope="row">{text(name, 100)}</th><td>{text(value, 500)}</td></tr>'
            for name, value in run["facts"].items()
        )
        title = both("About the lab", "À propos du montage")
        parts.append(f"<details><summary>{title}</summary><table>{rows}</table></details>")
    return f'<footer class="lp-about">{"".join(parts)}</footer>'


def _sign(verdict: str) -> str:
    word = f'<span class="lp-away">{verdict_word(verdict)}</span>'
    return f'<span class="lp-sign lp-ink-{verdict}"><span aria-hidden="true">{SIGNS.get(verdict, "")}</span>{word}</span>'


def _title(check: Mapping[str, Any]) -> str:
    """The check in words: its docstring's, or its name's, with the case that it was run for."""
    name = _name(check["id"]).rpartition("::")[2]
    case = f" [{name.partition('[')[2]}" if "[" in name else ""
    words = check["title"] or name.partition("[")[0].removeprefix("test_").replace("_", " ")
    return text(words, 300) + text(case, 100)


def _name(check_id: str) -> str:
    return check_id.removeprefix("suites/")
