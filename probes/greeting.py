"""Whether the right service answers at a port: one that speaks first says what it is.

A connection alone proves little where somebody stands between: a port forwarding of a NAT, or a published
port of a container engine, accepts it before anybody knows whether the service behind lives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from probes.classify import Reading, connect_reading
from probes.host import CommandResult, Host, HostError
from probes.observation import Outcome
from probes.reach import WindowProbe, address_or_name, tools_of
from probes.shell import quoted

SSH = "SSH-2.0-"
"""How an SSH server greets (RFC 4253, 4.2)."""
_PATIENCE = 5.0


@dataclass(frozen=True)
class GreetingProbe(WindowProbe):
    """A TCP connection and the first line that comes over it; reached when the line begins as expected."""

    port: int = 0
    expect: str = SSH

    kind = "greeting"

    def command(self, span: float) -> str:
        # a connection that says nothing is given up while there is time for another
        wait = math.ceil(min(span, max(_PATIENCE, self.window / 2)) - 0.05)
        tools = tools_of(self.source)
        if {"bash", "timeout"} <= tools:
            return (
                f"timeout {wait} bash -c "
                f"'exec 3<>/dev/tcp/{self.target}/{self.port} && echo connected && head -n 1 <&3'"
            )
        if "python3" in tools:
            script = (
                f"import socket; s = socket.create_connection(('{self.target}', {self.port}), {wait}); "
                "print('connected', flush=True); print(s.recv(255).decode('latin-1'))"
            )
            return quoted("python3 -c %s", script)
        raise HostError(
            f"{self.source.name}: neither bash with timeout nor python3 to open a connection with"
        )

    def prepare(self) -> None:
        tools_of(self.source)

    def read(self, result: CommandResult) -> Reading:
        numbers = {"port": float(self.port)}
        connected, _, line = result.stdout.partition("connected\n")
        if connected or "connected\n" not in result.stdout:
            return replace(connect_reading(result), numbers=numbers)
        right = line.startswith(self.expect)
        return Reading(Outcome.REACHABLE if right else Outcome.NO_ANSWER, numbers)

    def __str__(self) -> str:
        return f"{self.kind} {self.source.name} -> {self.target} port {self.port}"


def greeting(
    source: Host, target: object, port: int, *, expect: str = SSH, window: float = 5.0
) -> GreetingProbe:
    """The first line of a service that speaks first, from a host.

    Args:
        source: the host that connects.
        target: IPv4 address or name.
        port: TCP port.
        expect: how the line begins; SSH's by default.
        window: seconds, as in :func:`probes.reach.tcp`.

    ``NO_ANSWER`` when somebody takes the connection, and hangs up, keeps silent or says something else.
    """
    if not 0 < port < 65536:
        raise ValueError(f"greeting {target}: port {port} is not 1 to 65535")
    return GreetingProbe(source, address_or_name(target), window, port, expect)
