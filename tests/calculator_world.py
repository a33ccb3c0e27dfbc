"""The calculator's services as processes of this test run on the loopback, of either implementation; clients for them."""

from __future__ import annotations

import http.client
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.probes_world import child, until

ROOT = Path(__file__).resolve().parent.parent
IMPLEMENTATIONS = {
    "python": (sys.executable, str(ROOT / "provision" / "calculator" / "service.py")),
    "node": ("node", str(ROOT / "tests" / "node" / "calculator.js")),
}
MICRO = ("sum", "sub", "mul", "div")
LOOPBACK = "127.0.0.1"
Answer = tuple[int, str]
BY_ITSELF = """
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"result = {eval(asked):g}\\n".encode())
print("Listening on port : 50000", flush=True)
http.server.HTTPServer(("0.0.0.0", 50000), Answer).serve_forever()
"""
"""A calculator on port 50000 that asks no micro-service."""


@dataclass
class Service:
    """One service that listens."""

    name: str
    port: int
    pid: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def lines(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines()

    def requests(self) -> int:
        return self.lines().count("New request :")

    def post(self, body: str | bytes, *, method: str = "POST", within: float = 30) -> Answer:
        with closing(http.client.HTTPConnection(LOOPBACK, self.port, timeout=within)) as connection:
            connection.request(method, "/", body.encode() if isinstance(body, str) else body)
            response = connection.getresponse()
            return response.status, response.read().decode("ascii")

    def raw(self, message: bytes, within: float = 30, end: bool = True) -> bytes:
        """Everything that comes back until the service closes the connection; ``end`` says that nothing follows."""
        back = b""
        with socket.create_connection((LOOPBACK, self.port), timeout=within) as connection:
            with suppress(ConnectionError):
                connection.sendall(message)
                if end:
                    connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while part := connection.recv(65536):
                    back += part
        return back


@contextmanager
def running(
    implementation: str,
    name: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *words: str,
    port: int = 0,
    log: Path | None = None,
) -> Iterator[Service]:
    """A service on a port of its own, its backends where the environment says."""
    log = log or folder / f"{name}-{len(list(folder.iterdir()))}.log"
    log.touch()
    old = len(listening(log))
    settings = [f"{key}={value}" for key, value in (environment or {}).items()]
    options = words or ("--bind", LOOPBACK)
    # It ends with this process, even if that is killed.
    argv = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "env",
        *settings,
        *IMPLEMENTATIONS[implementation],
        name,
        "--port",
        str(port),
        *options,
    ]
    with child(argv, log) as process:
        until(lambda: len(listening(log)) > old, f"{name} listening ({log.read_text()!r})", within=30)
        yield Service(name, listening(log)[-1], process.pid, log)


def listening(log: Path) -> list[int]:
    return [int(port) for port in re.findall(r"^Listening on port : (\d+)$", log.read_text(), re.MULTILINE)]


@dataclass
class Calculator:
    """The five."""

    implementation: str
    calculator: Service
    micro: dict[str, Service]

    def calls(self, expression: str) -> tuple[Answer, dict[str, int]]:
        """The answer, and how many requests each micro-service has logged for it."""
        before = {name: service.requests() for name, service in self.micro.items()}
        answer = self.calculator.post(expression)
        return answer, {name: service.requests() - before[name] for name, service in self.micro.items()}


@contextmanager
def five(implementation: str, folder: Path) -> Iterator[Calculator]:
    with ExitStack() as stack:
        micro = {name: stack.enter_context(running(implementation, name, folder)) for name in MICRO}
        urls = {f"{name.upper()}_URL": service.url for name, service in micro.items()}
        yield Calculator(
            implementation,
            stack.enter_context(running(implementation, "calculator", folder, urls)),
            micro,
        )


@contextmanager
def backend(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """The URL of something that listens in a micro-service's place and does that with each connection."""
    with socket.create_server((LOOPBACK, 0)) as listener:

        def one(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                behave(connection)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=one, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def received(connection: socket.socket) -> str:
    """The body of the one request that comes."""
    message = b""
    while not (found := re.search(rb"(?is)^.*?content-length: (\d+).*?\r\n\r\n", message)) or len(
        message
    ) < found.end() + int(found[1]):
        part = connection.recv(65536)
        if not part:
            raise ConnectionResetError
        message += part
    return message[found.end() :].decode()


def reply(body: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


def closed_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        return int(listener.getsockname()[1])
