"""What waits when a run is being ended: for what is made no longer, for what is removed as before."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from probes.ending import ENDING, RunEndedError, check, pause
from probes.host import LocalHost
from provision.draft import Draft
from provision.graph import GraphError
from provision.holdings import Holdings
from provision.lab import Lab
from provision.mark import Mark
from provision.openstack import _failed
from provision.topology import Topology
from provision.waiters import WaitCancelled, WaitTimeout, until


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    yield
    ENDING.clear()


def soon() -> None:
    threading.Timer(0.3, ENDING.set).start()


def test_a_command_that_runs_is_given_up_and_none_is_begun() -> None:
    with LocalHost("desktop") as host:
        soon()
        began = time.monotonic()
        with pytest.raises(RunEndedError, match="desktop: waiting for a command's end: not done"):
            host.run("sleep 30", timeout=30)
        assert time.monotonic() - began < 5
        with pytest.raises(RunEndedError, match="desktop: true: not done, the run is being ended"):
            host.run("true")


def test_a_pause_ends_at_once() -> None:
    soon()
    with pytest.raises(RunEndedError, match="the image: not done"):
        pause(30, "the image")
    with pytest.raises(RunEndedError):
        check("another")


def test_a_wait_for_what_is_made_ends_and_one_for_what_is_removed_goes_on() -> None:
    soon()
    with pytest.raises(WaitCancelled):
        until(lambda: None, 30, "a server", every=0.1, cancelled=threading.Event())
    assert ENDING.is_set()
    with pytest.raises(WaitTimeout):
        until(lambda: None, 0.3, "the end of a server", every=0.1)


class NoCloud:
    """Of a cloud, what a step needs to say what it does."""

    lab: Lab

    def doing(self, tried: str) -> Any:
        from provision.cloud import doing

        return doing(tried)


def test_no_step_of_a_topology_is_begun_and_the_failure_says_why() -> None:
    topology = Topology.from_json(
        {"name": "one", "networks": [{"name": "front", "cidr": "10.5.7.0/24"}]}, source="here"
    )
    cloud: Any = NoCloud()
    draft = Draft(cloud, topology, Mark("ab12c", "one"), Holdings())
    made: list[str] = []
    draft.step("first", lambda: (made.append("first"), ENDING.set()), cost="look")
    draft.step("second", lambda: made.append("second"), cost="look", after=["first"])
    with pytest.raises(GraphError) as caught:
        draft.graph.run()
    assert made == ["first"]
    assert str(_failed(draft, caught.value)) == "topology one: the run is being ended"
