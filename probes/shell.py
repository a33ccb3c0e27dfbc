"""One long-lived ``/bin/sh`` at the far end of a channel, given one command after another.

The protocol needs nothing but a POSIX shell there (dash, busybox ash, bash). Each command runs in a subshell,
so that nothing it does to its shell outlives it, with its standard input closed. A nonce per command marks
where its output begins and ends on either stream; whatever lies outside (a login banner, a daemon left behind
by an earlier command) is not its output.
"""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

LIMIT = 4 * 1024 * 1024
_TAIL = 64 * 1024
_SLACK = 1024 * 1024
_LOOK = 0.5

PREAMBLE = 'PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"; LC_ALL=C; export PATH LC_ALL\n'
"""Said once to a new shell: tools of the system found by any user, and messages in the language they are read
in."""


class HostError(Exception):
    """The host could not run the command at all: nothing is known of what it would have shown."""


class CommandTimeout(HostError):  # noqa: N818 - the field's word
    """The command ran and did not end in its time; it was ended.

    Attributes:
        stdout: what it had said until then.
        stderr: likewise.
    """

    def __init__(self, message: str, stdout: str = "", stderr: str = "") -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


@dataclass(frozen=True)
class CommandResult:
    """What a command said and how it ended.

    Attributes:
        command: as it was run, arguments quoted.
        status: exit status; 128 + n when signal n ended it.
        stdout: text, bytes that are not UTF-8 replaced; of more than ``LIMIT`` bytes the middle is left out,
            which a line in its place says.
        stderr: likewise.
        seconds: from its start to its end, as seen from here.
        stdout_bytes: the same as raw bytes.
        stderr_bytes: likewise.
    """

    command: str
    status: int
    stdout: str
    stderr: str
    seconds: float
    stdout_bytes: bytes = field(default=b"", repr=False, compare=False)
    stderr_bytes: bytes = field(default=b"", repr=False, compare=False)

    @property
    def succeeded(self) -> bool:
        return self.status == 0


class ChannelClosed(Exception):  # noqa: N818 - says what happened
    """The far end is gone; the text says why, if that is known."""


class Channel(Protocol):
    """Three byte streams to a process somewhere. Deadlines are values of ``time.monotonic()``."""

    def send(self, data: bytes, deadline: float) -> None:
        """Raises ChannelClosed, or TimeoutError when not everything was taken by the deadline."""

    def receive(self, deadline: float) -> tuple[bytes, bytes]:
        """What came on stdout and stderr, waiting for the first of it; both empty at the deadline.

        Raises ChannelClosed when nothing more can come.
        """

    def close(self) -> None:
        """Ends the process at the far end, in bounded time."""


class ShellGone(Exception):  # noqa: N818 - says what happened
    """The shell ended. ``started`` tells whether the command had begun."""

    def __init__(self, reason: str, *, started: bool) -> None:
        super().__init__(reason)
        self.started = started


class ShellLate(Exception):  # noqa: N818 - says what happened
    """No end of the command in time; ``pid`` is the shell's, None when not even its begin was seen."""

    def __init__(self, pid: int | None, stdout: bytes, stderr: bytes) -> None:
        super().__init__(pid)
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr


class _Stream:
    """One output stream of one command: from its begin mark to its end mark, the middle of too much left
    out."""

    def __init__(self, begin: bytes, end: bytes) -> None:
        self._begin = begin
        self._end = end
        self._left_out = 0
        self.data = bytearray()
        self.begun: bytes | None = None
        self.ended: bytes | None = None

    def feed(self, chunk: bytes) -> None:
        if not chunk or self.ended is not None:
            return
        fresh = len(self.data)
        self.data += chunk
        if self.begun is None:
            self.begun = self._take(self._begin, 0, keep_before=False)
            if self.begun is None:
                del self.data[:-400]
                return
            fresh = 0
        self.ended = self._take(self._end, max(0, fresh - len(self._end) - 64), keep_before=True)
        if self.ended is None and len(self.data) > LIMIT + _SLACK:
            self._left_out += len(self.data) - LIMIT
            del self.data[LIMIT - _TAIL : -_TAIL]

    def _take(self, mark: bytes, start: int, *, keep_before: bool) -> bytes | None:
        """The rest of the mark's line, when all of it is there."""
        at = self.data.find(mark, start)
        stop = self.data.find(b"\n", at) if at >= 0 else -1
        if stop < 0:
            return None
        said = bytes(self.data[at + len(mark) : stop])
        if keep_before:
            del self.data[at:]
        else:
            del self.data[: stop + 1]
        return said

    def value(self) -> bytes:
        if self._left_out == 0 and len(self.data) <= LIMIT:
            return bytes(self.data)
        left_out = self._left_out + max(0, len(self.data) - LIMIT)
        mark = f"\n[... {left_out} bytes left out ...]\n".encode()
        return bytes(self.data[: LIMIT - _TAIL]) + mark + bytes(self.data[-_TAIL:])


