#!/usr/bin/env python3
"""The lab's calculator: four micro-services and the calculator that calls them, in one file for any Python 3.9+.

    python3 service.py sum|sub|mul|div|calculator [--port N] [--bind ADDRESS]

A micro-service answers ``POST /`` with body ``A B`` by ``5``; the calculator answers an infix expression by
``result = 22`` and has every operation done by a micro-service, from left to right, one request for each: a minus
before parentheses too, as ``0 - (...)``; a sign before a number belongs to the number.

Numbers are decimals, of at most 40 digits before the point and 40 after it, without exponents. Sums and differences are
exact, products and quotients rounded to 40 decimals. The calculator shows 30, so that 1/3*3 is 1. Bad input is answered
by HTTP 4xx and one line that says what is wrong, a micro-service that does not do its part by 502 and its name.

The calculator reads from the environment
    SUM_URL, SUB_URL, MUL_URL, DIV_URL  where the micro-services are; by default http://127.0.0.1:50001 to 50004
    BACKEND_TIMEOUT                     seconds that each may take for an answer; by default 5
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from decimal import Context, Decimal
from functools import partial
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

PORTS = {"calculator": 50000, "sum": 50001, "sub": 50002, "mul": 50003, "div": 50004}
SIGNS = {"sum": "+", "sub": "-", "mul": "*", "div": "/"}
DIGITS, SHOWN = 40, 30
DEPTH = 50  # parentheses and signs within each other
BODY, HEAD, DISCARDED = 4096, 16384, 1 << 20  # bytes
CONNECTIONS = 256
# Seconds: for a request to come in or its answer to go out; for all operations of an expression; for a refused client to
# read why; for a connection to wait for its reuse, less than any machine takes to restart.
REQUEST, EXPRESSION, LINGER, REUSABLE = 10.0, 60.0, 2.0, 1.0

# Of a body: the lines to log, and the answer.
Service = Callable[[str], Awaitable[tuple[list[str], str]]]


class RefusedError(Exception):
    """A request that is answered by a status and one line of reason, its two ``args``."""


def log(*lines: str) -> None:
    """All lines at once, so that nothing comes between them; a full disk does not stop the service."""
    with suppress(OSError):
        os.write(1, "".join(f"{line}\n" for line in lines).encode())


def words_of(error: OSError) -> str:
    """The system's own: asyncio puts others in their place."""
    code = error.errno or 0
    return (os.strerror(code) if code > 0 else error.strerror or str(error)).lower()


def quoted(text: str) -> str:
    """Somebody's text, fit for one line."""
    return ascii(text if len(text) <= 60 else f"{text[:60]}...")


# ---------- Numbers
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
# Wide enough for the exact product of any two numbers.
EXACT = Context(prec=5 * DIGITS)


def number(text: str) -> Decimal:
    """Reads a decimal; raises RefusedError if it is none, or has too many digits."""
    if not NUMBER.fullmatch(text):
        raise RefusedError(400, f"{quoted(text)} is not a decimal number")
    if max(map(len, text.lstrip("+-").split("."))) > DIGITS:
        raise RefusedError(400, f"{quoted(text)} has more than {DIGITS} digits before or after the point")
    return Decimal(text)


def plain(value: Decimal, decimals: int = DIGITS) -> str:
    """As text, rounded to so many decimals: without exponent, needless zeros and negative zero."""
    rounded = EXACT.plus(EXACT.quantize(value, Decimal(1).scaleb(-decimals)))
    return format(rounded.normalize(EXACT), "f")


async def operate(name: str, body: str) -> tuple[list[str], str]:
    """What a micro-service does: the lines that it logs, and its answer; raises RefusedError if there is none."""
    words = body.split()
    if len(words) != 2:
        raise RefusedError(400, f"two numbers expected, as in 2 3, not {quoted(body.strip())}")
    a, b = map(number, words)
    if name == "div" and not b:
        raise RefusedError(400, "division by zero")
    operation = {"sum": EXACT.add, "sub": EXACT.subtract, "mul": EXACT.multiply, "div": EXACT.divide}[name]
    result = plain(operation(a, b))
    if len(result.lstrip("-").partition(".")[0]) > DIGITS:
        raise RefusedError(400, f"the result has more than {DIGITS} digits before its point")
    return [f"A = {plain(a)}", f"B = {plain(b)}", f"A {SIGNS[name]} B = {result}"], f"{result}\n"


