"""What all systems' failures have in common: one line of what was tried, what came back, what to do."""

from __future__ import annotations


class FailureError(Exception):
    """A system did not do what it was asked to.

    Attributes:
        tried: what was asked of it.
        answer: what came back.
        advice: what to do; empty where nobody knows.
    """

    def __init__(self, tried: str, answer: str, advice: str = "") -> None:
        self.tried = tried
        self.answer = answer
        self.advice = advice
        super().__init__(f"{tried}: {answer}" + (f"; {advice}" if advice else ""))
