"""A host with a pool of long-lived shells: the first serves sequential commands, concurrent callers get
more."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from probes.ending import RunEndedError, check
from probes.shell import (
    END_TREE,
    CommandResult,
    CommandTimeout,
    HostError,
    Shell,
    ShellGone,
    ShellLate,
    quoted,
    text,
)

if TYPE_CHECKING:
    import testinfra.host

_CLEANUP = 5.0
_QUEUE = 120.0


class PooledHost(ABC):
    """What LocalHost, NamespaceHost and SshHost have in common."""

    name: str
    max_shells = 6

    def __init__(self, name: str) -> None:
        self.name = name
        self._slots = threading.BoundedSemaphore(self.max_shells)
        self._lock = threading.Lock()
        self._idle: list[Shell] = []
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _open(self, within: float = 10.0) -> Shell:
        """A new shell, in at most so many seconds where there is a connection. Raises HostError."""

    def _suspect(self) -> None:  # noqa: B027 - most hosts have no connection to give up
        """Called when not even a new shell answered: the connection, if any, is to be given up."""

    def run(self, command: str, *args: object, timeout: float = 10.0) -> CommandResult:
        """Runs a command through ``/bin/sh`` on the host.

        Args:
            command: shell text; ``%s`` stands for an argument.
            args: quoted for the shell.
            timeout: seconds that the command may take; then it and what it started is ended.

        Raises:
            CommandTimeout: it took longer.
            HostError: it could not be run, or its end could not be learned.
            ValueError: arguments do not fit the command.
        """
        full = quoted(command, *args)
        check(f"{self.name}: {full}")
        if not self._slots.acquire(timeout=_QUEUE):
            raise HostError(
                f"{self.name}: {self.max_shells} commands still busy after {_QUEUE:g} s; not run: {full}"
            )
        try:
            return self._run(full, timeout)
        finally:
            self._slots.release()

    def _run(self, command: str, timeout: float) -> CommandResult:
        for _ in range(2):
            shell = self._take()
            stale = shell.used
            try:
                result = shell.execute(command, timeout, self._still_wanted)
            except ShellGone as gone:
                shell.close()
                if stale and not gone.started:
                    # An idle shell died since its last use: the command never began, a fresh shell may run it.
                    self._forget_idle()
                    continue
                state = "ended while it ran" if gone.started else "ended before it ran"
                raise HostError(f"{self.name}: the shell {state}: {command} ({gone})") from None
            except ShellLate as late:
                self._clear_up(shell, late.pid)
                raise self._late(command, timeout, late) from None
            except RunEndedError:
                shell.close()
                raise
            except BaseException:
                self._clear_up(shell, None)
                raise
            self._give_back(shell)
            return result
        raise HostError(f"{self.name}: the shell ends before it runs anything: {command}")

    def _still_wanted(self) -> None:
        check(f"{self.name}: waiting for a command's end")

    def _late(self, command: str, timeout: float, late: ShellLate) -> HostError:
        if late.pid is None:
            return HostError(f"{self.name}: the shell does not answer; not known to have run: {command}")
        return CommandTimeout(
            f"{self.name}: not over after {timeout:g} s, ended: {command}",
            text(late.stdout),
            text(late.stderr),
        )

    def _take(self) -> Shell:
        with self._lock:
            if self._closed:
                raise HostError(f"{self.name}: closed")
            if self._idle:
                return self._idle.pop()
        return self._open()

    def _give_back(self, shell: Shell) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(shell)
                return
        shell.close()

    def _forget_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for shell in idle:
            shell.close()

    def _clear_up(self, shell: Shell, pid: int | None) -> None:
        """Ends what runs under a shell that was given up on, by way of another one."""
        try:
            other = self._open(_CLEANUP)
            try:
                other.execute(END_TREE % pid if pid else "true", _CLEANUP)
            except (ShellGone, ShellLate):
                other.close()
                raise
            self._give_back(other)
        except (HostError, ShellGone, ShellLate):
            self._suspect()
        finally:
            shell.close()

    @cached_property
    def testinfra(self) -> testinfra.host.Host:
        """testinfra's modules (``.interface``, ``.file``, ``.addr`` ...) on this host's shells."""
        from probes.backend import testinfra_host

        return testinfra_host(self)

    def close(self) -> None:
        """Ends the shells. Commands that still run in other threads end with HostError or are left to their
        end."""
        with self._lock:
            self._closed = True
        self._forget_idle()

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError(f"{type(self).__name__} holds live shells and cannot be copied")
