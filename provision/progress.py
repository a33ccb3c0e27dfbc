"""Progress of long work: what is being made, what is waited for, how long so far."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.status import Status


class Progress:
    """A line that changes on a terminal; plain lines with the time so far elsewhere (CI, pipes).

    >>> with Progress("starting the box") as progress:
    ...     progress("keystone ready after 3.2 s")

    Args:
        title: what is being done.
        quiet: show nothing.
        file: where to; standard error by default.
        every: seconds between plain lines, at least: of many short steps some are shown.
    """

    def __init__(
        self, title: str, *, quiet: bool = False, file: TextIO | None = None, every: float = 0.0
    ) -> None:
        self._title = title
        self._console = Console(file=file or sys.stderr, highlight=False, soft_wrap=True)
        self._live = self._console.is_terminal and not quiet
        self._quiet = quiet
        self._every = every
        self._status: Status | None = None
        self._began = self._shown = time.monotonic()
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def __enter__(self) -> Progress:
        self._began = time.monotonic()
        self._shown = self._began - self._every
        return self

    def __call__(self, line: str) -> None:
        with self._lock:
            if self._live:
                text = f"{self._title}: {line} [dim]({self.seconds:.0f} s)[/dim]"
                if self._status is None:
                    self._status = self._console.status(text)
                    self._status.start()
                self._status.update(text)
            elif not self._quiet and time.monotonic() - self._shown >= self._every:
                self._shown = time.monotonic()
                self._console.print(f"{self.seconds:6.1f} s  {self._title}: {line}", markup=False)

    def quicken(self) -> None:
        """From here on a plain line a second is shown: somebody waits for the end."""
        self._every = min(self._every, 1.0)

    def pause(self) -> None:
        """Takes the changing line away, for others to write; the next call shows it again."""
        with self._lock:
            if self._status:
                self._status.stop()
                self._status = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()
