"""The lab's application: whether it gives its answer where it is asked."""

from __future__ import annotations

from collections.abc import Iterable

from probes.host import Host
from probes.observation import Observation
from probes.prove import OtherThanExpected
from probes.reach import HttpProbe, http, reached
from probes.steady import same_json

ANSWER = '{"hello":"world"}'
PORT = 5000


def hello(source: Host, address: object, port: int = PORT, *, window: float = 5.0) -> HttpProbe:
    """Asks the application at an address and port, by curl, from a host."""
    return http(source, f"http://{address}:{port}/", window=window)


def says_hello(probes: Iterable[HttpProbe]) -> list[Observation]:
    """Asserts that every one is answered by the application, all asked at once.

    Raises:
        AssertionError: one is not reached, or answers something else.
        Unproven: all others are, but a source could not look.
    """
    __tracebackhide__ = True
    seen = reached(*probes)
    if wrong := [each for each in seen if not _right(each)]:
        lines = [f"{len(wrong)} of {len(seen)} do not answer {ANSWER}:", *(f"  {each}" for each in wrong)]
        raise OtherThanExpected("\n".join(lines), wrong)
    return seen


def _right(seen: Observation) -> bool:
    return seen.numbers.get("status") == 200 and same_json(seen.output, ANSWER)
