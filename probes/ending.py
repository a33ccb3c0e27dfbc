"""Whether the run is being ended: nobody waits for what is no longer needed, so that what was made goes soon."""

from __future__ import annotations

import threading

from probes.shell import HostError

ENDING = threading.Event()
"""Set by the first interrupt; nothing is made and no command is begun after it."""


class RunEndedError(HostError):
    """The run is being ended."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: not done, the run is being ended")


def check(what: str) -> None:
    """Raises RunEndedError once the run is being ended; `what` says what was to be done."""
    if ENDING.is_set():
        raise RunEndedError(what)


def pause(seconds: float, what: str) -> None:
    """Waits before another look; raises RunEndedError as soon as the run is being ended."""
    if ENDING.wait(max(0.0, seconds)):
        raise RunEndedError(what)
