"""Waiting for a cloud: every wait has a deadline, and many waits share one look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from probes.ending import ENDING

T = TypeVar("T")


class WaitTimeout(Exception):  # noqa: N818 - said of the wait, which is over
    """What was waited for did not come in time."""


class WaitCancelled(Exception):  # noqa: N818 - nothing went wrong in the wait itself
    """Something else failed: there is nothing left to wait for."""


def until(
    look: Callable[[], T | None],
    within: float,
    what: str,
    every: float = 0.5,
    cancelled: threading.Event | None = None,
) -> T:
    """Looks until there is something to see.

    Args:
        look: returns None as long as it is to be called again. What it raises ends the wait.
        within: seconds; the last look is made when they are over.
        what: what is waited for, for the error.
        every: seconds from one look's end to the next.
        cancelled: ends the wait early when set.

    Raises:
        WaitTimeout: nothing was seen within the time.
        WaitCancelled: ``cancelled`` was set, or there is one and the run is being ended.
    """
    stop = cancelled or threading.Event()
    end = time.monotonic() + within
    while True:
        last = time.monotonic() >= end
        seen = look()
        if seen is not None:
            return seen
        if last:
            raise WaitTimeout(f"waited {within:.0f} s for {what} in vain")
        # a wait that something else may cancel is for what is being made; one for what is being removed goes on
        if stop.wait(max(0.0, min(every, end - time.monotonic()))) or (cancelled and ENDING.is_set()):
            raise WaitCancelled(f"no longer waiting for {what}")


class SharedLook(Generic[T]):
    """One look for many who wait: however many call, the cloud is asked at most once per ``every`` seconds.

    What a caller gets may be that old: it must be such that an old answer only makes it wait on.
    """

    def __init__(self, look: Callable[[], T], every: float = 0.5) -> None:
        self._look = look
        self._every = every
        self._lock = threading.Lock()
        self._seen: tuple[float, T] | None = None

    def __call__(self) -> T:
        with self._lock:
            if self._seen is None or time.monotonic() - self._seen[0] >= self._every:
                seen = self._look()
                self._seen = (time.monotonic(), seen)
            return self._seen[1]
