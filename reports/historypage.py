"""Pages of runs over time: two compared, and the trend of the last of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from reports.history import Change, Series, compare, series
from reports.markup import SIGNS, badge, both, claim_words, document, moment, text, tools, verdict_word
from reports.runfile import Verdict

_KINDS = {
    "broken": ("Broken", "Cassé"),
    "no longer told": ("No longer told", "Plus établi"),
    "gone": ("No longer in the run", "Plus dans l'exécution"),
    "mended": ("Mended", "Réparé"),
    "told again": ("Told again", "De nouveau établi"),
    "new": ("New in the run", "Nouveau dans l'exécution"),
    "other": ("Otherwise changed", "Changé autrement"),
}
_LETTERS = {Verdict.PASS: "p", Verdict.FAIL: "f", Verdict.UNPROVEN: "u"}


def comparison(before: Mapping[str, Any], after: Mapping[str, Any], *, lang: str = "") -> str:
    """A page of what changed from one run to another, per claim."""
    changes = compare(before, after)
    title = both("Two runs compared", "Deux exécutions comparées")
    parts = []
    for kind, each in groupby(changes, key=lambda change: change.kind):
        rows = "".join(map(_change, each))
        parts.append(f'<h2>{both(*_KINDS[kind])}</h2><ul class="lp-faults lp-changes">{rows}</ul>')
    if not changes:
        parts.append(f"<p>{both('No verdict changed.', 'Aucun verdict n’a changé.')}</p>")
    same = len(set(before["claims"]) | set(after["claims"])) - len(changes)
    facts = f"{_run(before)} → {_run(after)} · " + both(
        f"{same} claims unchanged", f"{same} affirmations inchangées"
    )
    return _page(title, "Labproof: two runs compared", facts, "".join(parts), lang)


def trend(runs: Sequence[Mapping[str, Any]], problems: Sequence[str] = (), *, lang: str = "") -> str:
    """A page of the last runs: how many claims held, which ones flap, and each one's way."""
    rows = series(runs)
    flapping = [each for each in rows if each.flaps]
    changed = [each for each in rows if not each.flaps and len(set(each.verdicts)) > 1]
    steady = [each for each in rows if len(set(each.verdicts)) == 1]
    parts = [_chart(runs)]
    if problems:
        parts.append(
            '<ul class="lp-warn">' + "".join(f"<li>{text(each, 300)}</li>" for each in problems) + "</ul>"
        )
    for en, fr, group in (
        ("Flapping", "Instables", flapping),
        ("Changed once", "Changé une fois", changed),
        ("Steady", "Stables", steady),
    ):
        table = _table(group, runs)
        if en == "Steady":
            fold = both(f"{len(group)} claims", f"{len(group)} affirmations")
            table = f"<details><summary>{fold}</summary>{table}</details>"
        none = f"<p>{both('None.', 'Aucune.')}</p>"
        parts.append(f"<section><h2>{both(en, fr)}</h2>{table if group else none}</section>")
    title = both("Trend", "Tendance")
    facts = both(f"the last {len(runs)} runs", f"les {len(runs)} dernières exécutions")
    facts += f" · {_run(runs[0])} → {_run(runs[-1])}"
    return _page(title, "Labproof: trend", facts, "".join(parts), lang)


def _page(title: str, plain_title: str, facts: str, body: str, lang: str) -> str:
    return document(
        plain_title,
        f'<main class="lp-report"><header class="lp-head"><div><h1>{title}</h1>'
        f'<p class="lp-facts">{facts}</p></div>{tools()}</header>{body}</main>',
        lang=lang,
    )


def _run(run: Mapping[str, Any]) -> str:
    return f'{moment(run["started"])} <span class="lp-soft">({text(run["run"], 40)})</span>'


