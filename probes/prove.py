"""What looks prove: reached, not reached, and when neither can be told."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from probes.observation import Observation, Outcome, Unproven, evidence

if TYPE_CHECKING:
    from probes.probe import Probe

_MEANING = {
    Outcome.FILTERED: "nothing came back: a firewall or security group drops it, or the target is down",
    Outcome.REFUSED: "somebody said no: nothing listens on that port, or a firewall rejects it",
    Outcome.NO_ROUTE: "the source itself has no route there: see its routing table (ip route)",
    Outcome.UNREACHABLE: "the last router, or the source on its own network, found nobody at that address",
    Outcome.NAME_ERROR: "the name has no address",
    Outcome.NO_ANSWER: "the connection was made, but the service hung up or said nothing",
    Outcome.NOT_MADE: "the source could not even try",
}


STOOD_STILL = "late"
"""Number of a silent look that ended long after its window, in seconds: its source, or this machine, stood still."""


class OtherThanExpected(AssertionError):  # noqa: N818 - what is found, not what went wrong
    """Looks showed something else than they should.

    Attributes:
        observations: those that did.
    """

    def __init__(self, text: str, observations: Iterable[Observation]) -> None:
        super().__init__(text)
        self.observations = tuple(observations)


def look(*probes: Probe) -> list[Observation]:
    """Makes all looks at once and adds them to the evidence; the observations come in the order of the
    probes."""
    if not probes:
        return []
    with ThreadPoolExecutor(max_workers=len(probes), thread_name_prefix="probe") as threads:
        return [evidence.add(o) for o in threads.map(lambda probe: probe.look(), probes)]


def _heard(probes: Sequence[Probe], seen: list[Observation]) -> list[Observation]:
    """What was seen; of a source that stood still, and did not hear what came, what it sees when it looks once more."""
    if still := [place for place, one in enumerate(seen) if STOOD_STILL in one.numbers]:
        for place, one in zip(still, look(*(probes[place] for place in still)), strict=True):
            seen[place] = one
    return seen


def facts(*probes: Probe) -> list[Observation]:
    """Makes looks whose output is to be read, all at once.

    Raises:
        Unproven: one could not be made.
    """
    __tracebackhide__ = True
    seen = look(*probes)
    _unproven_if(
        [o for o in seen if o.outcome is Outcome.NOT_MADE], "cannot be told: a look could not be made"
    )
    return seen


def reached(*probes: Probe) -> list[Observation]:
    """Asserts that every target is reached.

    Raises:
        AssertionError: one is not.
        Unproven: all others are, but a source could not look, or stood still while it did, twice.
    """
    __tracebackhide__ = True
    seen = _heard(probes, look(*probes))
    failed = [o for o in seen if not o.reached]
    if all(o.outcome is Outcome.NOT_MADE or STOOD_STILL in o.numbers for o in failed):
        _unproven_if(failed, "cannot be told: a look could not be made")
    if failed:
        raise OtherThanExpected(
            _report(f"{len(failed)} of {len(seen)} not reached that should be:", failed)
            + _report("\nreached:", [o for o in seen if o.reached]),
            failed,
        )
    return seen


def not_reached(*probes: Probe, alive: Sequence[Probe]) -> list[Observation]:
    """Asserts that no target is reached, and that this means something.

    The controls are looked at together with the probes and once more when their windows are over: a target
    that died meanwhile, or a source that lost its network, would be "not reached" too.

    Args:
        probes: what must not be reached, each for its whole window.
        alive: positive controls. Between them they show that the targets answer somebody, and that each
            source reaches something on that path. A ``fact`` holds when its command ends with status 0.

    Returns:
        The observations of the probes.

    Raises:
        ValueError: no control, or none from one of the sources.
        AssertionError: a target is reached (which is so whatever the controls say).
        Unproven: a look was not made, or a control did not hold.
    """
    __tracebackhide__ = True
    _check_controls(probes, alive)
    seen = look(*probes, *alive)
    seen, controls = seen[: len(probes)], _heard(alive, seen[len(probes) :])
    if open_ones := [o for o in seen if o.reached]:
        raise OtherThanExpected(
            _report(f"{len(open_ones)} of {len(seen)} reached that should not be:", open_ones), open_ones
        )
    _unproven_if(
        [o for o in seen if o.outcome is Outcome.NOT_MADE], "cannot be told: a look could not be made"
    )
    _unproven_if([o for o in controls if not _holds(o)], "cannot be told: a control did not answer")
    quick = [probe.quick() for probe in alive]
    again = _heard(quick, look(*quick))
    _unproven_if(
        [o for o in again if not _holds(o)], "cannot be told: a control answered at first, but no longer"
    )
    return seen


def wait_until(probe: Probe, *, reached: bool, within: float, alive: Sequence[Probe] = ()) -> Observation:
    """Looks again until the target is (or is no longer) reached, for what takes effect with a delay.

    Args:
        probe: the look; reached=False accepts only one that lasted its whole window.
        reached: what is waited for.
        within: seconds in which the last look may begin.
        alive: controls for reached=False, made together with the look that is accepted.

    Returns:
        The look that showed it.

    Raises:
        AssertionError: it never came.
        Unproven: the last look could not be made, or a control did not hold.
    """
    __tracebackhide__ = True
    began = time.monotonic()
    while True:
        left = began + within - time.monotonic()
        this = _shortened(probe, left) if reached else probe
        seen, *controls = look(this, *(() if reached else alive))
        if seen.reached is reached and seen.outcome is not Outcome.NOT_MADE:
            _unproven_if([o for o in controls if not _holds(o)], "cannot be told: a control did not answer")
            return seen
        if time.monotonic() >= began + within:
            break
        time.sleep(min(0.25, max(0.0, began + within - time.monotonic())))
    _unproven_if(
        [seen] if seen.outcome is Outcome.NOT_MADE else [], "cannot be told: the look could not be made"
    )
    wanted = "reached" if reached else "out of reach"
    text = _report(f"{probe} was not {wanted} within {within:g} s; the last look:", [seen])
    raise OtherThanExpected(text, [seen])


def _shortened(probe: Probe, left: float) -> Probe:
    window = getattr(probe, "window", None)
    if window is None or window <= left:
        return probe
    return replace(probe, window=max(1.0, left))  # type: ignore[call-arg]


def _check_controls(probes: Sequence[Probe], alive: Sequence[Probe]) -> None:
    if not probes:
        raise ValueError("not_reached: no probe")
    if not alive:
        raise ValueError("not_reached: no positive control (alive=): 'not reached' would prove nothing")
    sources = {id(control.source) for control in alive}
    lonely = sorted({probe.source.name for probe in probes if id(probe.source) not in sources})
    if lonely:
        raise ValueError(
            f"not_reached: no control (alive=) is made from {', '.join(lonely)}: "
            "nothing would show that it can reach anything"
        )


def _holds(observation: Observation) -> bool:
    if observation.outcome is Outcome.SEEN:
        return observation.numbers.get("status", 0.0) == 0.0
    return observation.reached


def _unproven_if(observations: Sequence[Observation], why: str) -> None:
    __tracebackhide__ = True
    if observations:
        error = Unproven(_report(f"{why}:", observations))
        error.observations = tuple(observations)
        raise error


def _report(title: str, observations: Iterable[Observation]) -> str:
    lines = [title]
    for observation in observations:
        lines += [f"  {line}" for line in str(observation).splitlines()]
        if meaning := _MEANING.get(observation.outcome):
            lines.append(f"      ({meaning})")
    return "\n".join(lines) if len(lines) > 1 else ""
