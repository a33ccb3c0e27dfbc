"""Hooks by which pytest-html tells verdicts, claims and evidence."""

from __future__ import annotations

from collections.abc import Generator
from html import escape
from typing import Any

import pytest

from reports import html
from reports.runfile import RunFile, redact
from reports.text import plain

_LABELS = {"passed": "pass", "failed": "fail", "error": "unproven", "skipped": "skip"}


class HtmlHooks:
    """Registered by the recorder once there are checks to tell of.

    pytest-html knows no outcome of ours, and its filter boxes none but its own, so an unproven check goes
    by its *error* there and only its label and colour say *unproven*. The cell that the filter reads is
    hidden, the one to be read stands beside it.
    """

    def __init__(self, run: RunFile, metadata: dict[str, Any]) -> None:
        self._run = run
        self._metadata = metadata
        self._evidence: dict[str, str] = {}

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        report.title = f"Labproof report {self._run.id}"
        for outcome, label in _LABELS.items():
            report.outcomes[outcome]["label"] = label

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        cells[:] = [
            '<th class="sortable lp-key" data-column-type="result">Result</th>',
            '<th class="sortable" data-column-type="verdict">Verdict</th>',
            '<th class="sortable" data-column-type="claim">Claim</th>',
            "<th>Looked from</th>",
            '<th class="sortable" data-column-type="duration">Time</th>',
        ]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: pytest.TestReport, cells: list[str]) -> None:
        key = cells[0].replace('class="', 'class="lp-key ')
        check = self._run.checks.get(report.nodeid)
        if check is None:
            name = escape(plain(report.nodeid, 300))
            cells[:] = [key, *html.row(str(report.outcome), name, [], getattr(report, "duration", 0.0))]
        elif report.when == "teardown":
            cells.clear()  # told in the check's own row, whose verdict stands
        else:
            verdict = str(check["verdict"])
            what = html.claim_cell(check, self._run.claims)
            cells[:] = [key, *html.row(verdict, what, check["where"], check["seconds"])]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_html(self, report: pytest.TestReport, data: list[str]) -> None:
        check = self._run.checks.get(report.nodeid)
        if check is not None:
            data[:] = [""]  # the traceback is told with the evidence, folded away

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        check = self._run.checks.get(item.nodeid)
        if check is not None:
            if call.when != "teardown":
                marked: Any = report
                self._evidence = dict.fromkeys(("name", "mime_type", "extension"), "")
                marked.extras = [*getattr(report, "extras", []), self._evidence]
            # Rows are made after the tear-down, so what that leaves behind is told in the check's own row.
            self._evidence.update(format_type="html", content=html.evidence(check))
        return report

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str]) -> None:
        prefix.append(html.style())
        prefix.append(html.overview(self._run.as_json()))
        self._metadata["Run"] = self._run.id
        for name, value in redact(self._run.facts).items():
            self._metadata[escape(plain(str(name), 100))] = _cell(value)


def _cell(value: Any) -> Any:
    """A value as pytest-html's script can show it: it takes text for HTML, and lists only one deep."""
    if isinstance(value, dict):
        return {escape(plain(str(k), 100)): escape(plain(str(v), 500)) for k, v in value.items()}
    return escape(plain(str(value), 500))
