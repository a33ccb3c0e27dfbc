"""Stops and starts single services of a box that is up: to see what a lab does without them.

usage: control.py stop|start|pause|resume SERVICE        (inside the box; `provision lab service` calls it)

Process 1 listens on a socket and answers each line ``ACTION SERVICE`` with ``ok`` or a reason.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable
from pathlib import Path

SOCKET = Path("/run/labproof.sock")
Action = Callable[[str], None]


def serve(actions: dict[str, Action]) -> None:
    """Answers requests, one after another, for ever; an action tells by what it raises that it failed."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(SOCKET))
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                action, _, name = connection.recv(256).decode().strip().partition(" ")
                try:
                    actions[action](name)
                    answer = "ok"
                except Exception as error:  # noqa: BLE001 - whatever it is, the other end is told
                    answer = str(error) or type(error).__name__
                connection.sendall(answer.encode())


def main() -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(SOCKET))
        connection.sendall(" ".join(sys.argv[1:3]).encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
    if answer != "ok":
        print(answer, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
