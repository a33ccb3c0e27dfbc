"""Reachability: looks not yet made, and what they prove.

>>> reached(ping(desktop, "192.168.37.28"), tcp(desktop, "192.168.37.28", 22))
>>> not_reached(ping(desktop, "10.1.0.5"), alive=[ping(calculator, "10.1.0.5"), ping(desktop,
"192.168.37.28")])

Both ways have one rule: a target is reached when it answers within the window, tried again and again; it is
not reached when nothing in the whole window did. So a refusal does not end a look either: the daemon may be
about to start.
"""

from __future__ import annotations

import ipaddress
import math
import re
import threading
import time
import weakref
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import urlsplit

from probes.classify import Reading, connect_reading, curl_body, curl_reading, ping_reading
from probes.host import CommandResult, CommandTimeout, Host, HostError
from probes.observation import Observation, Outcome
from probes.probe import FactProbe, Probe, capped, command, fact, not_run, shown
from probes.prove import STOOD_STILL, facts, look, not_reached, reached, wait_until
from probes.shell import quoted

__all__ = [
    "FactProbe",
    "HttpProbe",
    "PingProbe",
    "Probe",
    "TcpProbe",
    "command",
    "fact",
    "facts",
    "http",
    "look",
    "not_reached",
    "ping",
    "reached",
    "tcp",
    "wait_until",
]

_AGAIN = 0.5
_LEAST = 1.0
_SLACK = 15.0
LATE = 3.0
"""Seconds that silence may last longer than its window; after more of them the source did not listen all the time."""


@dataclass(frozen=True)
class WindowProbe(Probe):
    """A look that tries until an answer comes, or its window (seconds) is over."""

    window: float = 5.0

    @abstractmethod
    def command(self, span: float) -> str:
        """One try of at most ``span`` seconds, as a person could type it."""

    @abstractmethod
    def read(self, result: CommandResult) -> Reading:
        """What a try showed."""

    def output(self, result: CommandResult, reading: Reading) -> str:
        return shown(result)

    def enough(self, result: CommandResult, reading: Reading) -> bool:
        return reading.outcome is Outcome.REACHABLE

    def judge(self, outcome: Outcome, numbers: dict[str, float]) -> tuple[Outcome, str]:
        """The outcome of the whole look, and a remark for its output."""
        return outcome, ""

    def prepare(self) -> None:
        """What has to be known of the source before the first try. Raises HostError."""

    def hostname(self) -> str:
        """Address or name of the host that is looked at."""
        return self.target

    def look(self) -> Observation:
        started, began = time.time(), time.monotonic()
        end = began + self.window
        outputs: list[str] = []
        numbers: dict[str, float] = {}
        answer: Reading | None = None
        tries = 0
        typed = ""
        try:
            self.prepare()
            typed = self.command(self.window)
            while True:
                span = max(_LEAST, end - time.monotonic())
                result = self._unresolved(span)
                if result is None:
                    result = self.source.run(self.command(span), timeout=span + _SLACK)
                    reading = self.read(result)
                else:
                    reading = Reading(Outcome.NAME_ERROR)
                tries += 1
                if tries == 1:
                    # The window opens when the first try does, not while it waits for a shell.
                    end = time.monotonic() - result.seconds + self.window
                _merge(numbers, reading.numbers)
                if (text := self.output(result, reading).strip("\n")) not in outputs[-1:]:
                    outputs.append(text)
                # Silence is an outcome only when nothing at all came back during the window.
                if answer is None or reading.outcome is not Outcome.FILTERED:
                    answer = reading
                if self.enough(result, reading) or reading.outcome is Outcome.NOT_MADE:
                    break
                left = end - time.monotonic()
                if left < _LEAST:
                    time.sleep(max(0.0, left))
                    break
                time.sleep(_AGAIN)
            outcome = answer.outcome or self._by_route(answer, outputs)
            outcome, remark = self.judge(outcome, numbers)
            outputs += [remark] if remark else []
            silent = outcome in (Outcome.FILTERED, Outcome.NOT_MADE)
            if silent and (late := time.monotonic() - end) > LATE:
                numbers[STOOD_STILL] = late
        except HostError as error:
            outcome = Outcome.NOT_MADE
            outputs.append(not_run(error))
        if tries > 1:
            numbers["tries"] = float(tries)
        return Observation(
            self.kind,
            self.source.name,
            self.target,
            typed or str(self),
            outcome,
            capped("\n".join(outputs)),
            numbers,
            started,
            time.monotonic() - began,
        )

    def _unresolved(self, span: float) -> CommandResult | None:
        """The look-up of the target's name, when it fails: asked apart, for the wait of the resolver is not
        bounded by ping's or bash's own, and would pass for a filtered target.
        """
        name = self.hostname()
        if not name or _is_address(name) or "getent" not in tools_of(self.source):
            return None
        lookup = quoted("getent hosts %s", name)
        try:
            result = self.source.run(lookup, timeout=span)
        except CommandTimeout as late:
            return CommandResult(lookup, 124, "", f"$ {lookup}\n{late}", span)
        if result.succeeded:
            return None
        return replace(result, stderr=f"$ {lookup}\n{result.stderr}(exit status {result.status}: not found)")

    def _by_route(self, reading: Reading, outputs: list[str]) -> Outcome:
        """Whether the source has no way there, or somebody further on said so: errno tells no difference."""
        if not _is_address(address := self.hostname()):
            return reading.by_text
        result = self.source.run("ip route get %s", address)
        if result.status in (126, 127):
            return reading.by_text
        outputs.append(f"$ {result.command}\n{shown(result).strip()}")
        return Outcome.UNREACHABLE if result.succeeded else Outcome.NO_ROUTE


