"""The calculator's wire protocol, asked of real processes: of our services and of the Node.js ones alike."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tests.calculator_expressions import EXPRESSIONS, Unknowable, agrees, exact
from tests.calculator_world import (
    IMPLEMENTATIONS,
    LOOPBACK,
    MICRO,
    Answer,
    Calculator,
    Service,
    backend,
    closed_port,
    five,
    received,
    reply,
    running,
)

BODY = 4096
LIMIT = 1.0
FUZZ = settings(max_examples=100, deadline=None, database=None)


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calculator]:
    with five(request.param, tmp_path_factory.mktemp(request.param)) as made:
        yield made


@pytest.fixture(scope="module", params=["sum", "calculator"])
def service(lab: Calculator, request: pytest.FixtureRequest) -> Service:
    """One of either kind: they have their HTTP in common."""
    return lab.calculator if request.param == "calculator" else lab.micro[request.param]


def still_serves(service: Service) -> bool:
    return service.post("2 3" if service.name in MICRO else "5") in ((200, "5\n"), (200, "result = 5\n"))


@pytest.mark.parametrize(
    ("name", "body", "answer"),
    [
        ("sum", "2 3", "5"),
        ("sub", "5 3", "2"),
        ("sub", "8 3", "5"),
        ("sub", "12 3", "9"),
        ("mul", "12 3", "36"),
        ("div", "15 5", "3"),
        ("div", "15 4", "3.75"),
        ("sum", "0.1 0.2", "0.3"),
        ("sub", "3 5", "-2"),
        ("sum", " -2\t+3.0\n", "1"),
        ("mul", "12345678901234567890 1000000007", "12345678987654320198641975230"),
        ("div", "1 3", "0.3333333333333333333333333333333333333333"),
    ],
)
def test_each_micro_service_alone(lab: Calculator, name: str, body: str, answer: str) -> None:
    assert lab.micro[name].post(body) == (200, f"{answer}\n")


@pytest.mark.parametrize(
    ("name", "body", "lines"),
    [
        ("sum", "2 3", ["A = 2", "B = 3", "A + B = 5"]),
        ("sub", "5 3", ["A = 5", "B = 3", "A - B = 2"]),
        ("mul", "12 3", ["A = 12", "B = 3", "A * B = 36"]),
        ("div", "15.0 5", ["A = 15", "B = 5", "A / B = 3"]),
    ],
)
def test_each_logs_its_port_and_its_requests(lab: Calculator, name: str, body: str, lines: list[str]) -> None:
    one = lab.micro[name]
    one.post(body)
    assert one.lines()[0] == f"Listening on port : {one.port}"
    assert one.lines()[-4:] == ["New request :", *lines]


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("(5+6)*2", "22"),
        ("(10+26)*2", "72"),
        ("(5+3)*2", "16"),
        ("5+6*2", "17"),
        ("8-3-2", "3"),
        ("15/4", "3.75"),
        ("-(2+3)*2", "-10"),
        ("2--3", "5"),
        (" 1\n+ 2 ", "3"),
        ("0.1+0.2", "0.3"),
        ("1/3*3", "1"),
        ("1/3*3-1", "0"),
        ("-7", "-7"),
        ("3.0", "3"),
    ],
)
def test_the_calculator(lab: Calculator, expression: str, result: str) -> None:
    assert lab.calculator.post(expression) == (200, f"result = {result}\n")


@pytest.mark.parametrize(
    ("expression", "calls"),
    [
        ("(5+6)*2", {"sum": 1, "sub": 0, "mul": 1, "div": 0}),
        ("(1+2)*(3+4)/7-5*2", {"sum": 2, "sub": 1, "mul": 2, "div": 1}),
        ("-(1+1)", {"sum": 1, "sub": 1, "mul": 0, "div": 0}),
        ("-5", dict.fromkeys(MICRO, 0)),
        ("(1+2)*", dict.fromkeys(MICRO, 0)),
    ],
)
def test_the_micro_services_log_one_request_for_each_operation(
    lab: Calculator, expression: str, calls: dict[str, int]
) -> None:
    assert lab.calls(expression)[1] == calls


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_what_the_micro_services_answer_is_what_comes_out(implementation: str, tmp_path: Path) -> None:
    seen: list[str] = []

    def answering(name: str, answer: str) -> Callable[[socket.socket], None]:
        def behave(connection: socket.socket) -> None:
            seen.append(f"{name} {received(connection)}")
            connection.sendall(reply(f"{answer}\n"))

        return behave

    with ExitStack() as stack:
        urls = {
            f"{name.upper()}_URL": stack.enter_context(backend(answering(name, answer)))
            for name, answer in {"sum": "70", "sub": "0.5", "mul": "-3.0", "div": "11"}.items()
        }
        calculator = stack.enter_context(running(implementation, "calculator", tmp_path, urls))
        assert calculator.post("(1+2)*(3-4)/5 + -(6)") == (200, "result = 70\n")
    # left to right, each once, on the results of those before
    assert seen == ["sum 1 2", "sub 3 4", "mul 70 0.5", "div -3 5", "sub 0 6", "sum 11 0.5"]


@given(expression=EXPRESSIONS)
@FUZZ
def test_random_expressions_agree_with_exact_rational_arithmetic(lab: Calculator, expression: str) -> None:
    try:
        wanted = exact(expression)
    except ZeroDivisionError:
        status, text = lab.calculator.post(expression)
        assert status == 400
        assert "division by zero" in text
    except Unknowable:
        reject()
    else:
        (status, text), calls = lab.calls(expression)
        assert status == 200, text
        assert agrees(text.removeprefix("result = ").removesuffix("\n"), wanted)
        assert sum(calls.values()) == wanted.operations


# ---------- Bad input


def is_refused(answer: Answer, status: int) -> bool:
    """One line of reason comes with it."""
    return answer[0] == status and re.fullmatch(r"[ -~]+\n", answer[1]) is not None


@pytest.mark.parametrize(
    "body",
    [
        *["", "2", "2 3 4", "2,3", "a b", "2 1e5", "nan 1", "1 inf", "0x10 1", "1_0 2", "\u0662 3"],
        *["1" * 41 + " 1", "1 ." + "1" * 41, f"{'9' * 40} {'9' * 40}", b"\xff\xfe 1"],
    ],
)
def test_what_is_not_two_numbers_is_refused(lab: Calculator, body: str | bytes) -> None:
    assert is_refused(lab.micro["mul"].post(body), 400)
    assert lab.micro["mul"].post("2 3") == (200, "6\n")


@pytest.mark.parametrize(
    "body",
    [
        *[
            "",
            " ",
            "1+",
            "*1",
            "1 2",
            "(1",
            "1)",
            "()",
            "2**3",
            "1e5",
            "nan",
            "inf",
            "1;2",
            "x",
            "1,5",
            "1.2.3",
        ],
        *["(" * 51 + "1" + ")" * 51, "(" * BODY, "-" * BODY, "1" * 41, "2(3)", b"\xc3\x28", b"1+\x00"],
        *["1/0", "1/(2-2)", f"{'9' * 40}*10"],
    ],
)
def test_what_is_no_expression_is_refused(lab: Calculator, body: str | bytes) -> None:
    assert is_refused(lab.calculator.post(body), 400)
    assert lab.calculator.post("(5+6)*2") == (200, "result = 22\n")


def test_a_body_that_is_not_utf_8_is_told_so(service: Service) -> None:
    status, text = service.post(b"2 3\xff")
    assert is_refused((status, text), 400)
    assert "not UTF-8" in text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_another_method_is_refused(service: Service, method: str) -> None:
    assert is_refused(service.post("2 3", method=method), 405)
    assert still_serves(service)


def test_a_body_too_long_is_refused_however_long(service: Service) -> None:
    for length in (BODY + 1, 100_000, 900_000):
        assert is_refused(service.post("1" * length), 413)
    assert still_serves(service)


def test_a_body_as_long_as_allowed_is_read(service: Service) -> None:
    text = "2 3" if service.name == "sum" else "5"
    assert service.post(text.ljust(BODY))[0] == 200


def status_of(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n", answer)
    assert found, answer
    return int(found[1])


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST / HTTP/1.1\r\nHost: x\r\n\r\n2 3", 411),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n2 3\r\n0\r\n\r\n", 411),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n2 3", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\n2 3", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 3\r\n\r\n2 3", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n2 3", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\n2 3", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n2 3", 413),
        ("POST / HTTP/1.1\r\nContent-", 400),
        ("hello\r\n\r\n", 400),
        ("POST / HTPT/1.1\r\nContent-Length: 0\r\n\r\n", 400),
    ],
)
def test_what_is_not_http_or_says_no_length_is_refused(service: Service, head: str, status: int) -> None:
    assert status_of(service.raw(head.encode())) == status
    assert still_serves(service)


def test_a_length_and_chunks_at_once_are_refused(service: Service) -> None:
    fields = "Content-Length: 3\r\nTransfer-Encoding: chunked"
    answer = service.raw(f"POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n2 3".encode())
    assert status_of(answer) in (400, 411)
    assert answer.count(b"HTTP/1.1 ") == 1


@given(body=st.binary(max_size=300) | st.text("0123456789.+-*/() ", max_size=60).map(str.encode))
@FUZZ
def test_any_body_is_answered_or_refused(service: Service, body: bytes) -> None:
    status, text = service.post(body)
    assert status == 200 or is_refused((status, text), 400)


FIELDS = st.sampled_from(
    ["Content-Length", "Connection", "Expect", "Host", "Transfer-Encoding", "X", "", "\x00"]
)
VALUES = st.sampled_from(
    ["3", "0", "-1", "close", "keep-alive", "chunked", "identity", "1" * 30, "\t", "\xff"]
)
HEADS = st.tuples(
    st.sampled_from(["POST", "GET", "HEAD", "post", "CONNECT", "", "P\xd6ST"]),
    st.sampled_from(["/", "*", "http://x/", "/" * 9000, ""]),
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "HTTP/1.", ""]),
    st.lists(st.tuples(FIELDS | st.text(max_size=3), VALUES | st.text(max_size=5)), max_size=5),
).map(lambda parts: " ".join(parts[:3]) + "".join(f"\r\n{name}: {value}" for name, value in parts[3]))


@given(
    message=st.binary(max_size=200)
    | st.tuples(HEADS.map(lambda head: head.encode("utf-8", "replace")), st.binary(max_size=20)).map(
        b"\r\n\r\n".join
    )
)
@FUZZ
def test_whatever_is_sent_there_is_no_error_of_its_own_nor_a_hang(service: Service, message: bytes) -> None:
    answer = service.raw(message, within=15)
    assert not answer or re.match(rb"HTTP/1\.1 [1234]\d\d ", answer)
    assert still_serves(service)


# ---------- Micro-services that do not do their part


def silent(connection: socket.socket) -> None:
    received(connection)
    connection.recv(1)


def dripping(connection: socket.socket) -> None:
    received(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n")
    for _ in range(400):
        connection.sendall(b"1")
        time.sleep(LIMIT / 4)


def endless(connection: socket.socket) -> None:
    received(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"1" * 65536)


def endless_head(connection: socket.socket) -> None:
    received(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: 1\r\n" * 1000)


def answering(message: bytes) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        received(connection)
        connection.sendall(message)

    return behave


WRONG: dict[str, Callable[[socket.socket], None]] = {
    "silent": silent,
    "dripping": dripping,
    "endless": endless,
    "endless head": endless_head,
    "closing": answering(b""),
    "not HTTP": answering(b"SSH-2.0-OpenSSH\r\n\r\n"),
    "cut short": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n5"),
    "not a number": answering(reply("five")),
    "NaN": answering(reply("NaN")),
    "Infinity": answering(reply("Infinity")),
    "an exponent": answering(reply("1e+21")),
    "nothing": answering(reply("")),
    "two numbers": answering(reply("5 6")),
    "not text": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\x00"),
    "500": answering(reply("5", "500 Internal Server Error")),
    "404": answering(reply("5", "404 Not Found")),
    "302": answering(reply("5", "302 Found")),
}


@pytest.fixture(params=IMPLEMENTATIONS)
def with_mul(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[str], tuple[Service, dict[str, Service]]]]:
    """A calculator whose ``mul`` is at a given URL, and its sum."""
    with ExitStack() as stack:

        def start(url: str) -> tuple[Service, dict[str, Service]]:
            micro = {"sum": stack.enter_context(running(request.param, "sum", tmp_path))}
            urls = {"SUM_URL": micro["sum"].url, "MUL_URL": url, "BACKEND_TIMEOUT": str(LIMIT)}
            return stack.enter_context(running(request.param, "calculator", tmp_path, urls)), micro

        yield start


@pytest.mark.parametrize("how", WRONG)
def test_a_micro_service_that_answers_wrong_or_not_is_named_in_time(
    with_mul: Callable[[str], tuple[Service, dict[str, Service]]], how: str
) -> None:
    with backend(WRONG[how]) as url:
        calculator, _ = with_mul(url)
        began = time.monotonic()
        answer = calculator.post("(5+6)*2")
        assert time.monotonic() - began < LIMIT + 10  # and not as long as it likes
        assert is_refused(answer, 502)
        assert answer[1].startswith(f"mul at {url} ")
        assert calculator.post("5+6") == (200, "result = 11\n")


def test_a_micro_service_that_is_down_is_named_with_the_reason(
    with_mul: Callable[[str], tuple[Service, dict[str, Service]]],
) -> None:
    url = f"http://{LOOPBACK}:{closed_port()}"
    calculator, micro = with_mul(url)
    assert calculator.post("(5+6)*2") == (502, f"mul at {url} does not answer: connection refused\n")
    assert calculator.post("5+6") == (200, "result = 11\n")
    assert micro["sum"].requests() == 2


def test_a_micro_service_that_answers_without_a_length_is_understood(
    with_mul: Callable[[str], tuple[Service, dict[str, Service]]],
) -> None:
    with backend(answering(b"HTTP/1.0 200 OK\r\n\r\n22.0")) as url:
        assert with_mul(url)[0].post("(5+6)*2") == (200, "result = 22\n")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_port_in_use_is_one_line_and_status_1(implementation: str, tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = str(listener.getsockname()[1])
        argv = [*IMPLEMENTATIONS[implementation], "sum", "--bind", LOOPBACK, "--port", port]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        rf"sum does not listen on {LOOPBACK} port {port}: .*address already in use.*\n", done.stderr
    )
