"""A run file's parts as HTML: for pytest-html's page, and for a page made from the run file alone.

Whatever comes from a lab's machines goes through :func:`reports.text.plain` and is escaped here.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from reports import matrix
from reports.runfile import Verdict
from reports.text import plain

OUTPUT_SHOWN = 8_192  # characters of one output that the page shows; the run file has more

_SIGNS = {Verdict.PASS: "✓", Verdict.FAIL: "✗", Verdict.UNPROVEN: "?", Verdict.SKIP: "–"}
_SVG = "{http://www.w3.org/2000/svg}"
_SVG_TAGS = {"svg", "g", "title", "desc", "style", "rect", "line", "path", "circle", "text", "tspan"}


@cache
def style() -> str:
    return f"<style>{Path(__file__).with_name('report.css').read_text(encoding='utf-8')}</style>"


def text(value: object, limit: int = 2_000) -> str:
    return escape(plain(str(value), limit))


def seconds(value: float) -> str:
    if value < 100:
        return f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60:02d} s"


def badge(verdict: str) -> str:
    sign = _SIGNS.get(Verdict(verdict), "") if verdict in list(Verdict) else ""
    return f'<span class="lp-badge lp-{text(verdict)}">{sign} {text(verdict)}</span>'


def row(verdict: str, what: str, where: Sequence[str], took: float) -> list[str]:
    """The cells of a check's row but the first; ``what`` is HTML already."""
    hosts = ", ".join(text(each, 80) for each in where) or "–"
    return [
        f'<td class="col-verdict">{badge(verdict)}</td>',
        f'<td class="col-claim">{_flat(what)}</td>',
        f'<td class="lp-where">{_flat(hosts)}</td>',
        f'<td class="col-duration">{seconds(took)}</td>',
    ]


