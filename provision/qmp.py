"""The monitor of a running QEMU: its machine protocol (QMP) over a Unix socket, a command at a time.

QEMU's own client library is for asyncio; its synchronous face is marked as a left-over of QEMU's tests.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any


class MonitorGone(Exception):  # noqa: N818 - nothing went wrong in the asking
    """Nobody answers at the socket, or whoever did has ended."""


class MonitorError(Exception):
    """QEMU refused a command, with its words; or it did not answer in time."""


class Monitor:
    """A session, to be used in a ``with`` block; QEMU has one at a time, others wait for their turn.

    Args:
        path: the socket; its folder's name may be longer than a socket's address can be.
        within: seconds in which the session must open.

    Raises:
        MonitorGone: nobody listens there.
        MonitorError: QEMU does not answer.
    """

    def __init__(self, path: Path, *, within: float = 10.0) -> None:
        self._left = b""
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._connect(path, within)
            self._next(time.monotonic() + within)  # the greeting
            self.execute("qmp_capabilities", within=within)
        except BaseException:
            self._socket.close()
            raise

    def _connect(self, path: Path, within: float) -> None:
        self._socket.settimeout(within)
        try:
            folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # an address of a Unix socket has 108 bytes at most
                self._socket.connect(f"/proc/self/fd/{folder}/{path.name}")
            finally:
                os.close(folder)
        except TimeoutError as error:
            raise MonitorError(f"nobody took up the session within {within:.0f} s") from error
        except OSError as error:
            raise MonitorGone(error.strerror or str(error)) from error

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def execute(self, command: str, *, within: float = 10.0, **arguments: Any) -> Any:
        """The answer to one command (``return`` of the protocol); events meanwhile are passed over.

        Raises:
            MonitorError: QEMU refused, or did not answer within `within` seconds.
            MonitorGone: QEMU ended.
        """
        end = time.monotonic() + within
        message = {"execute": command} | ({"arguments": arguments} if arguments else {})
        try:
            self._socket.settimeout(within)
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except TimeoutError as error:
            raise MonitorError(f"QEMU did not take {command} within {within:.0f} s") from error
        except OSError as error:
            raise MonitorGone(error.strerror or str(error)) from error
        while True:
            answer = self._next(end, command)
            if "error" in answer:
                raise MonitorError(str(answer["error"].get("desc", answer["error"])))
            if "return" in answer:
                return answer["return"]

    def human(self, line: str, *, within: float = 10.0) -> str:
        """What QEMU's monitor for people prints to a command; empty for most that succeed.

        Raises:
            MonitorError, MonitorGone: as for `execute`. That the command failed is said in the text alone.
        """
        answer = self.execute("human-monitor-command", within=within, **{"command-line": line})
        return " ".join(str(answer).split())

    def _next(self, end: float, command: str = "the connection") -> dict[str, Any]:
        while b"\n" not in self._left:
            try:
                self._socket.settimeout(max(0.001, end - time.monotonic()))
                piece = self._socket.recv(65536)
            except TimeoutError as error:
                raise MonitorError(f"QEMU did not answer {command} in time") from error
            except OSError as error:
                raise MonitorGone(error.strerror or str(error)) from error
            if not piece:
                raise MonitorGone("QEMU closed the connection")
            self._left += piece
        line, _, self._left = self._left.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer
