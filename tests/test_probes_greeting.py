"""The first line of a service: against real sockets of this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from probes.greeting import greeting
from probes.host import LocalHost
from probes.observation import Outcome

RIGHT = b"SSH-2.0-test\r\n"


@pytest.fixture(scope="module")
def here() -> Iterator[LocalHost]:
    with LocalHost("here") as host:
        yield host


@contextmanager
def saying(*lines: bytes) -> Iterator[int]:
    """A server whose connections are each greeted so, the last way from then on; keeps them open; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connections.append(server.accept()[0])
                except OSError:
                    return
                connections[-1].sendall(lines[min(len(connections), len(lines)) - 1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in connections:
                each.close()


def test_who_greets_rightly_is_reached(here: LocalHost) -> None:
    with saying(RIGHT) as port:
        assert greeting(here, "127.0.0.1", port).look().reached


@pytest.mark.parametrize("line", [b"HTTP/1.1 400 Bad Request\r\n", b""])
def test_who_says_something_else_or_nothing_is_not(here: LocalHost, line: bytes) -> None:
    with saying(line) as port:
        assert greeting(here, "127.0.0.1", port, window=1).look().outcome is Outcome.NO_ANSWER


def test_a_connection_that_says_nothing_is_given_up_while_there_is_time_for_another(here: LocalHost) -> None:
    with saying(b"", RIGHT) as port:
        seen = greeting(here, "127.0.0.1", port, window=10).look()
    assert (seen.outcome, seen.numbers["tries"]) == (Outcome.REACHABLE, 2)