def claim_cell(check: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """The claims that a check carries, in words, and the check's own name."""
    parts = []
    for claim_id in check["claims"]:
        claim = claims.get(claim_id)
        words = getattr(claim, "text", None) or (claim["text"] if claim else "")
        parts.append(f'<div class="lp-claim"><b class="lp-id">{text(claim_id)}</b> {text(words)}</div>')
    groups = ", ".join(check["objectives"])
    about = f'<span class="lp-objective">objective {text(groups)}</span> · ' if groups else ""
    acts = '<span class="lp-acts" title="this check changes the lab">acts</span>' if check["acts"] else ""
    left = '<span class="lp-badge lp-fail">left something behind</span>' if check["left_behind"] else ""
    reason = check["reason"] if check["verdict"] != Verdict.PASS else ""
    parts.append(f'<div class="lp-name">{about}{text(_name(check["id"]), 300)} {acts} {left}</div>')
    if reason:
        parts.append(f'<div class="lp-reason lp-ink-{text(check["verdict"])}">{text(reason, 400)}</div>')
    return "".join(parts)


def evidence(check: Mapping[str, Any]) -> str:
    """What a check saw, as commands with their output, and where it broke."""
    parts = [f'<p class="lp-title">{text(check["title"])}</p>'] if check["title"] else []
    lines = [line for line in check["diagnosis"] if line.strip() != check["reason"]]
    if lines:
        joined = plain("\n".join(lines), OUTPUT_SHOWN)
        parts.append(f'<pre class="lp-diagnosis lp-edge-{text(check["verdict"])}">{escape(joined)}</pre>')
    if check["left_behind"]:
        left = text(check["left_behind"], OUTPUT_SHOWN)
        parts.append(f'<div class="lp-left"><b>Left behind</b><pre>{left}</pre></div>')
    if check["observations"]:
        looks = "".join(_observation(each, check["started"]) for each in check["observations"])
        parts.append(f'<ol class="lp-looks">{looks}</ol>')
    else:
        parts.append('<p class="lp-none">Nothing was looked at.</p>')
    if check["traceback"]:
        trace = text(check["traceback"], OUTPUT_SHOWN)
        parts.append(
            f"<details><summary>Traceback, for who maintains the check</summary><pre>{trace}</pre></details>"
        )
    return f'<div class="lp-evidence">{"".join(parts)}</div>'


def _observation(look: Mapping[str, Any], since: float) -> str:
    output = plain(look["output"].rstrip(), OUTPUT_SHOWN)
    shown = f"<pre>{escape(output)}</pre>" if output.strip() else ""
    kind = (
        "good"
        if look["outcome"] in ("reachable", "seen")
        else "odd"
        if look["outcome"] == "not made"
        else "no"
    )
    when = f"+{look['started'] - since:.1f} s" if look["started"] >= since > 0 else "before"
    return (
        f'<li><div class="lp-look"><span class="lp-source">{text(look["source"], 80)}$</span> '
        f"<code>{text(look['command'])}</code>"
        f'<span class="lp-outcome lp-out-{kind}">{text(look["outcome"], 80)}</span>'
        f'<span class="lp-when" title="when into the check; how long">{when}, {look["seconds"]:.1f} s</span>'
        f"</div>{shown}</li>"
    )


def overview(run: Mapping[str, Any]) -> str:
    """The run at a glance: counts, what is not proven, the drawings, verdicts per objective."""
    counts = run["summary"]["verdicts"]
    tiles = "".join(
        f'<div class="lp-tile lp-{verdict}"><b>{counts[verdict]}</b> {_SIGNS[verdict]} {verdict}</div>'
        for verdict in Verdict
        if counts[verdict] or verdict is not Verdict.SKIP
    )
    facts = [f"run {text(run['run'])}", _moment(run["started"]), f"took {seconds(run['seconds'])}"]
    if run["lab"]:
        facts.insert(0, f"lab <b>{text(run['lab'])}</b>")
    parts = [f'<p class="lp-facts">{" · ".join(facts)}</p>', f'<div class="lp-tiles">{tiles}</div>']
    parts.append(_proven(run))
    if run["left_behind"]:
        rows = "".join(
            f"<li>{text(_name(check_id), 300)}: <code>{text(what, 1_000)}</code></li>"
            for check_id, what in run["left_behind"].items()
        )
        parts.append(f'<div class="lp-left"><b>This run left something behind</b><ul>{rows}</ul></div>')
    for drawing in run["drawings"]:
        svg = clean_svg(drawing["svg"])
        if svg:
            parts.append(
                f'<figure class="lp-drawing"><figcaption>{text(drawing["title"])}</figcaption>{svg}</figure>'
            )
    parts += [matrix.html(each) for each in run.get("matrices", ())]
    parts.append(_objectives(run["summary"]["objectives"]))
    parts.append(_timings(run["timings"]))
    return f'<section class="lp-overview">{"".join(parts)}</section>'


def _proven(run: Mapping[str, Any]) -> str:
    carried, open_ones = run["claims"], run["not_proven"]
    said = f"{len(carried) - len(open_ones)} of {len(carried)} claims proven."
    not_run = run["planned"] - len(run["checks"])
    if not_run:
        said += f" {not_run} of {run['planned']} checks did not run."
    items = "".join(
        f"<li>{badge(claim['verdict'] or 'not run')} <b>{text(each)}</b> {text(claim['text'])}</li>"
        for each, claim in ((each, carried[each]) for each in open_ones)
    )
    listed = (
        f'<details class="lp-open"><summary>Not proven: {len(open_ones)}</summary><ul>{items}</ul></details>'
    )
    return f'<p class="lp-proven">{said}</p>{listed if open_ones else ""}'


def _objectives(objectives: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for each in objectives:
        total = sum(each[verdict] for verdict in Verdict) or 1
        bar = "".join(
            f'<i class="lp-{verdict}" style="width:{100 * each[verdict] / total:.2f}%"></i>'
            for verdict in Verdict
            if each[verdict]
        )
        cells = "".join(f'<td class="lp-ink-{v}">{each[v] or "–"}</td>' for v in Verdict)
        name = f'<th scope="row">{text(each["key"])} &nbsp;{text(each["name"])}</th>'
        rows.append(f'<tr>{name}<td class="lp-bar"><span>{bar}</span></td>{cells}</tr>')
    heads = "".join(f'<th scope="col">{verdict}</th>' for verdict in Verdict)
    return (
        f'<table class="lp-objectives"><thead><tr><th scope="col">Objective</th><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _timings(timings: Sequence[Mapping[str, Any]]) -> str:
    if not timings:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{text(each["step"], 200)}</th><td>{seconds(each["seconds"])}</td></tr>'
        for each in timings
    )
    title = "<summary>Provisioning, step by step</summary>"
    return f'<details class="lp-timings">{title}<table>{rows}</table></details>'


def clean_svg(svg: str) -> str:
    """A drawing with nothing in it but shapes and words; empty when it is no SVG at all.

    A run file may come from anybody, and inline SVG can carry scripts, links and loads.
    """
    try:
        root = ET.fromstring(svg)  # noqa: S314 - no entities are resolved beyond expat's own limits
    except (ET.ParseError, ValueError):
        return ""
    if root.tag != f"{_SVG}svg":
        return ""
    _clean_element(root)
    ET.register_namespace("", _SVG[1:-1])
    return ET.tostring(root, encoding="unicode")


def _clean_element(element: ET.Element) -> None:
    for child in list(element):
        name = child.tag.removeprefix(_SVG) if isinstance(child.tag, str) else ""
        if name not in _SVG_TAGS or (name == "style" and _loads(child.text or "")):
            element.remove(child)
        else:
            _clean_element(child)
    for name, value in list(element.items()):
        if name.startswith(("on", "{")) or name == "href" or _loads(value):
            del element.attrib[name]


def _loads(css: str) -> bool:
    return any(each in css.lower() for each in ("url(", "@import", "\\", "expression", "javascript:", "<"))


def page(run: Mapping[str, Any]) -> str:
    """A whole page from a run file alone."""
    checks = "".join(
        f'<details class="lp-check"><summary>{badge(check["verdict"])} '
        f"<div>{claim_cell(check, run['claims'])}</div><span>{seconds(check['seconds'])}</span></summary>"
        f"{evidence(check)}</details>"
        for check in run["checks"]
    )
    title = f"Labproof report {text(run['run'])}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title>{style()}</head><body><h1>{title}</h1>{overview(run)}{checks}</body></html>\n"
    )


def _name(check_id: str) -> str:
    return check_id.removeprefix("suites/")


def _moment(started: str) -> str:
    try:
        return f"{datetime.fromisoformat(started):%d %B %Y, %H:%M}"
    except ValueError:
        return text(started, 40)


def _flat(content: str) -> str:
    """On one line: pytest-html reads a cell's value with a pattern that stops at a line's end."""
    return " ".join(content.split("\n"))
