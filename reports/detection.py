"""The matrix of faults by claims: what the suites said of each fault, from ``detection.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports.html import text

_SIGNS = {"pass": "✓", "fail": "✗", "unproven": "?", "skip": "–", "not run": "∅"}


def page(score: Mapping[str, Any]) -> str:
    """A whole page, self-contained.

    Args:
        score: the contents of ``detection.json``.
    """
    rows = score["rows"]
    claims = sorted({claim for row in rows for claim in (*row["claims"], *row["missed"])}, key=_order)
    heads = "".join(f'<th scope="col">{text(claim)}</th>' for claim in claims)
    body, scope = [], None
    for row in rows:
        if row["scope"] != scope:
            scope = row["scope"]
            body.append(
                f'<tr class="scope"><th colspan="{len(claims) + 2}" scope="rowgroup">{text(scope)}</th></tr>'
            )
        body.append(_row(row, claims))
    css = Path(__file__).with_name("detection.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>What Labproof detects</title><style>{css}</style></head><body><h1>What Labproof detects</h1>"
        f"<p>{text(score.get('date', ''))}, by <code>{text(score.get('command', ''))}</code>. Each row is a fault that was "
        "put into a healthy lab; each column a claim that was looked at with it there. "
        f"{_SIGNS['fail']} failed, {_SIGNS['unproven']} unproven, {_SIGNS['pass']} stayed; framed: not as it should be.</p>"
        f'<ul class="sums">{_sums(score)}</ul><div class="wide" tabindex="0" role="region" aria-label="faults by claims">'
        f'<table><thead><tr><th scope="col">Fault</th>{heads}<th scope="col" class="told">Told as</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>{_alarms(score['alarms'])}</body></html>\n"
    )  # fmt: skip


def _order(claim: str) -> tuple[int, str]:
    systems = ("NAT", "DUP", "CT", "CMP", "OS", "OP", "API", "APP", "TOP", "K8S")
    system = claim.partition("-")[0]
    return (systems.index(system) if system in systems else len(systems), claim)


def _row(row: Mapping[str, Any], claims: list[str]) -> str:
    cells = "".join(_cell(row, claim) for claim in claims)
    told = next((line for line in row["told"].splitlines() if any(w in line for w in row["words"])), "")
    link = (
        f'<a href="detection/{text(row["report"])}">{text(row["id"])}</a>'
        if row["report"]
        else text(row["id"])
    )
    wrong = f'<div class="wrong">{text(row["error"], 400)}</div>' if row["error"] else ""
    if not row["diagnosed"]:
        wrong += f'<div class="wrong">not told as: {text(" or ".join(row["words"]))}</div>'
    return (
        f'<tr><th scope="row">{link}<small>{text(row["what"])}</small></th>{cells}'
        f'<td class="told">{wrong}{text(told or row["told"].partition(chr(10))[0], 400)}</td></tr>'
    )


def _cell(row: Mapping[str, Any], claim: str) -> str:
    verdict = row["claims"].get(claim) or row["missed"].get(claim)
    if verdict is None:
        return "<td></td>"
    kind = "stayed" if verdict == "pass" else "red" if verdict == "fail" else "open"
    more = " missed" if claim in row["missed"] else " accused" if claim in row["accused"] else ""
    title = f"{claim}: {verdict}" + (f", {more.strip()}" if more else "")
    return f'<td class="{kind}{more}" title="{text(title)}">{_SIGNS.get(verdict, "?")}</td>'


def _sums(score: Mapping[str, Any]) -> str:
    faults = score["faults"]
    figures = (
        (f"{score['detected']} of {faults}", "faults detected"),
        (f"{score['diagnosed']} of {faults}", "rightly told"),
        (str(score["claims_watched"]), "claims watched"),
        (f"{score['collateral']} of {score['should_have_stayed']}", "claims wrongly accused"),
        (f"{score['false_alarms']} in {score['healthy_runs']} runs", "false alarms on the healthy lab"),
    )
    return "".join(f"<li><b>{text(figure)}</b><small>{text(what)}</small></li>" for figure, what in figures)


def _alarms(alarms: list[Mapping[str, Any]]) -> str:
    if not alarms:
        return ""
    rows = "".join(
        f"<li>run {text(each['run'])}: {text(each['claim'])} was {text(each['verdict'])}</li>"
        for each in alarms
    )
    return f"<h2>False alarms</h2><ul>{rows}</ul>"