@dataclass(frozen=True)
class PingProbe(WindowProbe):
    """ICMP echo. It ends when ``packets`` replies have come; one is enough to be reached."""

    packets: int = 3
    size: int | None = None

    kind = "ping"

    def command(self, span: float) -> str:
        size = "" if self.size is None else f" -s {self.size}"
        wait = math.ceil(span - 0.05)
        if "busybox ping" in tools_of(self.source):
            return quoted(f"ping -c {max(2, wait)} -W 1 -w {wait}{size} %s", self.target)
        return quoted(f"ping -n -c {self.packets} -i 0.5 -w {wait}{size} %s", self.target)

    def prepare(self) -> None:
        tools_of(self.source)

    def read(self, result: CommandResult) -> Reading:
        return ping_reading(result)

    def quick(self) -> Self:
        return replace(self, packets=1)

    def judge(self, outcome: Outcome, numbers: dict[str, float]) -> tuple[Outcome, str]:
        if outcome is Outcome.FILTERED and numbers.get("sent", 0) < 2:
            return Outcome.NOT_MADE, "fewer than two packets went out during the window: not enough to tell"
        return outcome, ""


@dataclass(frozen=True)
class TcpProbe(WindowProbe):
    """A TCP connection, opened and closed."""

    port: int = 0

    kind = "tcp"

    def command(self, span: float) -> str:
        wait = math.ceil(span - 0.05)
        tools = tools_of(self.source)
        if {"bash", "timeout"} <= tools:
            return f"timeout {wait} bash -c 'exec 3<>/dev/tcp/{self.target}/{self.port}'"
        if "busybox nc" in tools:
            return f"nc -w {wait} {self.target} {self.port} -e true"
        if "python3" in tools:
            script = f"import socket; socket.create_connection(('{self.target}', {self.port}), {wait})"
            return quoted("python3 -c %s", script)
        raise HostError(
            f"{self.source.name}: none of bash with timeout, busybox nc, python3 to open a connection with"
        )

    def prepare(self) -> None:
        tools_of(self.source)

    def read(self, result: CommandResult) -> Reading:
        reading = connect_reading(result)
        return replace(reading, numbers={"port": float(self.port)})

    def __str__(self) -> str:
        return f"{self.kind} {self.source.name} -> {self.target} port {self.port}"


