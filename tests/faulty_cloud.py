"""A proxy in front of a cloud's real API that breaks what it is told to break.

The catalogue and every link that the services give of themselves are rewritten, so that a client that logs in through the
proxy asks everything through it. Each rule names a call (:func:`call_of`), a fault, and from which time on it happens.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import trustme

SERVICES = {5000: "identity", 8774: "compute", 9292: "image", 9696: "network"}
UPSTREAM_SECONDS = 120.0
ID = r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "accept-encoding"}


def call_of(method: str, service: str, path: str) -> str:
    """A request without what is another at each run: ``GET network /v2.0/ports?project_id``."""
    parts = urlsplit(path)
    plain = re.sub(r"labproof-[\w-]+", "NAME", re.sub(ID, "ID", parts.path))
    keys = sorted({key for key, _ in parse_qsl(parts.query, keep_blank_values=True)} - {"limit", "marker"})
    return f"{method} {service} {plain}" + (f"?{'&'.join(keys)}" if keys else "")


@dataclass(frozen=True)
class Answer:
    """What the real API answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Exchange:
    """One request on its way, as a fault sees it."""

    def __init__(self, handler: _Handler, forward: Callable[[str], Answer], path: str) -> None:
        self.handler = handler
        self.path = path
        self._forward = forward

    def forward(self, path: str | None = None) -> Answer:
        """What the real API answers."""
        return self._forward(path or self.path)

    def answer(self, answer: Answer) -> None:
        self.handler.send_answer(answer)

    def wait(self, seconds: float) -> None:
        """Stands still, but for the proxy's end."""
        self.handler.faulty.ended.wait(seconds)

    @property
    def stream(self) -> socket.socket:
        """The connection below TLS."""
        return self.handler.request

    def hang_up(self) -> None:
        """The connection is reset (RST)."""
        self.handler.close_connection = True
        below = socket.socket(fileno=self.handler.connection.detach())
        below.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        below.close()


Fault = Callable[[Exchange], None]


def refuse(status: int, retry_after: str | None = None) -> Fault:
    """The service says no, and does nothing."""
    words = f"fault {status} put in by the proxy"
    body = json.dumps({"error": {"code": status, "message": words}}).encode()
    headers = [("Content-Type", "application/json")]
    if retry_after is not None:
        headers.append(("Retry-After", retry_after))
    return lambda exchange: exchange.answer(Answer(status, headers, body))


def lose(status: int) -> Fault:
    """The service does what it is asked, but the gateway before it says that it did not."""
    said = refuse(status)

    def fault(exchange: Exchange) -> None:
        exchange.forward()
        said(exchange)

    return fault


def reset(exchange: Exchange) -> None:
    """The connection is reset before the service has seen anything."""
    exchange.hang_up()


def reset_after(exchange: Exchange) -> None:
    """The service does what it is asked; the connection is reset before its answer."""
    exchange.forward()
    exchange.hang_up()


def garble(exchange: Exchange) -> None:
    """In the place of TLS records comes something else (TLS handshakes and records alike fail by it)."""
    handler = exchange.handler
    handler.close_connection = True
    below = socket.socket(fileno=handler.connection.detach())
    with suppress(OSError):
        below.sendall(b"HTTP/1.0 400 this is not TLS\r\n\r\n")
        below.shutdown(socket.SHUT_WR)
    below.close()


def stall(seconds: float) -> Fault:
    """The answer comes, but late."""

    def fault(exchange: Exchange) -> None:
        exchange.wait(seconds)
        exchange.answer(exchange.forward())

    return fault


