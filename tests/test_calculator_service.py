"""Our services under load, bad clients, restarts and signals; each a real process on the loopback."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from provision.calculator.service import CONNECTIONS, REQUEST, REUSABLE
from tests.calculator_world import (
    IMPLEMENTATIONS,
    LOOPBACK,
    MICRO,
    Calculator,
    Service,
    backend,
    five,
    received,
    reply,
    running,
)
from tests.probes_world import until


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calculator]:
    with five("python", tmp_path_factory.mktemp("five")) as made:
        yield made


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Service]:
    with running("python", "sum", tmp_path) as made:
        yield made


def request_of(body: str, *fields: str, version: str = "1.1") -> bytes:
    head = [f"POST / HTTP/{version}", f"Content-Length: {len(body)}", *fields]
    return ("\r\n".join(head) + f"\r\n\r\n{body}").encode()


def test_curl_as_in_the_lab(lab: Calculator) -> None:
    argv = ["curl", "-sS", "-d", "(5+6)*2", "-X", "POST", lab.calculator.url]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("result = 22\n", "")


def test_a_slow_micro_service_holds_up_nobody_else(tmp_path: Path) -> None:
    held, free = threading.Event(), threading.Event()

    def slow(connection: socket.socket) -> None:
        received(connection)
        held.set()
        free.wait(20)
        connection.sendall(reply("22"))

    with ExitStack() as stack:
        quick = stack.enter_context(running("python", "sum", tmp_path))
        urls = {"SUM_URL": quick.url, "MUL_URL": stack.enter_context(backend(slow)), "BACKEND_TIMEOUT": "20"}
        calculator = stack.enter_context(running("python", "calculator", tmp_path, urls))
        pool = stack.enter_context(ThreadPoolExecutor(8))
        waiting = [pool.submit(calculator.post, "(5+6)*2") for _ in range(8)]
        assert held.wait(10)
        assert all(calculator.post(f"5+{n}") == (200, f"result = {5 + n}\n") for n in range(20))
        assert not any(job.done() for job in waiting)
        free.set()
        assert {job.result() for job in waiting} == {(200, "result = 22\n")}


def test_many_at_once_get_each_their_own_answer(lab: Calculator) -> None:
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda n: lab.calculator.post(f"({n}+1)*2-{n}/1"), range(400)))
    assert answers == [(200, f"result = {n + 2}\n") for n in range(400)]


def test_the_lines_of_a_request_stay_together_even_of_processes_that_share_a_log(tmp_path: Path) -> None:
    log = tmp_path / "all.log"
    with ExitStack() as stack:
        services = [
            stack.enter_context(running("python", name, tmp_path, log=log)) for name in ("sum", "mul")
        ]
        pool = stack.enter_context(ThreadPoolExecutor(32))
        for job in [pool.submit(services[n % 2].post, f"{n} {n + 1}") for n in range(600)]:
            assert job.result()[0] == 200
        text = log.read_text()
    blocks = re.findall(r"New request :\nA = (\d+)\nB = (\d+)\nA ([+*]) B = (\d+)\n", text)
    assert len(blocks) == 600
    assert len(text.splitlines()) == 4 * 600 + 2
    assert all(int(r) == (int(a) + int(b) if s == "+" else int(a) * int(b)) for a, b, s, r in blocks)


def test_a_connection_serves_again_and_again_and_ends_as_the_client_wishes(one: Service) -> None:
    with closing(http.client.HTTPConnection(LOOPBACK, one.port, timeout=10)) as connection:
        for n in range(5):
            connection.request("POST", "/", f"{n} 1")
            assert connection.getresponse().read() == f"{n + 1}\n".encode()
            assert connection.sock
    for end in (request_of("1 1", "Connection: close"), request_of("1 1", version="1.0")):
        assert one.raw(end, end=False).endswith(b"Connection: close\r\n\r\n2\n")


def test_requests_sent_at_once_over_one_connection_are_answered_in_order(one: Service) -> None:
    back = one.raw(
        b"".join(request_of(f"{n} 0") for n in range(100)) + request_of("1 1", "Connection: close")
    )
    assert [int(n) for n in re.findall(rb"\r\n\r\n(\d+)\n", back)] == [*range(100), 2]


def test_what_comes_byte_by_byte_is_understood(one: Service) -> None:
    with socket.create_connection((LOOPBACK, one.port), timeout=10) as connection:
        for byte in request_of("2 3", "Expect: 100-continue"):
            connection.sendall(bytes([byte]))
            time.sleep(0.002)
        assert b"100 Continue" in connection.recv(100)
        assert connection.recv(1000).endswith(b"\r\n\r\n5\n")


def test_clients_that_send_slowly_nothing_or_do_not_read_hold_nothing_for_ever(one: Service) -> None:
    """They have REQUEST seconds; meanwhile others are served, and afterwards their connections are gone."""
    idle = [socket.create_connection((LOOPBACK, one.port)) for _ in range(20)]
    slow = socket.create_connection((LOOPBACK, one.port))
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect((LOOPBACK, one.port))
    deaf.setblocking(False)
    sending = {slow: b"X", deaf: request_of("1 1") * 2000}
    ends = time.monotonic() + 4 * REQUEST
    while sending and time.monotonic() < ends:
        for client, message in [*sending.items()]:
            try:
                client.send(message)
            except BlockingIOError:
                continue
            except ConnectionError:
                del sending[client]
        assert one.post("2 3", within=2) == (200, "5\n")
        time.sleep(0.05)
    assert not sending, "not cut off"
    until(lambda: sockets_of(one) <= 3, "the connections closed", within=REQUEST)
    for client in (*idle, slow, deaf):
        client.close()


def test_a_client_that_is_still_sending_reads_why_it_is_refused(one: Service) -> None:
    with socket.create_connection((LOOPBACK, one.port), timeout=10) as client:
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 400000\r\n\r\n")
        for _ in range(20):
            client.sendall(b"1" * 20_000)
            time.sleep(0.005)
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def sockets_of(service: Service) -> int:
    """Its open sockets: one listens, two are the event loop's own."""
    files = Path(f"/proc/{service.pid}/fd")
    return sum(str(file.readlink()).startswith("socket:") for file in files.iterdir())


