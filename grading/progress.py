"""How far a class is: a bar and the groups at work on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from grading.group import Ended, Turn
from reports.text import one_line


class Progress:
    """Told by the runner what begins and what ends.

    Args:
        plain: lines, on a terminal too; elsewhere and in CI they are plain anyway.
        file: where to; standard error by default.
    """

    def __init__(self, *, plain: bool = False, file: TextIO | None = None) -> None:
        self._console = Console(file=file or sys.stderr, highlight=False, soft_wrap=True)
        live = self._console.is_terminal and not plain and not os.environ.get("CI")
        self._bars = (
            Bars(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            if live
            else None
        )
        self._class: TaskID | None = None
        self._groups: dict[str, tuple[Turn, TaskID]] = {}
        self._count = self._ended = 0
        self._began = time.monotonic()

    def __enter__(self) -> Progress:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def total(self, count: int) -> None:
        self._count = count
        if self._bars:
            self._class = self._bars.add_task("groups", total=count)

    def begins(self, turn: Turn) -> None:
        if self._bars:
            self._groups[turn.entry.slug] = (turn, self._bars.add_task(_name(turn.entry.group), total=1))
        else:
            self._line(f"{_name(turn.entry.group)}: begins")

    def looks(self) -> None:
        """Shows how many checks each group at work has behind it."""
        if self._bars is None:
            return
        for turn, task in self._groups.values():
            counts = turn.so_far()
            if planned := counts.pop("planned", 0):
                self._bars.update(task, total=planned, completed=sum(counts.values()))

    def kept(self, ended: Ended) -> None:
        self._one_more(f"{_name(ended.group)}: done before, {_counts(ended)}")

    def ends(self, turn: Turn, ended: Ended) -> None:
        if self._bars and turn.entry.slug in self._groups:
            self._bars.remove_task(self._groups.pop(turn.entry.slug)[1])
        said = _counts(ended) if ended.well else f"{ended.status.upper()}: {ended.reason}"
        self._one_more(f"{_name(ended.group)}: {said} after {ended.seconds:.0f} s")

    def _one_more(self, line: str) -> None:
        self._ended += 1
        if self._bars and self._class is not None:
            self._bars.update(self._class, completed=self._ended)
        self._line(f"{line} ({self._ended} of {self._count})")

    def _line(self, line: str) -> None:
        seconds = time.monotonic() - self._began
        self._console.print(f"{seconds:7.1f} s  {line}", markup=False)


def _name(group: str) -> str:
    return one_line(group, 40)


def _counts(ended: Ended) -> str:
    counts = ended.counts or {}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "no checks"
