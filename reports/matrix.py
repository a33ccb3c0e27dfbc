"""A reachability matrix as an HTML table and as text: what is as intended is quiet, what is not stands out.

Takes the run file's form of a matrix, which may come from anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.text import one_line, plain

_ARRIVES = ("reachable", "no answer")
_NAME = 24  # characters of a host's name on the terminal
_SHOWN = 60  # disagreements that are told; the table shows all

Cell = Mapping[str, Any]


def sign(outcome: str | None) -> str:
    """What an outcome is to a reader in haste: it arrives, it is refused, it does not arrive, nobody knows."""
    if outcome is None:
        return " "
    return "✓" if outcome in _ARRIVES else "✗" if outcome == "refused" else "·"


def html(matrix: Mapping[str, Any]) -> str:
    """The matrix as an HTML fragment; its styles are those of report.css that begin with ``lp-matrix``."""
    from html import escape

    def text(value: object, limit: int = 300) -> str:
        return escape(plain(str(value), limit))

    def mark(cell: Cell) -> str:
        label = _label(cell["traffic"])
        if cell["agrees"]:
            kind, shown = _kind(cell["intended"]), sign(cell["intended"])
        else:
            kind, shown = "unlike", f"{sign(cell['intended'])}→{sign(_found(cell))}"
        tried = "" if cell["measured"] is None else " lp-matrix-tried"
        return (
            f'<span class="lp-matrix-mark lp-matrix-{kind}{tried}" title="{text(_told(cell), 600)}">'
            f"<b>{shown}</b> {text(label, 20)}</span>"
        )

    rows = []
    cells = _by_pair(matrix["cells"])
    for source in matrix["sources"]:
        columns = "".join(
            f"<td>{''.join(map(mark, cells[source, target])) if (source, target) in cells else _empty(source, target)}</td>"
            for target in matrix["targets"]
        )
        rows.append(f'<tr><th scope="row">{text(source, 60)}</th>{columns}</tr>')
    heads = "".join(f'<th scope="col">{text(target, 60)}</th>' for target in matrix["targets"])
    unlike = [cell for cell in matrix["cells"] if not cell["agrees"]]
    table = (
        f'<table class="lp-matrix-table"><thead><tr><th scope="col">from \\ to</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    groups = _alike(unlike)
    items = "".join(
        f"<li><b>{text(_pair(cell, sources))}</b> {text(_three(cell))}"
        + (f'<div class="lp-matrix-why">{text(cell["why"], 600)}</div>' if cell["why"] else "")
        + "</li>"
        for cell, sources in groups[:_SHOWN]
    )
    more = f"<li>and {len(groups) - _SHOWN} more</li>" if len(groups) > _SHOWN else ""
    listed = f'<ul class="lp-matrix-list">{items}{more}</ul>' if unlike else ""
    return (
        f'<figure class="lp-matrix"><figcaption>Who reaches whom: {text(matrix["topology"], 100)}. '
        f"{text(_verdict(matrix['cells'], len(unlike)))}</figcaption>"
        f'<div class="lp-matrix-scroll">{table}</div>{_LEGEND}{listed}</figure>'
    )


_LEGEND = (
    '<p class="lp-matrix-legend"><span class="lp-matrix-mark lp-matrix-open"><b>✓</b></span> arrives '
    '<span class="lp-matrix-mark lp-matrix-shut"><b>·</b></span> does not, and is not meant to '
    '<span class="lp-matrix-mark lp-matrix-shut"><b>✗</b></span> refused '
    '<span class="lp-matrix-mark lp-matrix-unlike"><b>✓→·</b></span> intended → found '
    '<span class="lp-matrix-mark lp-matrix-open lp-matrix-tried"><b>✓</b></span> underlined: measured too</p>'
)


def text(matrix: Mapping[str, Any]) -> str:
    """The matrix for the terminal; a cell that is not as intended is between exclamation marks."""
    cells = _by_pair(matrix["cells"])
    sources = list(matrix["sources"])
    targets = list(matrix["targets"])

    def entry(source: str, target: str) -> str:
        if (source, target) not in cells:
            return _empty(source, target)
        return " ".join(map(_short, cells[source, target]))

    rows = [["from \\ to", *(one_line(t, _NAME) for t in targets)]]
    rows += [[one_line(s, _NAME), *(entry(s, t) for t in targets)] for s in sources]
    widths = [max(len(row[column]) for row in rows) for column in range(len(targets) + 1)]
    lines = [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    unlike = [cell for cell in matrix["cells"] if not cell["agrees"]]
    head = f"who reaches whom: {one_line(matrix['topology'])}. {_verdict(matrix['cells'], len(unlike))}"
    groups = _alike(unlike)
    told = [
        f"! {one_line(_pair(cell, sources))}: {_three(cell)}"
        + (f": {one_line(cell['why'], 400)}" if cell["why"] else "")
        for cell, sources in groups[:_SHOWN]
    ]
    if len(groups) > _SHOWN:
        told.append(f"! and {len(groups) - _SHOWN} more")
    return "\n".join([head, *lines, *told])


def _by_pair(cells: Sequence[Cell]) -> dict[tuple[str, str], list[Cell]]:
    pairs: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        pairs.setdefault((cell["source"], cell["target"]), []).append(cell)
    return pairs


def _empty(source: str, target: str) -> str:
    return "–" if source == target else ""


def _found(cell: Cell) -> str | None:
    """What is to be believed beside the intention: the measurement, where there is one."""
    configured, measured = cell["configured"], cell["measured"]
    found: str | None = configured if measured is None else measured
    return found


def _kind(outcome: str) -> str:
    return "open" if outcome in _ARRIVES else "shut"


def _label(traffic: str) -> str:
    return traffic.removeprefix("tcp ")


def _short(cell: Cell) -> str:
    label = one_line(_label(cell["traffic"]), 12)
    if cell["agrees"]:
        return f"{sign(cell['intended'])}{label}"
    return f"!{sign(cell['intended'])}→{sign(_found(cell))}{label}!"


def _pair(cell: Cell, sources: Sequence[str] = ()) -> str:
    return f"{', '.join(sources or [cell['source']])} → {cell['target']} {cell['traffic']}"


def _alike(cells: Sequence[Cell]) -> list[tuple[Cell, list[str]]]:
    """Cells that differ in their source alone, told once; the sentence is that of the first."""
    groups: dict[tuple[str, str, str], tuple[Cell, list[str]]] = {}
    for cell in cells:
        key = (cell["target"], cell["traffic"], _three(cell))
        groups.setdefault(key, (cell, []))[1].append(cell["source"])
    return list(groups.values())


def _three(cell: Cell) -> str:
    said = {
        name: cell[name] or unknown
        for name, unknown in (("configured", "unknown"), ("measured", "not tried"))
    }
    return f"intended {cell['intended']}, configured {said['configured']}, measured {said['measured']}"


def _told(cell: Cell) -> str:
    at = f" at {cell['address']}" if cell["address"] else ""
    why = f". {cell['why']}" if cell["why"] else ""
    return f"{_pair(cell)}{at}: {_three(cell)}{why}"


def _verdict(cells: Sequence[Cell], unlike: int) -> str:
    tried = sum(cell["measured"] is not None for cell in cells)
    said = f"{unlike} of {len(cells)} not as intended" if unlike else f"all {len(cells)} as intended"
    return f"{said}, {tried} measured"
