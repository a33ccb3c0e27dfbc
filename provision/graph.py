"""Runs steps that depend on one another, each as early as its dependencies allow.

Which of the ready steps goes first is decided by the critical path method: the one with the longest way still
ahead of it, by the steps' estimated costs. A failure cancels every step that has not begun.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

Action = Callable[[], Any]
OnProgress = Callable[["Progress"], None]


@dataclass(frozen=True)
class Progress:
    """Something a person may want to see: a step began, ended or failed."""

    step: str
    state: Literal["started", "done", "failed"]
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Timing:
    """When a step ran.

    Attributes:
        started: seconds since the run began.
        seconds: how long it took.
        after: the steps that it depended on.
    """

    step: str
    started: float
    seconds: float
    after: tuple[str, ...] = ()

    @property
    def ended(self) -> float:
        return self.started + self.seconds


@dataclass
class _Step:
    name: str
    action: Action
    after: tuple[str, ...]
    cost: float
    waits: bool
    ahead: float = 0.0
    order: int = 0


class GraphError(Exception):
    """Steps failed.

    Attributes:
        failures: step name -> what it raised, in the order of failing.
        cancelled: names of the steps that were not begun.
    """

    def __init__(self, failures: Mapping[str, BaseException], cancelled: Iterable[str]) -> None:
        self.failures = dict(failures)
        self.cancelled = tuple(cancelled)
        super().__init__("; ".join(f"{step}: {_text(error)}" for step, error in self.failures.items()))


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


@dataclass
class Graph:
    """Steps and what each must wait for.

    Attributes:
        results: what each step returned, by name; a step may read those that it depends on.
        timings: a row for each step that ended, in that order.
        cancelled: set once a step has failed; steps that wait must look at it.
    """

    results: dict[str, Any] = field(default_factory=dict)
    timings: list[Timing] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    _steps: dict[str, _Step] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._steps)

    def names(self) -> tuple[str, ...]:
        """The steps, in the order of adding."""
        return tuple(self._steps)

    def __contains__(self, name: str) -> bool:
        return name in self._steps

    def add(
        self, name: str, action: Action, after: Iterable[str] = (), cost: float = 1.0, *, waits: bool = False
    ) -> str:
        """Adds a step.

        Args:
            name: unique; shown to people.
            action: called once, in any thread, when all steps of ``after`` have ended well.
            after: names of steps, which may be added later; one that never is, is refused by :meth:`run`.
            cost: estimated seconds; decides the order alone.
            waits: it only waits for something: it takes no place from those that work.

        Returns:
            The name.
        """
        if name in self._steps:
            raise ValueError(f"step {name!r} is there already")
        self._steps[name] = _Step(
            name, action, tuple(dict.fromkeys(after)), cost, waits, order=len(self._steps)
        )
        return name

    def run(self, concurrency: int = 8, on_progress: OnProgress | None = None) -> dict[str, Any]:
        """Runs every step.

        Args:
            concurrency: how many steps at a time, besides those that wait.
            on_progress: called from the threads, one call at a time.

        Returns:
            The results by step name.

        Raises:
            GraphError: steps failed; those that had begun have ended by then.
            ValueError: an unknown dependency, or a cycle (named).
        """
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency}")
        self._weigh()
        return _Run(self, on_progress or (lambda _: None)).run(concurrency)

    def critical_path(self) -> list[Timing]:
        """The chain of steps that set the total time: before each, the dependency that ended last."""
        rows = {timing.step: timing for timing in self.timings}
        path: list[Timing] = []
        row = max(rows.values(), key=lambda timing: timing.ended, default=None)
        while row is not None:
            path.append(row)
            before = [rows[name] for name in row.after if name in rows]
            row = max(before, key=lambda timing: timing.ended, default=None)
        return path[::-1]

    def _weigh(self) -> None:
        """Sets each step's longest way ahead (Kelley and Walker's critical path method), last step first."""
        followers: dict[str, list[str]] = {name: [] for name in self._steps}
        for step in self._steps.values():
            for name in step.after:
                if name not in followers:
                    raise ValueError(f"step {step.name!r} is to run after {name!r}, which is not a step")
                followers[name].append(step.name)
        left = {name: len(names) for name, names in followers.items()}
        ready = [name for name, count in left.items() if count == 0]
        weighed = 0
        while ready:
            step = self._steps[ready.pop()]
            weighed += 1
            step.ahead = step.cost + max((self._steps[n].ahead for n in followers[step.name]), default=0.0)
            for name in step.after:
                left[name] -= 1
                if left[name] == 0:
                    ready.append(name)
        if weighed < len(self._steps):
            circle = sorted(name for name, count in left.items() if count > 0)
            raise ValueError(f"steps wait for one another in a circle: {', '.join(circle)}")


class _Run:
    """One run of a graph: the threads and what they share."""

    def __init__(self, graph: Graph, on_progress: OnProgress) -> None:
        self.graph = graph
        self.tell = on_progress
        self.steps = graph._steps
        self.waiting = {name: set(step.after) for name, step in self.steps.items()}
        self.followers: dict[str, list[str]] = {name: [] for name in self.steps}
        for step in self.steps.values():
            for name in step.after:
                self.followers[name].append(step.name)
        self.ready = {name for name, names in self.waiting.items() if not names}
        self.unfinished = len(self.steps)
        self.failures: dict[str, BaseException] = {}
        self.begun: set[str] = set()
        self.threads: list[threading.Thread] = []
        self.working = 0
        self.change = threading.Condition()
        self.began = time.monotonic()

    def run(self, concurrency: int) -> dict[str, Any]:
        try:
            with self.change:
                while self.unfinished and not self.graph.cancelled.is_set():
                    self._begin(concurrency)
                    self.change.wait()
        except BaseException:
            # An interrupt (Ctrl-C): nothing may be begun after it, and what has been begun must have ended
            # before anybody removes what it makes.
            self.graph.cancelled.set()
            raise
        finally:
            for thread in self.threads:
                thread.join()
        if self.failures:
            raise GraphError(self.failures, [name for name in self.steps if name not in self.begun])
        return self.graph.results

    def _begin(self, concurrency: int) -> None:
        """Begins what is ready: those that wait at once, the others by what is ahead of them."""
        for name in sorted(self.ready, key=lambda n: (-self.steps[n].ahead, self.steps[n].order)):
            step = self.steps[name]
            if not step.waits:
                if self.working >= concurrency:
                    continue
                self.working += 1
            self.ready.remove(name)
            self.begun.add(name)
            self._tell(Progress(name, "started"))
            thread = threading.Thread(target=self._step, args=(step,), name=f"step {name}", daemon=True)
            self.threads.append(thread)
            thread.start()

    def _tell(self, progress: Progress) -> None:
        """Shows progress; a display that breaks must not stop what is being made halfway."""
        with suppress(Exception):
            self.tell(progress)

    def _step(self, step: _Step) -> None:
        start = time.monotonic()
        error: BaseException | None = None
        result: Any = None
        try:
            result = step.action()
        except BaseException as raised:  # noqa: BLE001 - handed to the caller of run() with the step's name
            error = raised
        seconds = time.monotonic() - start
        with self.change:
            self.unfinished -= 1
            self.working -= not step.waits
            if error is None:
                self.graph.results[step.name] = result
                self.graph.timings.append(Timing(step.name, start - self.began, seconds, step.after))
                for follower in self.followers[step.name]:
                    self.waiting[follower].discard(step.name)
                    if not self.waiting[follower]:
                        self.ready.add(follower)
                self._tell(Progress(step.name, "done", seconds))
            else:
                self.failures[step.name] = error
                self.graph.cancelled.set()
                self._tell(Progress(step.name, "failed", seconds, _text(error)))
            self.change.notify_all()


def table(timings: Iterable[Timing], path: Iterable[Timing] = ()) -> str:
    """The steps as text, in the order of their beginning; those of the critical path are starred."""
    starred = {timing.step for timing in path}
    rows = sorted(timings, key=lambda timing: timing.started)
    return "\n".join(
        f"{'*' if row.step in starred else ' '} {row.started:7.2f} s  {row.seconds:6.2f} s  {row.step}"
        for row in rows
    )
