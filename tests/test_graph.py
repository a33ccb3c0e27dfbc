"""The concurrent runner of dependent steps."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from provision.graph import Graph, GraphError, Progress, table


def test_a_step_runs_after_what_it_depends_on() -> None:
    order: list[str] = []
    graph = Graph()
    graph.add("server", lambda: order.append("server"), after=("port", "key"))
    graph.add("port", lambda: order.append("port"), after=("subnet",))
    graph.add("key", lambda: order.append("key"))
    graph.add("subnet", lambda: order.append("subnet"))
    graph.run(concurrency=4)
    assert order.index("subnet") < order.index("port") < order.index("server")
    assert order[-1] == "server"


def test_results_are_kept_by_name_and_readable_by_later_steps() -> None:
    graph = Graph()
    graph.add("network", lambda: "id-1")
    graph.add("subnet", lambda: graph.results["network"] + "/subnet", after=("network",))
    assert graph.run() == {"network": "id-1", "subnet": "id-1/subnet"}


def test_independent_steps_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)
    graph = Graph()
    for name in "abc":
        graph.add(name, meeting.wait)
    graph.run(concurrency=3)


def test_no_more_steps_at_a_time_than_asked_for() -> None:
    lock, now, most = threading.Lock(), 0, 0
    pause = threading.Event()

    def action() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        pause.wait(0.01)
        with lock:
            now -= 1

    graph = Graph()
    for number in range(12):
        graph.add(str(number), action)
    graph.run(concurrency=2)
    assert most == 2


def test_the_longest_way_ahead_goes_first() -> None:
    order: list[str] = []
    graph = Graph()
    graph.add("tag", lambda: order.append("tag"), cost=0.1)
    graph.add("rule", lambda: order.append("rule"), cost=1)
    graph.add("network", lambda: order.append("network"), cost=0.1)
    graph.add("server", lambda: order.append("server"), after=("network",), cost=30)
    graph.run(concurrency=1)
    assert order == ["network", "server", "rule", "tag"]


def test_a_failure_cancels_what_has_not_begun_and_names_the_step() -> None:
    ran: list[str] = []

    def fail() -> None:
        raise RuntimeError("no more addresses on network public")

    graph = Graph()
    graph.add("floating IP", fail, cost=10)
    graph.add("after it", lambda: ran.append("after it"), after=("floating IP",))
    graph.add("unrelated", lambda: ran.append("unrelated"))
    with pytest.raises(GraphError) as caught:
        graph.run(concurrency=1)
    assert ran == []
    assert str(caught.value) == "floating IP: no more addresses on network public"
    assert set(caught.value.cancelled) == {"after it", "unrelated"}
    assert isinstance(caught.value.failures["floating IP"], RuntimeError)


def test_a_failure_lets_what_has_begun_end_and_keeps_its_result() -> None:
    begun, failed = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert failed.wait(10)
        return "made"

    def fail() -> None:
        assert begun.wait(10)
        raise ValueError("refused")

    graph = Graph()
    graph.add("slow", slow)
    graph.add("fail", fail)
    graph.add("next", lambda: "never", after=("slow",))
    with pytest.raises(GraphError) as caught:
        graph.run(concurrency=2, on_progress=lambda p: failed.set() if p.state == "failed" else None)
    assert graph.results == {"slow": "made"}
    assert caught.value.cancelled == ("next",)


def test_a_waiting_step_can_see_the_cancellation() -> None:
    graph = Graph()

    def fail() -> None:
        raise ValueError("boot failed")

    graph.add("wait", lambda: graph.cancelled.wait(10))
    graph.add("fail", fail)
    with pytest.raises(GraphError):
        graph.run(concurrency=2)
    assert graph.results["wait"] is True


def test_an_exception_without_text_is_told_by_its_type() -> None:
    graph = Graph()

    def fail() -> None:
        raise TimeoutError

    graph.add("router", fail)
    with pytest.raises(GraphError, match=r"^router: TimeoutError$"):
        graph.run()


def test_progress_tells_beginning_end_and_failure() -> None:
    seen: list[Progress] = []
    graph = Graph()
    graph.add("a", lambda: None)

    def fail() -> None:
        raise ValueError("full")

    graph.add("b", fail, after=("a",))
    with pytest.raises(GraphError):
        graph.run(on_progress=seen.append)
    assert [(p.step, p.state) for p in seen] == [
        ("a", "started"),
        ("a", "done"),
        ("b", "started"),
        ("b", "failed"),
    ]
    assert seen[-1].error == "full"


def test_a_circle_is_refused_before_anything_runs() -> None:
    ran: list[int] = []
    graph = Graph()
    graph.add("start", lambda: ran.append(1))
    graph.add("a", lambda: None, after=("b",))
    graph.add("b", lambda: None, after=("a",))
    with pytest.raises(ValueError, match="circle: a, b"):
        graph.run()
    assert not ran


def test_an_unknown_dependency_and_a_duplicate_are_refused() -> None:
    graph = Graph()
    graph.add("a", lambda: None, after=("sbunet",))
    with pytest.raises(ValueError, match="'a' is to run after 'sbunet', which is not a step"):
        graph.run()
    with pytest.raises(ValueError, match="'a' is there already"):
        graph.add("a", lambda: None)


def test_the_critical_path_is_the_chain_that_ended_last() -> None:
    graph = Graph()
    gate = threading.Event()
    graph.add("network", lambda: None)
    graph.add("port", lambda: None, after=("network",))
    graph.add("key", gate.set)
    graph.add("server", lambda: gate.wait(10), after=("port",))
    graph.run(concurrency=2)
    path = graph.critical_path()
    assert [timing.step for timing in path][-1] in {"server", "key"}
    assert all(one.ended <= two.started for one, two in pairwise(path))
    assert "* " in table(graph.timings, path)


def test_a_step_that_only_waits_takes_no_place() -> None:
    done = threading.Event()
    graph = Graph()
    graph.add("wait", lambda: done.wait(10), cost=100, waits=True)
    graph.add("work", done.set)
    assert graph.run(concurrency=1)["wait"] is True


def test_an_interrupt_begins_nothing_more_and_waits_for_what_runs() -> None:
    ended = threading.Event()

    def interrupt(progress: Progress) -> None:
        if progress.step == "second" and progress.state == "started":
            raise KeyboardInterrupt

    graph = Graph()
    graph.add("first", ended.set, cost=2)
    graph.add("second", lambda: None)
    graph.add("third", lambda: None, after=("second",))
    with pytest.raises(KeyboardInterrupt):
        graph.run(concurrency=2, on_progress=interrupt)
    assert ended.is_set()
    assert "third" not in graph.results


def test_an_empty_graph_ends_at_once() -> None:
    assert Graph().run() == {}
    assert Graph().critical_path() == []
