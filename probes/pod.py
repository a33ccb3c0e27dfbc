"""A pod as a host: its shells are started through the cluster's API, as ``kubectl exec`` does."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from websocket import ABNF, WebSocketException, WebSocketTimeoutException

from probes.pool import PooledHost
from probes.shell import ChannelClosed, HostError, Shell

ANSWERS_WITHIN = 20.0
STDOUT, STDERR, ERROR = 1, 2, 3
"""Channels of the exec stream (Kubernetes' v4.channel.k8s.io)."""
# a frame with more is refused by kubelets' readers
_PIECE = 16 * 1024


class PodHost(PooledHost):
    """A running pod of a cluster.

    Args:
        name: as it stands in the evidence.
        start: starts a command in the pod; the official client's WebSocket for it, in bytes. What it raises says why
            it could not.
    """

    def __init__(self, name: str, start: Callable[[list[str]], Any]) -> None:
        super().__init__(name)
        self._start = start

    def _open(self, within: float = ANSWERS_WITHIN) -> Shell:
        try:
            stream = self._start(["/bin/sh"])
        except Exception as error:  # noqa: BLE001 - of several libraries; all of them mean that there is no shell
            raise HostError(f"{self.name}: no shell in the pod: {' '.join(str(error).split())}") from None
        return Shell(_ExecChannel(stream), answers_within=max(within, ANSWERS_WITHIN))


class _ExecChannel:
    """The streams of a command in a container, each message with the number of its stream before it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._came: defaultdict[int, bytes] = defaultdict(bytes)
        self._open = True

    def send(self, data: bytes, deadline: float) -> None:
        self._stream.sock.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            for at in range(0, len(data), _PIECE):
                self._stream.write_stdin(data[at : at + _PIECE])
        except (TimeoutError, WebSocketTimeoutException):
            raise TimeoutError from None
        except (OSError, WebSocketException) as error:
            raise ChannelClosed(str(error) or "the shell ended") from None

    def receive(self, deadline: float) -> tuple[bytes, bytes]:
        while True:
            out, err = (self._take(channel) for channel in (STDOUT, STDERR))
            if out or err:
                return out, err
            if not self._open:
                raise ChannelClosed(self._take(ERROR).decode("utf-8", "replace") or "the shell ended")
            left = deadline - time.monotonic()
            if left <= 0:
                return b"", b""
            try:
                self._read(left)
            except (TimeoutError, WebSocketTimeoutException):
                return b"", b""
            except (OSError, WebSocketException) as error:
                raise ChannelClosed(str(error) or "the connection ended") from None

    def _read(self, within: float) -> None:
        """Takes one message, waiting for it. (The client's own update() asks the kernel, which knows nothing of what TLS
        has read already.)
        """
        self._stream.sock.settimeout(within)
        kind, frame = self._stream.sock.recv_data_frame(True)
        if kind == ABNF.OPCODE_CLOSE:
            self._open = False
        elif kind in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) and frame.data:
            self._came[frame.data[0]] += frame.data[1:]

    def _take(self, channel: int) -> bytes:
        return self._came.pop(channel, b"")

    def close(self) -> None:
        with suppress(OSError, WebSocketException):
            self._stream.close(timeout=1)
