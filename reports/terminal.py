"""The end of a run on the terminal: verdicts per objective, and why not all is proven."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from reports import matrix
from reports.runfile import Verdict
from reports.text import one_line

_COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.UNPROVEN: "yellow", Verdict.SKIP: "cyan"}
_WIDTH = 110
_LEFT_BEHIND_LINES = 20


class Terminal(Protocol):
    """The part of pytest's terminal reporter that is used."""

    def write_sep(self, sep: str, title: str | None = None, **markup: bool) -> None: ...
    def write_line(self, line: str | bytes, **markup: bool) -> None: ...
    def write(self, content: str, **markup: bool) -> None: ...


def summary(run: Mapping[str, Any], terminal: Terminal) -> None:
    """Writes the summary of a run file's document."""
    terminal.write_sep("=", "verdicts")
    names = [f"{each['key']:>5} {each['name']}" for each in run["summary"]["objectives"]]
    width = max([len("      objective"), *map(len, names)])
    terminal.write_line(f"{'      objective':<{width}}" + "".join(f"{verdict:>10}" for verdict in Verdict))
    for name, counts in zip(names, run["summary"]["objectives"], strict=True):
        _row(terminal, f"{name:<{width}}", counts)
    if len(names) != 1:
        _row(terminal, f"{'      all checks':<{width}}", run["summary"]["verdicts"])
    _roles(terminal, run.get("facts", {}).get("attach", {}).get("roles", {}))
    not_run = run["planned"] - len(run["checks"])
    if not_run > 0:
        terminal.write_line(f"{not_run} of {run['planned']} checks did not run", yellow=True)
    for verdict, title in ((Verdict.UNPROVEN, "unproven"), (Verdict.FAIL, "failed")):
        checks = [each for each in run["checks"] if each["verdict"] == verdict]
        if checks:
            terminal.write_sep("-", title, **{_COLOURS[verdict]: True})
        for check in checks:
            _check(terminal, check, run["claims"], verdict)
    for each in run.get("matrices", ()):
        unlike = any(not cell["agrees"] for cell in each["cells"])
        lines = matrix.text(each).splitlines()
        for line in lines if unlike else lines[:1]:
            terminal.write_line(line, **({"yellow": True} if line.startswith("!") else {}))
    if run["left_behind"]:
        terminal.write_sep("-", "left behind", red=True)
    for check_id, what in run["left_behind"].items():
        for line in what.splitlines()[:_LEFT_BEHIND_LINES]:
            terminal.write_line(f"{_short(check_id)}: {one_line(line)}", red=True)


def _roles(terminal: Terminal, roles: Mapping[str, str]) -> None:
    """Who was taken to play which part, where somebody else's project was looked at."""
    if not roles:
        return
    terminal.write_sep("-", "who plays which part")
    parts: dict[str, list[str]] = {}
    for role, told in roles.items():
        parts.setdefault(told, []).append(role)
    for told, names in parts.items():
        wanting = told.startswith(("missing: ", "ambiguous: "))
        line = f"  {', '.join(names)}: {one_line(told, _WIDTH * 3)}"
        terminal.write_line(line, **({"yellow": True} if wanting else {}))


def _row(terminal: Terminal, name: str, counts: Mapping[str, Any]) -> None:
    terminal.write(name)
    for verdict in Verdict:
        count = counts[verdict]
        terminal.write(f"{count or '-':>10}", **({_COLOURS[verdict]: True} if count else {}))
    terminal.write_line("")


def _check(terminal: Terminal, check: Mapping[str, Any], claims: Mapping[str, Any], verdict: Verdict) -> None:
    terminal.write(f"{' '.join(check['claims'])}", **{_COLOURS[verdict]: True, "bold": True})
    terminal.write_line(f"  {_short(check['id'])}")
    if verdict is Verdict.FAIL:
        for claim_id in check["claims"]:
            if claim_id in claims:
                terminal.write_line(f"    expected: {claims[claim_id]['text']}")
    terminal.write_line(
        f"    {'seen' if verdict is Verdict.FAIL else 'because'}: {one_line(check['reason'], _WIDTH * 2)}"
    )


def _short(check_id: str) -> str:
    """The node id without what all share."""
    return one_line(check_id.removeprefix("suites/"))