# ---------- Expressions
TOKEN = re.compile(r"[0-9]+\.?[0-9]*|\.[0-9]+|\S")


def postfix(text: str) -> list[str]:
    """Steps: a number, an operation on the two results before, or ``~``, the minus of the one before.

    Raises RefusedError, with the place, if it is no infix expression.
    """
    steps: list[str] = []
    tokens = [(found[0], f"character {found.start() + 1}") for found in TOKEN.finditer(text)]
    tokens = [("", "the end"), *reversed(tokens)]

    def taken(*wanted: str) -> str:
        return tokens.pop()[0] if tokens[-1][0] in wanted else ""

    def refused(expected: str) -> RefusedError:
        token, place = tokens[-1]
        return RefusedError(400, f"{expected} expected at {place}{token and f', not {token!a}'}")

    def chain(depth: int, signs: tuple[str, str], operand: Callable[[int], None]) -> None:
        operand(depth)
        while sign := taken(*signs):
            operand(depth)
            steps.append(sign)

    def products(depth: int) -> None:
        chain(depth, ("*", "/"), operand)

    def operand(depth: int) -> None:
        if depth > DEPTH:
            raise RefusedError(400, f"nested deeper than {DEPTH}")
        sign = taken("+", "-")
        if NUMBER.fullmatch(tokens[-1][0]):
            steps.append(plain(number(sign + tokens.pop()[0])))
        elif sign:
            operand(depth + 1)
            steps.extend("~" if sign == "-" else "")
        elif taken("("):
            chain(depth + 1, ("+", "-"), products)
            if not taken(")"):
                raise refused("an operation or ')'")
        else:
            raise refused("a number or '('")

    chain(0, ("+", "-"), products)
    if tokens[-1][0]:
        raise refused("an operation or the end")
    return steps


# ---------- HTTP
FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
LENGTH = re.compile("[0-9]{1,19}")
REQUEST_LINE = re.compile(r"([!-~]+) [!-~]+ HTTP/1\.[01]")
STATUS_LINE = re.compile(r"HTTP/1\.[01] ([0-9]{3})(?: .*)?")


