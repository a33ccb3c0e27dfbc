"""Hosts: where a command can be run (the desktop, a namespace, a VM).

>>> with LocalHost("desktop") as desktop:
...     desktop.run("echo %s", "it's here").stdout
"it's here\\n"
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from probes.pool import PooledHost
from probes.shell import ChannelClosed, CommandResult, CommandTimeout, HostError, Shell
from probes.ssh import SshHost

if TYPE_CHECKING:
    import testinfra.host

__all__ = [
    "CommandResult",
    "CommandTimeout",
    "Host",
    "HostError",
    "LocalHost",
    "NamespaceHost",
    "SshHost",
]

_CHUNK = 256 * 1024
_GOODBYE = 1.0


class Host(Protocol):
    """What a probe needs of a host."""

    name: str

    def run(self, command: str, *args: object, timeout: float = 10.0) -> CommandResult: ...

    @property
    def testinfra(self) -> testinfra.host.Host: ...

    def close(self) -> None: ...


class LocalHost(PooledHost):
    """Commands run as children of this process: on the desktop, when the process has entered it.

    Args:
        name: as it stands in the evidence.
        prefix: argv put before the shell, to enter a namespace.
        shell: argv of a POSIX shell that reads commands from its standard input.
    """

    max_shells = 64

    def __init__(
        self, name: str = "desktop", prefix: Sequence[str] = (), *, shell: Sequence[str] = ("/bin/sh",)
    ) -> None:
        super().__init__(name)
        self._argv = [*prefix, *shell]

    def _open(self, within: float = 10.0) -> Shell:
        try:
            return Shell(_ChildChannel(self._argv), answers_within=within)
        except OSError as error:
            raise HostError(f"{self.name}: cannot start {' '.join(self._argv)}: {error.strerror}") from None


class NamespaceHost(LocalHost):
    """A namespace of this machine, entered anew by each shell.

    >>> NamespaceHost("neighbour", ["nsenter", "--net=/proc/123/ns/net", "--"])
    """

    def __init__(self, name: str, prefix: Sequence[str], *, shell: Sequence[str] = ("/bin/sh",)) -> None:
        if not prefix:
            raise ValueError(
                f"namespace host {name!r}: no prefix: commands would run outside of the namespace"
            )
        super().__init__(name, prefix, shell=shell)


class _ChildChannel:
    """Pipes to a child process."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._child.stdin
        assert self._child.stdout
        assert self._child.stderr
        self._in = self._child.stdin.fileno()
        self._out = self._child.stdout.fileno()
        self._err = self._child.stderr.fileno()
        self._life = os.pidfd_open(self._child.pid)
        self._open = {self._out, self._err}
        for fd in (self._in, self._out, self._err):
            os.set_blocking(fd, False)

    def send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        poll = select.poll()
        poll.register(self._in, select.POLLOUT)
        while view:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise ChannelClosed(self._how_it_ended()) from None

    def receive(self, deadline: float) -> tuple[bytes, bytes]:
        if not self._open:
            raise ChannelClosed(self._how_it_ended())
        poll = select.poll()
        for fd in (*self._open, self._life):
            poll.register(fd, select.POLLIN)
        got = {self._out: b"", self._err: b""}
        ready = [fd for fd, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1000)]
        if ready == [self._life]:
            # The shell is gone; that its streams are still open is the doing of what it left running.
            raise ChannelClosed(self._how_it_ended())
        for fd in self._open.intersection(ready):
            with suppress(BlockingIOError):
                got[fd] = os.read(fd, _CHUNK)
                if not got[fd]:
                    self._open.discard(fd)
        if not self._open and not any(got.values()):
            raise ChannelClosed(self._how_it_ended())
        return got[self._out], got[self._err]

    def _how_it_ended(self) -> str:
        try:
            status = self._child.wait(_GOODBYE)
        except subprocess.TimeoutExpired:
            return "it closed its streams"
        said = b""
        with suppress(OSError):
            said = os.read(self._err, 400)
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"{how} {said.decode('utf-8', 'replace').strip()}".strip()

    def close(self) -> None:
        streams = (self._child.stdin, self._child.stdout, self._child.stderr)
        if streams[0]:
            with suppress(OSError):
                streams[0].close()
        try:
            self._child.wait(_GOODBYE)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
        for stream in streams[1:]:
            if stream:
                stream.close()
        if self._life >= 0:
            os.close(self._life)
            self._life = -1