def _change(change: Change) -> str:
    before, after = (_badge(each) for each in (change.before, change.after))
    reason = f'<div class="lp-soft">{text(change.reason, 300)}</div>' if change.reason else ""
    return (
        f'<li><span class="lp-turn">{before} <span aria-hidden="true">→</span> {after}</span>'
        f"<div><b>{text(change.claim, 40)}</b> {claim_words(change.claim, change.text)}{reason}</div></li>"
    )


def _badge(verdict: str | None) -> str:
    if verdict == "absent":
        return f'<span class="lp-badge lp-skip">{both("absent", "absent")}</span>'
    return badge(verdict)


def _chart(runs: Sequence[Mapping[str, Any]]) -> str:
    """A stacked column of claims per run."""
    counts = []
    for run in runs:
        verdicts = [claim["verdict"] for claim in run["claims"].values()]
        told = {kind: verdicts.count(kind) for kind in (Verdict.PASS, Verdict.FAIL, Verdict.UNPROVEN)}
        counts.append({**told, Verdict.SKIP: len(verdicts) - sum(told.values())})
    most = max((sum(each.values()) for each in counts), default=0) or 1
    width, high = 44, 150
    parts = []
    for place, (run, each) in enumerate(zip(runs, counts, strict=True)):
        x, y = place * width, 20.0 + high
        for verdict, count in each.items():
            tall = high * count / most
            y -= tall
            if count:
                parts.append(
                    f'<rect class="lp-{verdict}" x="{x + 4}" y="{y:.1f}" width="{width - 8}" height="{tall:.1f}"/>'
                )
        parts.append(
            f'<text class="lp-value" x="{x + width / 2}" y="14" text-anchor="middle">{each[Verdict.PASS]}</text>'
        )
        day = text(f"{run['started'][8:10]}/{run['started'][5:7]}", 5)
        parts.append(f'<text x="{x + width / 2}" y="{high + 36}" text-anchor="middle">{day}</text>')
    said = both(
        "Claims per run, by verdict; the figure is how many were proven.",
        "Affirmations par exécution, selon le verdict ; le chiffre est celui des prouvées.",
    )
    wide = width * len(runs)
    size = f'style="max-width:{max(wide, 200)}px" viewBox="0 0 {wide} {high + 44}"'
    return (
        f'<figure class="lp-drawing"><svg class="lp-chart" {size} aria-hidden="true">'
        f'{"".join(parts)}</svg><figcaption class="lp-soft">{said}</figcaption></figure>'
    )


def _table(rows: Sequence[Series], runs: Sequence[Mapping[str, Any]]) -> str:
    body = "".join(
        f'<tr><th scope="row"><span class="lp-id">{text(each.claim, 40)}</span></th>'
        f"<td>{claim_words(each.claim, each.text)}"
        f"{f'<div class=lp-soft>{text(each.reason, 200)}</div>' if each.reason else ''}</td>"
        f'<td class="lp-n">{each.turns}</td><td>{_strip(each, runs)}</td></tr>'
        for each in rows
    )
    heads = "".join(
        f'<th scope="col"{kind}>{words}</th>'
        for kind, words in (
            ("", both("Claim", "Affirmation")),
            ("", both("What it states", "Ce qu'elle dit")),
            (' class="lp-n"', both("Turns", "Bascules")),
            ("", both("Oldest to newest", "De la plus ancienne à la plus récente")),
        )
    )
    return f'<table class="lp-table lp-ways"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _strip(row: Series, runs: Sequence[Mapping[str, Any]]) -> str:
    cells = []
    for verdict, run in zip(row.verdicts, runs, strict=True):
        kind = _LETTERS.get(Verdict(verdict), "s") if verdict in list(Verdict) else "s"
        sign = SIGNS.get(verdict or "not run", "")
        word = verdict_word(verdict) if verdict != "absent" else both("absent", "absent")
        cells.append(
            f'<span class="{kind}" title="{text(run["started"], 40)}"><span aria-hidden="true">{sign}</span>'
            f'<span class="lp-away">{word}</span></span>'
        )
    return f'<span class="lp-strip">{"".join(cells)}</span>'