class Shell:
    """A shell on a channel. Not for several threads at once: the host's pool sees to that.

    Args:
        channel: to a fresh ``/bin/sh`` that reads commands from its standard input.
        answers_within: seconds allowed from sending a command until it has begun; that the far end is alive
            is asked apart from how long the command may take.
    """

    def __init__(self, channel: Channel, answers_within: float) -> None:
        self._channel = channel
        self._answers_within = answers_within
        self._preamble = PREAMBLE
        self.used = False

    def execute(
        self, command: str, timeout: float, still_wanted: Callable[[], None] = lambda: None
    ) -> CommandResult:
        """Runs it.

        Args:
            still_wanted: called now and then while it runs; what it raises ends the wait.

        Raises:
            ShellGone: the shell or the way to it ended.
            ShellLate: the command was not over after ``timeout`` seconds (or had not begun in its time). The
                shell is then of no further use.
        """
        nonce = secrets.token_hex(12)
        begin, end = f"<{nonce}+", f"<{nonce}-"
        out, err = _Stream(begin.encode(), end.encode()), _Stream(begin.encode(), end.encode())
        script = (
            f"{self._preamble}printf '{begin}%s\\n' $$; printf '{begin}\\n' >&2; "
            f"(eval {shlex.quote(command)}\n) </dev/null; "
            f"set -- $?; printf '{end}%s\\n' $1; printf '{end}\\n' >&2\n"
        )
        self._preamble = ""
        began = time.monotonic()
        deadline = began + self._answers_within
        try:
            self._channel.send(script.encode("utf-8", "surrogateescape"), deadline)
            while out.ended is None or err.ended is None:
                still_wanted()
                chunks = self._channel.receive(min(deadline, time.monotonic() + _LOOK))
                waiting = out.begun is None
                out.feed(chunks[0])
                err.feed(chunks[1])
                if waiting and out.begun is not None:
                    began = time.monotonic()
                    deadline = began + timeout
                elif chunks == (b"", b"") and time.monotonic() >= deadline:
                    raise TimeoutError
        except ChannelClosed as closed:
            said = "" if out.begun is not None else text(bytes(err.data)).strip()
            raise ShellGone(f"{closed} {said}".strip(), started=out.begun is not None) from None
        except TimeoutError:
            pid = int(out.begun) if out.begun else None
            raise ShellLate(pid, out.value(), err.value()) from None
        self.used = True
        return CommandResult(
            command=command,
            status=int(out.ended),
            stdout=text(out.value()),
            stderr=text(err.value()),
            seconds=time.monotonic() - began,
            stdout_bytes=out.value(),
            stderr_bytes=err.value(),
        )

    def close(self) -> None:
        self._channel.close()


def text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def quoted(command: str, *args: object) -> str:
    """``quoted("ping -c1 %s", address)``: the arguments quoted for a shell; without any the command stays as
    it is.

    Raises:
        ValueError: arguments and ``%s`` do not match, or a NUL byte, which no shell can take.
    """
    try:
        full = command % tuple(shlex.quote(str(a)) for a in args) if args else command
    except TypeError as wrong:
        raise ValueError(f"{command!r} with {len(args)} argument(s): {wrong}") from None
    if "\0" in full:
        raise ValueError(f"a command cannot hold a NUL byte: {full!r}")
    return full


END_TREE = r"""
tree() {
  kill -STOP "$1" 2>/dev/null
  for f in $(grep -ls "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status); do
    f=${f%%/status}; tree "${f#/proc/}"
  done
  kill -KILL "$1" 2>/dev/null
}
tree %s; true"""
"""Ends a shell and what it started, not what earlier commands left running: stopped first, so that nothing is
born meanwhile. Process groups would not do: a shell without a terminal gives its commands none of their
own."""