def test_more_connections_than_it_takes_wait_their_turn(one: Service) -> None:
    idle = [socket.create_connection((LOOPBACK, one.port)) for _ in range(CONNECTIONS + 20)]
    try:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(one.post, "2 3")
            time.sleep(0.5)
            assert not waiting.done()
            assert sockets_of(one) <= CONNECTIONS + 3
            for client in idle:
                client.close()
            assert waiting.result(5) == (200, "5\n")
    finally:
        for client in idle:
            client.close()


@pytest.mark.parametrize("pause", [0.0, REUSABLE + 0.2])
def test_a_micro_service_that_has_restarted_is_called_anew(tmp_path: Path, pause: float) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        old = first.enter_context(running("python", "sum", tmp_path))
        calculator = stack.enter_context(running("python", "calculator", tmp_path, {"SUM_URL": old.url}))
        with ThreadPoolExecutor(8) as pool:
            assert {a[0] for a in pool.map(calculator.post, ["1+1"] * 50)} == {200}
        first.close()
        down = calculator.post("1+1")
        assert down == (502, f"sum at {old.url} does not answer: connection refused\n")
        time.sleep(pause)
        new = stack.enter_context(running("python", "sum", tmp_path, port=old.port))
        assert calculator.post("1+1+1") == (200, "result = 3\n")
        assert new.requests() == 2


def test_connections_to_micro_services_are_used_again(tmp_path: Path) -> None:
    accepted = []

    def answer(connection: socket.socket) -> None:
        accepted.append(connection)
        while True:
            received(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n7")

    with (
        backend(answer) as url,
        running("python", "calculator", tmp_path, {"SUM_URL": url}) as calculator,
    ):
        assert calculator.post("1" + "+1" * 100) == (200, "result = 7\n")
        assert len(accepted) == 1


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", [*MICRO, "calculator"])
def test_a_signal_ends_it_cleanly_whatever_is_connected(tmp_path: Path, name: str, ending: int) -> None:
    argv = [*IMPLEMENTATIONS["python"], name, "--bind", LOOPBACK, "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        port = int(process.stdout.readline().rpartition(" ")[2])
        with socket.create_connection((LOOPBACK, port)), socket.create_connection((LOOPBACK, port)) as half:
            half.sendall(b"POST / HTTP/1.1\r\n")
            time.sleep(0.1)
            process.send_signal(ending)
            assert process.wait(5) == 0
        assert process.stderr.read() == ""


def test_it_listens_on_the_address_it_is_given_alone(tmp_path: Path) -> None:
    with running("python", "sum", tmp_path, None, "--bind", "127.0.0.2") as bound:
        socket.create_connection(("127.0.0.2", bound.port)).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, bound.port))
    with running("python", "sum", tmp_path, None, "--bind", "0.0.0.0") as everywhere:
        socket.create_connection(("127.0.0.3", everywhere.port)).close()


@pytest.mark.parametrize(
    ("settings", "words", "said"),
    [
        (
            {"MUL_URL": "10.0.0.3:50003"},
            [],
            "MUL_URL '10.0.0.3:50003' is not of the form http://ADDRESS:PORT",
        ),
        ({"MUL_URL": "http://x:99999"}, [], "Port out of range"),
        ({"BACKEND_TIMEOUT": "soon"}, [], "could not convert string to float: 'soon'"),
        ({}, ["--bind", "192.0.2.1"], "cannot assign requested address"),
        ({}, ["--port", "70000"], "port must be 0-65535"),
    ],
)
def test_what_it_cannot_start_with_is_one_line(settings: dict[str, str], words: list[str], said: str) -> None:
    argv = [*IMPLEMENTATIONS["python"], "calculator", "--bind", LOOPBACK, "--port", "0", *words]
    done = subprocess.run(
        argv, env=os.environ | settings, capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert said in done.stderr


def test_a_log_that_cannot_be_written_does_not_stop_it() -> None:
    # /dev/full: every write fails as on a full disk (full(4))
    port = 0
    with socket.create_server((LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    argv = [*IMPLEMENTATIONS["python"], "sum", "--bind", LOOPBACK, "--port", str(port)]
    with open("/dev/full", "wb") as full, subprocess.Popen(argv, stdout=full) as process:  # noqa: PTH123
        try:
            service = Service("sum", port, process.pid, Path("/dev/null"))
            until(lambda: socket.socket().connect_ex((LOOPBACK, port)) == 0, "it listens")
            assert service.post("2 3") == (200, "5\n")
        finally:
            process.terminate()
    assert process.returncode == 0
