"""Hooks by which pytest-html writes the report of a run of checks."""

from __future__ import annotations

from html import escape
from typing import Any

import pytest

from reports import html
from reports.runfile import RunFile
from reports.text import plain


class HtmlHooks:
    """Registered by the recorder once there are checks to tell of.

    The checks are told by :mod:`reports.html` in the page's summary, and leave pytest-html's table of results
    empty: it knows no verdict of ours and no claim. Tests that prove no claim stay in its table, as it has
    them.
    """

    def __init__(self, run: RunFile, metadata: dict[str, Any]) -> None:
        self._run = run
        self._metadata = metadata
        self._others = False

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        report.title = f"Labproof report {self._run.id}"

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: pytest.TestReport, cells: list[str]) -> None:
        if report.nodeid in self._run.planned:
            cells.clear()
            return
        self._others = self._others or report.when == "call" or not report.passed
        cells[1] = f'<td class="col-testId">{escape(plain(report.nodeid, 300))}</td>'

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str]) -> None:
        alone = "" if self._others else '<div class="lp-no-others"></div>'
        prefix.append(html.style() + html.script() + html.body(self._run.as_json()) + alone)
        self._metadata["Run"] = self._run.id