def half(exchange: Exchange) -> None:
    """The connection ends in the middle of the answer's body."""
    answer = exchange.forward()
    handler = exchange.handler
    handler.send_head(answer, len(answer.body) + 10)
    handler.wfile.write(answer.body[: len(answer.body) // 2])
    handler.wfile.flush()
    handler.close_connection = True


def cut(exchange: Exchange) -> None:
    """Half of the answer's body comes as if it were the whole."""
    answer = exchange.forward()
    exchange.answer(replace(answer, body=answer.body[: len(answer.body) // 2]))


def page(exchange: Exchange) -> None:
    """Somebody else answers: a page that says hello, as a captive portal does."""
    body = b"<html><body>Welcome! Please log in.</body></html>"
    exchange.answer(Answer(200, [("Content-Type", "text/html")], body))


def pretend(status: int, body: bytes = b"") -> Fault:
    """The service says that it is done, and does nothing."""
    return lambda exchange: exchange.answer(Answer(status, [("Content-Type", "application/json")], body))


def changed(change: Callable[[Any], Any], path: Callable[[str], str] = lambda path: path) -> Fault:
    """The service's answer, changed; `path` changes what it is asked."""

    def fault(exchange: Exchange) -> None:
        answer = exchange.forward(path(exchange.path))
        exchange.answer(replace(answer, body=json.dumps(change(json.loads(answer.body))).encode()))

    return fault


@dataclass
class Rule:
    """A fault.

    Attributes:
        call: pattern of the calls that it happens to (the whole of :func:`call_of`'s text).
        first: which call of them is the first that it happens to, from 1.
        times: how often; None for ever.
        happened: how often so far.
    """

    call: str
    fault: Fault
    first: int = 1
    times: int | None = None
    seen: int = 0
    happened: int = 0

    def takes(self, call: str) -> bool:
        if not re.fullmatch(self.call, call):
            return False
        self.seen += 1
        if self.seen < self.first or (self.times is not None and self.happened >= self.times):
            return False
        self.happened += 1
        return True


@dataclass
class FaultyCloud:
    """The running proxy.

    Attributes:
        upstream: host of the real API.
        url: where the proxy listens.
        rules: what it breaks, the first that fits; may be changed at any time.
        calls: what went through, in order, as :func:`call_of` writes it.
        ended: set when it is to end: nothing that stands still stands on.
    """

    upstream: str
    url: str = ""
    rules: list[Rule] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    streams: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def rule_for(self, call: str) -> Rule | None:
        with self._lock:
            self.calls.append(call)
            return next((rule for rule in self.rules if rule.takes(call)), None)

    def clouds_yaml(self, original: Path, folder: Path, cacert: Path | None) -> Path:
        """A clouds.yaml whose every cloud is asked through the proxy."""
        text = re.sub(
            r"(auth_url: )http://[^/:]+:(\d+)", lambda m: f"{m[1]}{self.url}/{m[2]}", original.read_text()
        )
        if cacert:
            text = text.replace("    region_name:", f"    cacert: {cacert}\n    region_name:")
        file = folder / "clouds.yaml"
        file.touch(mode=0o600)
        file.write_text(text)
        return file


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faulty: FaultyCloud

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        port, _, path = self.path.removeprefix("/").partition("/")
        path = f"/{path}"

        def forward(path: str) -> Answer:
            return self._forward(int(port), path, body)

        call = call_of(self.command, SERVICES.get(int(port), port), path)
        rule = self.faulty.rule_for(call)
        exchange = Exchange(self, forward, path)
        with suppress(ConnectionError, ssl.SSLError):  # the client has gone: its time was up
            if rule:
                rule.fault(exchange)
            else:
                exchange.answer(exchange.forward())

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _any  # noqa: N815 - the library's names

    def _forward(self, port: int, path: str, body: bytes) -> Answer:
        there = http.client.HTTPConnection(self.faulty.upstream, port, timeout=UPSTREAM_SECONDS)
        headers = {key: value for key, value in self.headers.items() if key.lower() not in HOP_BY_HOP}
        try:
            there.request(self.command, path, body or None, headers)
            answer = there.getresponse()
            content = self._through_here(answer.read())
            kept = [
                (key, self._through_here(value.encode()).decode())
                for key, value in answer.getheaders()
                if key.lower() not in HOP_BY_HOP
            ]
        except OSError as error:
            words = json.dumps({"error": {"code": 502, "message": f"the real API: {error}"}}).encode()
            return Answer(502, [("Content-Type", "application/json")], words)
        finally:
            there.close()
        return Answer(answer.status, kept, content)

    def _through_here(self, text: bytes) -> bytes:
        real = rf"http://{re.escape(self.faulty.upstream)}:(\d+)".encode()
        return re.sub(real, self.faulty.url.encode() + rb"/\1", text)

    def send_head(self, answer: Answer, length: int) -> None:
        self.send_response(answer.status)
        for key, value in answer.headers:
            if key.lower() not in {"server", "date"}:
                self.send_header(key, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def send_answer(self, answer: Answer) -> None:
        self.send_head(answer, len(answer.body))
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.wfile.flush()

    def setup(self) -> None:
        self.faulty.streams.add(self.request)
        super().setup()

    def finish(self) -> None:
        self.faulty.streams.discard(self.request)
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def shutdown_request(self, request: Any) -> None:
        with suppress(OSError, ValueError):
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off or does not trust us is what is being tried."""


@dataclass(frozen=True)
class Trust:
    """A certificate authority and the proxy's certificate by it.

    Attributes:
        cacert: what a client has to trust.
    """

    server: ssl.SSLContext
    cacert: Path

    @classmethod
    def make(cls, folder: Path, *names: str, **issued: Any) -> Trust:
        """Makes both; `issued` is trustme's (``not_after=``)."""
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*(names or ("127.0.0.1",)), **issued).configure_cert(context)
        cacert = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(cacert))
        return cls(context, cacert)


@contextmanager
def faulty_cloud(upstream: str, trust: Trust | None = None) -> Iterator[FaultyCloud]:
    """Runs a proxy on this network namespace's loopback until the block ends; over TLS, if there is a certificate."""
    faulty = FaultyCloud(upstream)

    class Handler(_Handler):
        pass

    Handler.faulty = faulty
    server = _Server(("127.0.0.1", 0), Handler)
    if trust:
        # the handshake is the handler thread's: one client that hangs in it keeps no other waiting
        server.socket = trust.server.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    faulty.url = f"{'https' if trust else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield faulty
    finally:
        faulty.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
        for stream in list(faulty.streams):  # clients that keep their connections
            with suppress(OSError, ValueError):
                stream.shutdown(socket.SHUT_RDWR)
