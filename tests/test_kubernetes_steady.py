"""The steady client on real HTTP servers of this machine, and the application itself."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from probes.hello import ANSWER
from probes.observation import Outcome, evidence
from probes.steady import Course, Request, SteadyClient, breaches, same_json
from provision.manifests import PROGRAM


@contextmanager
def program() -> Iterator[tuple[subprocess.Popen[str], int]]:
    process = subprocess.Popen([sys.executable, str(PROGRAM), "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process, int(process.stdout.readline().rpartition(":")[2])
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def test_the_application_answers_as_the_labs_does_and_ends_when_told() -> None:
    with program() as (process, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert (answer.status, answer.read().decode()) == (200, ANSWER)
        assert answer.getheader("Content-Type") == "application/json"
        connection.request("GET", "/docs")
        assert connection.getresponse().status == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


class Slow(BaseHTTPRequestHandler):
    """Answers after a time that the server says."""

    def do_GET(self) -> None:
        time.sleep(self.server.wait)  # type: ignore[attr-defined]
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(self.server.status)  # type: ignore[attr-defined]
            self.send_header("X-Node", "worker1")
            self.end_headers()
            self.wfile.write(self.server.body)  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    made.wait, made.status, made.body = 0.0, 200, ANSWER.encode()  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def test_a_steady_service_loses_nothing(server: ThreadingHTTPServer) -> None:
    with (
        evidence.collect() as seen,
        SteadyClient(f"http://127.0.0.1:{server.server_port}/", ANSWER) as client,
    ):
        client.run(1.0, "before")
        client.run(1.0, "after")
    course = client.course()
    assert not course.lost
    assert course.phases == ["before", "after"]
    assert [each.due for each in course.requests] == [n / 20 for n in range(len(course.requests))]
    assert len(course.of("before")) >= 15
    assert len(course.of("after")) >= 15
    assert set(course.servers("after")) == {"worker1"}
    assert breaches(course, max_lost=0, max_latency_ms=500) == []
    assert seen == []
    looks = course.observations()
    assert [each.outcome for each in looks] == [Outcome.REACHABLE, Outcome.REACHABLE]
    assert looks[0].numbers["lost"] == 0
    assert f"{len(course.of('after'))} answered by worker1" in looks[1].output


def test_a_service_that_stands_still_delays_all_that_was_due(server: ThreadingHTTPServer) -> None:
    """0.6 s of standing still are seen as many slow answers, not as one."""
    with SteadyClient(f"http://127.0.0.1:{server.server_port}/", ANSWER) as client:
        client.run(0.3)
        server.wait = 0.6  # type: ignore[attr-defined]
        client.run(0.5, "during")
        server.wait = 0.0  # type: ignore[attr-defined]
        client.run(0.3, "after")
    course = client.course()
    assert not course.lost
    assert sum(each.seconds > 0.5 for each in course.of("during")) >= 8
    (told,) = breaches(course, max_lost=0, max_latency_ms=400)
    assert told.startswith("the slowest answer during took")


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, b'{"hello":"moon"}', "another answer"),
        (503, ANSWER.encode(), "HTTP 503"),
        (200, b"", "another answer"),
    ],
)
def test_a_wrong_answer_is_lost(server: ThreadingHTTPServer, status: int, body: bytes, why: str) -> None:
    server.status, server.body = status, body  # type: ignore[attr-defined]
    with SteadyClient(f"http://127.0.0.1:{server.server_port}/", ANSWER) as client:
        client.run(0.3)
    course = client.course()
    assert {each.lost for each in course.requests} == {why}
    assert "requests were lost" in breaches(course, max_lost=2, max_latency_ms=1000)[0]


def test_refused_and_late_requests_are_lost(server: ThreadingHTTPServer) -> None:
    with program() as (process, port):
        with SteadyClient(f"http://127.0.0.1:{port}/", ANSWER) as client:
            client.run(0.3)
            process.kill()
            process.wait()
            client.run(0.3, "after")
        assert {each.lost for each in client.course().of("after")[1:]} == {"connection refused"}
    server.wait = 1.0  # type: ignore[attr-defined]
    with SteadyClient(f"http://127.0.0.1:{server.server_port}/", ANSWER, timeout=0.3) as client:
        client.run(0.3)
    assert {each.lost for each in client.course().requests} == {"no answer within 0.3 s"}


def test_the_sla_allows_what_it_allows() -> None:
    requests = [Request("before", 0, 0.01), Request("during", 1, 0.02, "HTTP 503"), Request("during", 2, 0.9)]
    course = Course("http://x/", requests, 0.0)
    assert breaches(course, max_lost=1, max_latency_ms=900) == []
    lost, slow = breaches(course, max_lost=0, max_latency_ms=800)
    assert lost == "1 of 3 requests were lost (1 during; HTTP 503), the SLA allows 0"
    assert slow == "the slowest answer during took 900 ms, the SLA allows 800 ms"


def test_json_is_compared_as_json() -> None:
    assert same_json('{ "hello" : "world" }\n', ANSWER)
    assert not same_json("hello", ANSWER)
    assert not same_json(json.dumps(["hello", "world"]), ANSWER)