@dataclass(frozen=True)
class HttpProbe(WindowProbe):
    """An HTTP request by curl. Any HTTP answer, of whatever status, is an answer."""

    method: str = "GET"
    body: str | None = None
    expect: str | None = None

    kind = "http"

    def command(self, span: float) -> str:
        usual = "GET" if self.body is None else "POST"
        method = "" if self.method == usual else quoted(" -X %s", self.method)
        body = "" if self.body is None else quoted(" --data-raw %s", self.body)
        # Never through a proxy that happens to be configured on the source.
        url = quoted(" %s", self.target)
        return f"curl -sSv --noproxy '*' -m {round(span, 1):g}{method}{body} -w '\\n%{{http_code}}'{url}"

    def read(self, result: CommandResult) -> Reading:
        reading = curl_reading(result)
        if self.expect is None or reading.outcome is not Outcome.REACHABLE:
            return reading
        return replace(
            reading, numbers={**reading.numbers, "matched": float(self.expect in curl_body(result))}
        )

    def output(self, result: CommandResult, reading: Reading) -> str:
        return curl_body(result) if reading.outcome is Outcome.REACHABLE else result.stderr

    def enough(self, result: CommandResult, reading: Reading) -> bool:
        return reading.outcome is Outcome.REACHABLE and reading.numbers.get("matched", 1.0) == 1.0

    def hostname(self) -> str:
        return urlsplit(self.target).hostname or ""


def ping(
    source: Host, target: object, *, window: float = 5.0, packets: int = 3, size: int | None = None
) -> PingProbe:
    """ICMP echo from a host to an address or name.

    Args:
        source: the host that pings.
        target: IPv4 address or name.
        window: seconds within which a reply must come, and for which all must be lost to be unreachable.
        packets: replies after which it is over; half a second apart.
        size: bytes of payload, ping's own default (56) when None.

    The observation's numbers: ``sent``, ``received``, ``ttl``, ``rtt_ms``.
    """
    if packets < 1 or window < 1:
        raise ValueError(
            f"ping {target}: at least one packet and a window of one second, not {packets}, {window:g}"
        )
    return PingProbe(source, address_or_name(target), window, packets, size)


def tcp(source: Host, target: object, port: int, *, window: float = 5.0) -> TcpProbe:
    """A TCP connection from a host to a port.

    Refused at once, it is tried again every half second until the window is over, and is ``REFUSED`` then;
    without any answer it is ``FILTERED`` (SYNs go out at 0, 1 and 3 s: tcp_syn_retries, tcp(7)).
    """
    if not 0 < port < 65536:
        raise ValueError(f"tcp {target}: port {port} is not 1 to 65535")
    return TcpProbe(source, address_or_name(target), window, port)


def http(
    source: Host,
    url: str,
    *,
    method: str | None = None,
    body: str | None = None,
    window: float = 10.0,
    expect: str | None = None,
) -> HttpProbe:
    """An HTTP request from a host.

    Args:
        source: the host that asks.
        url: with scheme.
        method: GET, or POST when there is a body, by default.
        body: sent as it is.
        window: seconds, as in ``tcp``.
        expect: tried again until the body holds this text; whether it did is ``numbers["matched"]``. It does
            not change the outcome: what the answer must be is for the check to say.

    The observation's output is the body of the answer, its ``status`` a number; of a failure, what curl said.
    """
    if not re.match(r"https?://[^\s/]", url):
        raise ValueError(f"not an http URL: {url!r}")
    return HttpProbe(source, url, window, method or ("GET" if body is None else "POST"), body, expect)


def address_or_name(target: object) -> str:
    """The target as text. Raises ValueError for what is neither an address nor a name."""
    name = str(target)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:-]*", name):
        raise ValueError(f"neither an address nor a name: {name!r}")
    return name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _merge(numbers: dict[str, float], fresh: dict[str, float]) -> None:
    for key, value in fresh.items():
        numbers[key] = numbers.get(key, 0.0) + value if key in ("sent", "received") else value


class _Tools:
    """What one host has to look with; asked once, however many looks begin at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: frozenset[str] | None = None

    def of(self, host: Host) -> frozenset[str]:
        with self._lock:
            if self._found is None:
                found = host.run(
                    "for t in bash timeout python3 getent; do command -v $t >/dev/null && echo $t; done; "
                    "for t in nc ping; do $t --help 2>&1 | grep -q BusyBox && echo busybox $t; done; true"
                )
                self._found = frozenset(found.stdout.splitlines())
            return self._found


_known: weakref.WeakKeyDictionary[Any, _Tools] = weakref.WeakKeyDictionary()
_knowing = threading.Lock()


def tools_of(host: Host) -> frozenset[str]:
    """Which of the tools that looks need a host has; asked once. Raises HostError."""
    with _knowing:
        tools = _known.setdefault(host, _Tools())
    return tools.of(host)
