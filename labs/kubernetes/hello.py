"""The lab's application: answers ``{"hello":"world"}`` on port 5000, as its FastAPI one does. Standard library alone.

Headers say who answers: ``X-Pod`` and ``X-Node``, of the environment's ``HOSTNAME`` and ``NODE_NAME``. When it is told
to end (SIGTERM) it takes no new connection, answers those that it has, and ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 5000
ANSWER = b'{"hello":"world"}'
NOT_FOUND = b'{"detail":"Not Found"}'


class Hello(BaseHTTPRequestHandler):
    """One request: the answer for ``/``, 404 for anything else."""

    timeout = 10

    def do_GET(self) -> None:
        known = self.path.partition("?")[0] == "/"
        body = ANSWER if known else NOT_FOUND
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for header, variable in (("X-Pod", "HOSTNAME"), ("X-Node", "NODE_NAME")):
            self.send_header(header, os.environ.get(variable, ""))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own word
        pass


class Server(ThreadingHTTPServer):
    """A thread for each connection; the program's end waits for them."""

    request_queue_size = 128
    daemon_threads = False


def main() -> None:
    """Serves until SIGTERM."""
    server = Server(("", int(sys.argv[1]) if len(sys.argv) > 1 else PORT), Hello)
    # as process 1 of a container it is ended by no signal that it does not ask for
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"Listening on port : {server.server_port}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()


if __name__ == "__main__":
    main()
