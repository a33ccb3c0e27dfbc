"""A client that asks a service at a steady pace while something happens to it: what is lost, and how long answers take.

>>> with SteadyClient("http://12.7.5.47:30080/", '{"hello":"world"}') as client:
...     client.run(3, "before")
...     move()
...     client.phase("after")
...     client.run(3)
>>> client.course().lost

Requests are due at fixed moments, whatever became of those before them, and an answer's time counts from when its request
was due: a service that stands still for a second is so seen to delay all that were due in it, not one request alone.
"""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from probes.observation import Observation, Outcome, evidence

RATE = 20.0
"""Requests a second."""
TIMEOUT = 2.0
"""Seconds for an answer; a request without one by then is lost."""
CLIENTS = 48
"""At most so many requests wait at the same time: more than come due while one may wait."""


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        due: when it was due, in seconds since the first.
        seconds: from then to its answer, or to where it was given up.
        lost: why there is no right answer; empty where there is.
        server: who answered, as the answer's headers ``X-Node`` and ``X-Pod`` say.
    """

    phase: str
    due: float
    seconds: float
    lost: str = ""
    server: str = ""


@dataclass(frozen=True)
class Course:
    """All requests of a client, in order, and the looks that show them, one for each phase."""

    url: str
    requests: Sequence[Request]
    started: float

    @property
    def lost(self) -> list[Request]:
        return [each for each in self.requests if each.lost]

    @property
    def phases(self) -> list[str]:
        return list(dict.fromkeys(each.phase for each in self.requests))

    def of(self, phase: str) -> list[Request]:
        return [each for each in self.requests if each.phase == phase]

    def slowest(self, phase: str) -> float:
        """Milliseconds that the slowest answer of a phase took; 0 where there was none."""
        return max((each.seconds for each in self.of(phase) if not each.lost), default=0.0) * 1000

    def servers(self, phase: str) -> Counter[str]:
        """Who answered how often; without those that do not say who they are."""
        return Counter(each.server for each in self.of(phase) if each.server)

    def observations(self, source: str = "desktop") -> list[Observation]:
        return [self._observation(phase, source) for phase in self.phases]

    def _observation(self, phase: str, source: str) -> Observation:
        mine = self.of(phase)
        answered = sorted(each.seconds * 1000 for each in mine if not each.lost)
        numbers = {
            "sent": float(len(mine)),
            "received": float(len(answered)),
            "lost": float(len(mine) - len(answered)),
        }
        if answered:
            numbers["median_ms"] = round(statistics.median(answered), 1)
            numbers["slowest_ms"] = round(answered[-1], 1)
        lines = [f"{phase}: {len(mine)} requests, {len(mine) - len(answered)} lost"]
        if answered:
            lines[0] += f", median {numbers['median_ms']:g} ms, slowest {numbers['slowest_ms']:g} ms"
        lines += [f"{count} answered by {server}" for server, count in self.servers(phase).most_common(8)]
        lines += [
            f"{count} lost: {why}"
            for why, count in Counter(each.lost for each in mine if each.lost).most_common(8)
        ]
        first, last = (mine[0].due, mine[-1].due) if mine else (0.0, 0.0)
        outcome = Outcome.REACHABLE if answered else Outcome.NO_ANSWER
        return Observation(
            "http", source, self.url, f"GET {self.url} steadily, {phase}", outcome, "\n".join(lines), numbers,
            self.started + first, last - first,
        )  # fmt: skip


def breaches(course: Course, *, max_lost: int, max_latency_ms: float) -> list[str]:
    """Where a course is not within an SLA, a line each.

    Args:
        max_lost: requests that may be lost, of all.
        max_latency_ms: milliseconds that no answer may take.
    """
    found = []
    if len(course.lost) > max_lost:
        where = ", ".join(
            f"{count} {phase}" for phase, count in Counter(each.phase for each in course.lost).items()
        )
        why = Counter(each.lost for each in course.lost).most_common(1)[0][0]
        found.append(
            f"{len(course.lost)} of {len(course.requests)} requests were lost ({where}; {why}), "
            f"the SLA allows {max_lost}"
        )
    found += [
        f"the slowest answer {phase} took {course.slowest(phase):.0f} ms, the SLA allows {max_latency_ms:g} ms"
        for phase in course.phases
        if course.slowest(phase) > max_latency_ms
    ]
    return found


@dataclass
class SteadyClient:
    """Asks from this process's own network, each time on a new connection.

    Attributes:
        url: of the service.
        expect: the JSON document that is the right answer.
    """

    url: str
    expect: str
    rate: float = RATE
    timeout: float = TIMEOUT
    clients: int = CLIENTS
    _phase: str = "before"
    _requests: list[Request] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _end: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _next: int = 0
    _began: float = 0.0
    _started: float = 0.0

    def __enter__(self) -> Self:
        self._began, self._started = time.monotonic(), time.time()
        self._threads = [
            threading.Thread(target=self._work, name=f"client {n}", daemon=True) for n in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def phase(self, name: str) -> None:
        """Requests that come due from now on are of this phase."""
        with self._lock:
            self._phase = name

    def run(self, seconds: float, phase: str = "") -> None:
        """Goes on asking for so long."""
        if phase:
            self.phase(phase)
        self._end.wait(seconds)

    def course(self) -> Course:
        """What was asked and answered until now; its looks are evidence. Of a client that has ended, all."""
        with self._lock:
            made = Course(self.url, sorted(self._requests, key=lambda each: each.due), self._started)
        for seen in made.observations():
            evidence.add(seen)
        return made

    def _work(self) -> None:
        while True:
            with self._lock:
                due, self._next = self._next / self.rate, self._next + 1
            if self._end.wait(max(0.0, self._began + due - time.monotonic())):
                return
            with self._lock:
                phase = self._phase
            lost, server = self._ask()
            taken = time.monotonic() - self._began - due
            with self._lock:
                self._requests.append(Request(phase, due, taken, lost, server))

    def _ask(self) -> tuple[str, str]:
        """Why there is no right answer, and who answered."""
        split = urlsplit(self.url)
        connection = http.client.HTTPConnection(split.hostname or "", split.port, timeout=self.timeout)
        try:
            connection.request("GET", split.path or "/")
            answer = connection.getresponse()
            body = answer.read(10_000).decode("utf-8", "replace")
            server = " ".join(filter(None, (answer.getheader(name) for name in ("X-Node", "X-Pod"))))
        except TimeoutError:
            return f"no answer within {self.timeout:g} s", ""
        except ConnectionRefusedError:
            return "connection refused", ""
        except (OSError, http.client.HTTPException) as error:
            return (getattr(error, "strerror", None) or type(error).__name__).lower(), ""
        finally:
            connection.close()
        if answer.status != 200:
            return f"HTTP {answer.status}", server
        return ("" if same_json(body, self.expect) else "another answer"), server


def same_json(text: str, expected: str) -> bool:
    """Whether two texts are the same JSON document, however it is written."""
    try:
        return bool(json.loads(text) == json.loads(expected))
    except ValueError:
        return False