class Peer(NamedTuple):
    """The other end of a connection, as far as HTTP/1.1 (RFC 9112) is needed here."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read_head(self, form: re.Pattern[str]) -> tuple[str, dict[str, str], bool]:
        """What matters of the first line, the fields by name in lower case, and whether the connection is kept.

        Raises ConnectionError if nothing came, RefusedError if it is not HTTP.
        """
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise RefusedError(431, f"a head of more than {HEAD} bytes") from error
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                raise ConnectionResetError("it closes the connection") from error
            raise RefusedError(400, f"not HTTP: {quoted(error.partial.decode('latin-1'))}") from error
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        if not (found := form.fullmatch(first)):
            raise RefusedError(400, f"not HTTP: {quoted(first)}")
        fields: dict[str, str] = {}
        for line in lines:
            field = FIELD.fullmatch(line)
            name, value = (field[1].lower(), field[2]) if field else ("", "")
            if not name or (name == "content-length" and (name in fields or not LENGTH.fullmatch(value))):
                raise RefusedError(400, f"not a header field, or not here: {quoted(line)}")
            fields[name] = value
        wished = fields.get("connection", "").lower()
        return found[1], fields, "close" not in wished if "HTTP/1.1" in first else "keep-alive" in wished

    async def read(self, most: int) -> bytes:
        """So many bytes; less if the connection ends before."""
        try:
            return await self.reader.readexactly(most)
        except asyncio.IncompleteReadError as error:
            return error.partial

    async def read_body(self, length: int) -> bytes:
        """Raises RefusedError if it is not so long, or longer than BODY."""
        if length > BODY:
            raise RefusedError(413, f"a body of more than {BODY} bytes")
        body = await self.read(length)
        if len(body) < length:
            raise RefusedError(400, f"{len(body)} bytes of a body of {length}")
        return body

    async def request(self) -> tuple[str, bool]:
        """The body of the next request to us, and whether another may follow it; raises as ``read_head`` does."""
        method, fields, keep = await self.read_head(REQUEST_LINE)
        if method != "POST":
            raise RefusedError(405, f"{quoted(method)} is not served: POST the input as the body")
        if "transfer-encoding" in fields or "content-length" not in fields:
            raise RefusedError(411, "a body with its Content-Length expected, not in chunks")
        length = int(fields["content-length"])
        if "expect" in fields and length <= BODY:
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            return (await self.read_body(length)).decode(), keep
        except UnicodeDecodeError as error:
            raise RefusedError(400, f"not UTF-8: {error.reason} at byte {error.start}") from error

    async def answer(self, status: int, text: str, keep: bool) -> None:
        self.writer.write(
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nAllow: POST\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(text)}\r\nConnection: {'keep-alive' if keep else 'close'}\r\n\r\n{text}".encode()
        )
        if self.writer.transport.get_write_buffer_size():
            await asyncio.wait_for(self.writer.drain(), REQUEST)

    async def post(self, message: str) -> tuple[int, str, bool]:
        """The answer to a request of ours: status, body, and whether another request may follow."""
        self.writer.write(message.encode())
        status, fields, keep = await self.read_head(STATUS_LINE)
        length = fields.get("content-length")
        body = await (self.read(BODY + 1) if length is None else self.read_body(int(length)))
        return int(status), body.decode("ascii", "replace").strip(), keep and length is not None


class Backend:
    """A micro-service where the environment says it is, as the calculator sees it."""

    def __init__(self, name: str) -> None:
        url = os.environ.get(f"{name.upper()}_URL", f"http://127.0.0.1:{PORTS[name]}")
        split = urlsplit(url)
        if split.scheme != "http" or not split.hostname:
            raise ValueError(f"{name.upper()}_URL {quoted(url)} is not of the form http://ADDRESS:PORT")
        self.name = f"{name} at {url}"
        self.seconds = float(os.environ.get("BACKEND_TIMEOUT", "5"))
        self.address = (split.hostname, split.port or 80)
        # HTTP/1.0, so that nobody answers in chunks.
        self.head = f"POST {split.path or '/'} HTTP/1.0\r\nHost: {split.netloc}\r\nConnection: keep-alive\r\n"
        self.idle: deque[tuple[float, Peer]] = deque()

    async def operate(self, a: str, b: str, ends: float) -> str:
        """The result, before the loop's time ``ends``, or RefusedError: 400 if the numbers are at fault, else 502."""
        seconds = max(0.0, min(self.seconds, ends - asyncio.get_running_loop().time()))
        try:
            status, text = await asyncio.wait_for(self.exchange(f"{a} {b}"), seconds)
            if status == 200:
                return plain(number(text))
        except RefusedError as error:
            why = f"answers nonsense: {error.args[1]}"
        except asyncio.TimeoutError:  # noqa: UP041 (another class before Python 3.11)
            why = f"does not answer: nothing within {seconds:.3g} s"
        except OSError as error:
            why = f"does not answer: {words_of(error)}"
        else:
            if status == 400:
                raise RefusedError(400, f"{self.name} refuses {a} {b}: {quoted(text)[1:-1]}")
            why = f"answers HTTP {status}: {quoted(text)}"
        raise RefusedError(502, f"{self.name} {why}")

    async def exchange(self, body: str) -> tuple[int, str]:
        message = f"{self.head}Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        time = asyncio.get_running_loop().time
        while self.idle and self.idle[0][0] < time() - REUSABLE:
            self.idle.popleft()[1].writer.close()
        while True:
            used, keep = bool(self.idle), False
            peer = (
                self.idle.pop()[1]
                if used
                else Peer(*await asyncio.open_connection(*self.address, limit=HEAD))
            )
            try:
                status, text, keep = await peer.post(message)
                return status, text
            except ConnectionError:
                # The service at the other end of a used one may have ended since: whoever is there now is asked.
                if not used:
                    raise
            finally:
                if keep:
                    self.idle.append((time(), peer))
                else:
                    peer.writer.close()


