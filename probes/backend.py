"""pytest-testinfra's modules on our shells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import testinfra.host
from testinfra.backend.base import BaseBackend
from testinfra.backend.base import CommandResult as TestinfraResult

if TYPE_CHECKING:
    from probes.pool import PooledHost


class ShellBackend(BaseBackend):  # type: ignore[misc,unused-ignore]
    """Runs testinfra's commands through ``Host.run``.

    HostError passes through as it is: testinfra has no notion of a command that could not be made.
    """

    NAME = "labproof"

    def __init__(self, host: PooledHost) -> None:
        super().__init__(host.name)
        self._shells = host
        self._encoding = "utf-8"

    def run(self, command: str, *args: str, **kwargs: Any) -> TestinfraResult:
        full = self.get_command(command, *args)
        result = self._shells.run(full, timeout=float(kwargs.get("timeout", 10.0)))
        return self.result(result.status, self.encode(full), result.stdout_bytes, result.stderr_bytes)


def testinfra_host(host: PooledHost) -> testinfra.host.Host:
    backend = ShellBackend(host)
    wrapped = testinfra.host.Host(backend)
    backend.set_host(wrapped)
    return wrapped
