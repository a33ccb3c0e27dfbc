"""A container as a host: its shells are started through the engine's API, on whatever connection it is reached by."""

from __future__ import annotations

import struct
import time
from contextlib import suppress
from typing import Any

import docker.errors
import paramiko
import requests

from probes.pool import PooledHost
from probes.shell import ChannelClosed, HostError, Shell

ANSWERS_WITHIN = 20.0
STDERR = 2
_CHUNK = 256 * 1024
_HEADER = struct.Struct(">BxxxL")
_FAILURES = (
    docker.errors.DockerException,
    requests.RequestException,
    paramiko.SSHException,
    OSError,
    EOFError,
)


class ContainerHost(PooledHost):
    """A running container of a Docker engine.

    Args:
        name: as it stands in the evidence.
        container: the SDK's.
    """

    def __init__(self, name: str, container: Any) -> None:
        super().__init__(name)
        self._container = container

    def _open(self, within: float = ANSWERS_WITHIN) -> Shell:
        api = self._container.client.api
        try:
            made = api.exec_create(self._container.id, ["/bin/sh"], stdin=True)
            stream = api.exec_start(made["Id"], socket=True)
        except _FAILURES as error:
            raise HostError(
                f"{self.name}: no shell in the container: {' '.join(str(error).split())}"
            ) from None
        return Shell(_ExecChannel(stream), answers_within=max(within, ANSWERS_WITHIN))


class _ExecChannel:
    """The streams of a command in a container, as the engine joins them on one connection.

    Each piece of output has a header: which stream, how long (Docker Engine API, "Attach to a container").
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        # of a local connection the SDK gives the file around the socket, over SSH the channel itself
        self._socket = getattr(stream, "_sock", stream)
        self._raw = b""
        self._left = 0
        self._which = 0

    def send(self, data: bytes, deadline: float) -> None:
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise ChannelClosed(str(error) or "the shell ended") from None

    def receive(self, deadline: float) -> tuple[bytes, bytes]:
        while True:
            out, err = self._parted()
            if out or err:
                return out, err
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                piece = self._socket.recv(_CHUNK)
            except TimeoutError:
                return b"", b""
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise ChannelClosed(str(error) or "the connection ended") from None
            if not piece:
                raise ChannelClosed("the shell ended")
            self._raw += piece

    def _parted(self) -> tuple[bytes, bytes]:
        """What has come, parted into stdout and stderr; the beginning of a header stays for later."""
        parts = bytearray(), bytearray()
        while self._raw:
            if self._left == 0:
                if len(self._raw) < _HEADER.size:
                    break
                self._which, self._left = _HEADER.unpack_from(self._raw)
                self._raw = self._raw[_HEADER.size :]
            piece, self._raw = self._raw[: self._left], self._raw[self._left :]
            self._left -= len(piece)
            parts[self._which == STDERR].extend(piece)
        return bytes(parts[0]), bytes(parts[1])

    def close(self) -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._stream.close()
            self._socket.close()