async def converse(service: Service, peer: Peer) -> None:
    """The requests of one connection, one after another."""
    keep = True
    while keep:
        keep, taken = False, []
        try:
            body, keep = await asyncio.wait_for(peer.request(), REQUEST)
            taken = ["New request :"]
            status, (lines, text) = 200, await service(body)
        except RefusedError as refusal:
            status, reason = refusal.args
            lines, text = [f"Refused : {reason}"], f"{reason}\n"
        log(*taken, *lines)
        await peer.answer(status, text, keep)
    # A client that is still sending reads its answer first: closing at once would reset the connection.
    peer.writer.write_eof()
    await asyncio.wait_for(peer.read(DISCARDED), LINGER)


async def serve(service: Service, listener: socket.socket) -> None:
    """Until SIGTERM or SIGINT cancels it. Connections above CONNECTIONS wait in the listener's queue."""
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    connections: set[asyncio.Task[None]] = set()

    async def attend(connection: socket.socket) -> None:
        peer = Peer(*await asyncio.open_connection(sock=connection, limit=HEAD))
        # An answer has gone out before the next request is read, and before the connection is closed.
        peer.writer.transport.set_write_buffer_limits(0)
        try:
            await converse(service, peer)
        except (OSError, asyncio.TimeoutError):  # noqa: UP041
            peer.writer.transport.abort()
        finally:
            peer.writer.close()

    for ending in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(ending, this.cancel)  # type: ignore[union-attr]
    log(f"Listening on port : {listener.getsockname()[1]}")
    while True:
        if len(connections) >= CONNECTIONS:
            await asyncio.wait(connections, return_when=asyncio.FIRST_COMPLETED)
        try:
            connection, _ = await loop.sock_accept(listener)
        except OSError:  # the client has gone already, or no file is free
            await asyncio.sleep(0.05)
            continue
        task = loop.create_task(attend(connection))
        connections.add(task)
        task.add_done_callback(connections.discard)


# ---------- Services
def calculator() -> Service:
    backends = {sign: Backend(name) for name, sign in SIGNS.items()}
    backends["~"] = backends["-"]

    async def service(body: str) -> tuple[list[str], str]:
        ends = asyncio.get_running_loop().time() + EXPRESSION
        results: list[str] = []
        for step in postfix(body):
            if step not in backends:
                results.append(step)
                continue
            b, a = results.pop(), "0" if step == "~" else results.pop()
            results.append(await backends[step].operate(a, b, ends))
        shown = plain(Decimal(results.pop()), SHOWN)
        return [f"{''.join(body.split())} = {shown}"], f"result = {shown}\n"

    return service


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", choices=PORTS)
    parser.add_argument("--port", type=int, help="default: that of the service, 50000 to 50004")
    parser.add_argument("--bind", default="0.0.0.0", metavar="ADDRESS", help="default: every address")  # noqa: S104
    words = parser.parse_args()
    port = PORTS[words.name] if words.port is None else words.port
    try:
        service = calculator() if words.name == "calculator" else partial(operate, words.name)
        family = socket.AF_INET6 if ":" in words.bind else socket.AF_INET
        listener = socket.create_server((words.bind, port), family=family, backlog=2 * CONNECTIONS)
    except (OSError, OverflowError, ValueError) as error:
        why = words_of(error) if isinstance(error, OSError) else error
        print(f"{words.name} does not listen on {words.bind} port {port}: {why}", file=sys.stderr)
        return 1
    listener.setblocking(False)
    with listener, suppress(asyncio.CancelledError):
        asyncio.run(serve(service, listener))
    return 0


if __name__ == "__main__":
    sys.exit(main())
