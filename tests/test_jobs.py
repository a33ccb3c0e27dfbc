"""Work in the background: run once, waited for, what it saw handed to who asks; and the castaway's words."""

from __future__ import annotations

import threading
import time

import pytest

from fixtures.jobs import Jobs
from fixtures.operations import Round, read_rounds
from probes.observation import Observation, Outcome, evidence


def seen(what: str) -> Observation:
    return Observation("command", "vm", "vm", what, Outcome.SEEN)


def test_a_job_runs_once_and_jobs_wait_for_one_another():
    began: list[str] = []
    work: dict = {}
    jobs = Jobs(work, on_end=lambda *_: None)
    work["first"] = lambda: began.append("first") or 1
    work["second"] = lambda: jobs.result("first") + 1
    work["third"] = lambda: jobs.result("second") + 1
    jobs.start(["third", "second"])
    assert jobs.result("third") == 3
    assert began == ["first"]
    jobs.wait()


def test_more_jobs_than_were_known_at_first_do_not_block_one_another():
    work: dict = {}
    jobs = Jobs(work, on_end=lambda *_: None)
    all_there = threading.Barrier(8)
    work.update({str(n): lambda: all_there.wait(10) for n in range(8)})
    jobs.start(work)
    assert sorted(jobs.result(name) for name in work) == list(range(8))
    jobs.wait()


def test_what_a_job_saw_belongs_to_the_check_that_asks_first():
    jobs = Jobs({"look": lambda: evidence.add(seen("in the background"))}, on_end=lambda *_: None)
    with evidence.collect() as another_check:
        jobs.start(["look"])
        jobs.wait()
    with evidence.collect() as first:
        jobs.result("look")
    with evidence.collect() as second:
        jobs.result("look")
    assert another_check == []
    assert [each.command for each in first] == ["in the background"]
    assert second == []


def test_what_a_job_saw_is_left_to_a_check_by_the_jobs_that_use_it():
    work: dict = {"look": lambda: (evidence.add(seen("in the background")), 5)[1], "fails": lambda: 1 / 0}
    jobs = Jobs(work, on_end=lambda *_: None)
    work["more"] = lambda: jobs.use("look") + 1
    assert jobs.result("more") == 6
    with evidence.collect() as check:
        jobs.result("look")
    assert [each.command for each in check] == ["in the background"]
    assert (jobs.finished("look"), jobs.finished("fails")) == (True, False)
    with pytest.raises(ZeroDivisionError):
        jobs.use("fails")
    jobs.wait()


def test_jobs_that_jobs_begin_are_waited_for_too():
    work: dict = {}
    over: list[str] = []
    jobs = Jobs(work, on_end=lambda *_: None)
    work["first"] = lambda: jobs.start(["second"])
    work["second"] = lambda: time.sleep(0.2) or over.append("second")
    jobs.start(["first"])
    jobs.wait_for_all()
    assert over == ["second"]
    jobs.wait()


def test_a_job_is_put_in_place_of_one_that_has_not_begun():
    jobs = Jobs({"turn": lambda: 1, "begun": lambda: 2}, on_end=lambda *_: None)
    jobs.put("turn", lambda: 3)
    assert jobs.result("turn") == 3
    jobs.finished("begun")
    with pytest.raises(AssertionError, match="begun has begun"):
        jobs.put("begun", lambda: 4)
    jobs.wait()


def test_who_asks_for_a_job_that_failed_gets_its_error_each_time():
    jobs = Jobs({"boot": lambda: 1 / 0}, on_end=lambda *_: None)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            jobs.result("boot")
    jobs.wait()


def test_what_a_job_saw_before_it_failed_is_evidence_too():
    def fails() -> None:
        evidence.add(seen("the last thing it did"))
        raise AssertionError("it does not answer")

    jobs = Jobs({"look": fails}, on_end=lambda *_: None)
    with evidence.collect() as check, pytest.raises(AssertionError, match="does not answer"):
        jobs.result("look")
    assert [each.command for each in check] == ["the last thing it did"]


def test_only_complete_rounds_of_the_console_count():
    console = (
        "boot noise\nlabproof-castaway: round 1 inside 3 received\n"
        "labproof-castaway: round 1 outside ping: connect: Network is unreachable\n"
        "labproof-castaway: round 2 inside 2 received\nother\nlabproof-castaway: round 2 outside 1 received\n"
        "labproof-castaway: round 3 inside 3 received\n"
    )
    assert read_rounds(console) == [Round(1, 3, 0), Round(2, 2, 1)]
