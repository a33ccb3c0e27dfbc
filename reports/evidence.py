"""A check's evidence as HTML: what was tried, where, what came back, and where it broke."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from reports.markup import both, seconds, text
from reports.text import plain

OUTPUT_SHOWN = 8_192  # characters of one output that a page shows; the run file has more
COMMAND_SHOWN = 2_000
LONG = 15  # lines of output, from which on it scrolls


def evidence(check: Mapping[str, Any], shown: int = OUTPUT_SHOWN) -> str:
    """What a check saw, as commands with their output, and where it broke.

    Args:
        shown: characters of one output, at most.
    """
    parts = []
    lines = [line for line in check["diagnosis"] if line.strip() != check["reason"]]
    if lines:
        joined = escape(plain("\n".join(lines), shown))
        parts.append(f'<pre class="lp-diagnosis lp-edge-{text(check["verdict"], 20)}">{joined}</pre>')
    if check["left_behind"]:
        left = text(check["left_behind"], shown)
        parts.append(
            f'<div class="lp-left"><b>{both("Left behind", "Laissé derrière")}</b><pre>{left}</pre></div>'
        )
    if check["observations"]:
        looks = "".join(_observation(each, check["started"], shown) for each in check["observations"])
        parts.append(f'<ol class="lp-looks">{looks}</ol>')
    else:
        nothing = both("Nothing was looked at.", "Rien n'a été observé.")
        parts.append(f'<p class="lp-soft">{nothing}</p>')
    if check["traceback"]:
        trace = text(check["traceback"], shown)
        title = both("Traceback, for who maintains the check", "Trace, pour qui maintient la vérification")
        parts.append(f"<details><summary>{title}</summary><pre>{trace}</pre></details>")
    parts.append(f'<p class="lp-soft lp-id">{text(check["id"].removeprefix("suites/"), 300)}</p>')
    return f'<div class="lp-evidence">{"".join(parts)}</div>'


def _observation(look: Mapping[str, Any], since: float, shown: int) -> str:
    output = plain(look["output"].rstrip(), shown)
    # a box that scrolls must be reachable with the keyboard; short ones need none
    long = ' class="lp-long" tabindex="0"' if output.count("\n") > LONG or len(output) > 80 * LONG else ""
    body = f"<pre{long}>{escape(output)}</pre>" if output.strip() else ""
    kind = {"reachable": "good", "seen": "good", "not made": "odd"}.get(look["outcome"], "no")
    begun = f"+{look['started'] - since:.1f} s" if look["started"] >= since > 0 else both("before", "avant")
    return (
        f'<li><div class="lp-look"><span class="lp-source">{text(look["source"], 80)}$</span> '
        f"<code>{text(look['command'], min(COMMAND_SHOWN, shown))}</code> "
        f'<span class="lp-outcome lp-out-{kind}">{text(look["outcome"], 80)}</span> '
        f'<span class="lp-when">{begun}, {seconds(look["seconds"])}</span></div>{body}</li>'
    )
