"""What the output of ping, curl and of a connecting shell means.

Texts are those of iputils (``ping/ping_common.c``, ``ping/ping.c``), busybox (``networking/ping.c``), curl,
bash and Python in the C locale; the words for an errno are the C library's (glibc and musl agree on those
used here).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from probes.observation import Outcome
from probes.shell import CommandResult

_REPLY = re.compile(r"^\d+ bytes from .*?seq=\d+ ttl=(\d+)(?: time[=<]([\d.]+) ms)?", re.MULTILINE)
_TOTALS = re.compile(r"^(\d+) packets transmitted, (\d+) (?:packets )?received", re.MULTILINE)
_REPORTED = re.compile(
    r"^From (?P<who>\S+?):? icmp_seq=\d+ (?P<what>Destination .*|Packet filtered|Time to live exceeded.*)$",
    re.MULTILINE,
)

_NAME = re.compile(
    r"Name or service not known|Temporary failure in name resolution|No address associated with hostname"
    r"|Name does not resolve|Could not resolve host|Resolving timed out|bad address '|unknown host"
    r"|Name has no usable address",
    re.IGNORECASE,
)
_LOCAL_ROUTE = re.compile(
    # Of one's own routes (ip-route(8)): none at all, or one of type unreachable, blackhole, prohibit; the
    # last iputils words as a question about broadcast. The first two may have come from a router as well.
    r"Network (?:is )?unreachable|No route to host|Host is unreachable"
    r"|: Invalid argument$|Permission denied|Do you want to ping broadcast",
    re.MULTILINE,
)
_REFUSED = re.compile(r"Connection refused|ConnectionRefusedError")
_TIMED_OUT = re.compile(r"timed out|Operation timed out|Time-?out", re.IGNORECASE)
_NOT_PERMITTED = re.compile(
    r"socket: (?:Operation not permitted|Permission denied)|are you root|Lacking privilege|cap_net_raw",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Reading:
    """What one run of a tool showed.

    Attributes:
        outcome: None when the source's own routing has to be looked at to tell (``by_text`` is then the
            second best).
        numbers: as in Observation.
        by_text: what the message alone suggests.
    """

    outcome: Outcome | None
    numbers: dict[str, float] = field(default_factory=dict)
    by_text: Outcome = Outcome.NOT_MADE


def ping_reading(result: CommandResult) -> Reading:
    """Reads a run of iputils' or busybox' ping. One reply makes it reachable; that a tool is missing, not
    permitted or says something unknown makes it ``NOT_MADE``, never unreachable. (Busybox keeps quiet about
    ICMP errors: they read as ``FILTERED``.)
    """
    numbers: dict[str, float] = {}
    replies = _REPLY.findall(result.stdout)
    if totals := _TOTALS.search(result.stdout):
        numbers |= {"sent": float(totals[1]), "received": float(totals[2])}
    if replies:
        times = [float(time) for _, time in replies if time]
        numbers["ttl"] = float(replies[-1][0])
        numbers.setdefault("received", float(len(replies)))
        if times:
            numbers["rtt_ms"] = round(sum(times) / len(times), 3)
        return Reading(Outcome.REACHABLE, numbers)
    if numbers.get("received"):
        return Reading(Outcome.REACHABLE, numbers)
    failed = _ping_failure(result, everything_lost=bool(numbers.get("sent")))
    return replace(failed, numbers=numbers)


def _ping_failure(result: CommandResult, *, everything_lost: bool) -> Reading:
    text = f"{result.stdout}\n{result.stderr}"
    if _NOT_PERMITTED.search(text):
        return Reading(Outcome.NOT_MADE)
    if reported := list(_REPORTED.finditer(result.stdout)):
        return Reading(_reported(reported[-1]["what"]))
    known = error_reading(result.stderr)
    if known.outcome is not Outcome.NOT_MADE:
        return known
    # EPERM on sending: the source's own firewall drops it.
    if everything_lost or re.search(r"send(?:msg|to): Operation not permitted", text):
        return Reading(Outcome.FILTERED)
    return known


def _reported(what: str) -> Outcome:
    # ICMP codes 9, 10, 13 (RFC 1812, 5.2.7.1) are a firewall's, 2 and 3 its REJECT: somebody said no.
    refusals = ("Packet filtered", "Prohibited", "Port Unreachable", "Protocol Unreachable")
    return Outcome.REFUSED if any(words in what for words in refusals) else Outcome.UNREACHABLE


def connect_reading(result: CommandResult) -> Reading:
    """Reads a run of a command that only opens a TCP connection (status 0: it did; 124: ``timeout`` ended
    it)."""
    if result.status == 0:
        return Reading(Outcome.REACHABLE)
    if result.status == 124:
        return Reading(Outcome.FILTERED)
    return error_reading(result.stderr)


def error_reading(text: str) -> Reading:
    """Reads the message of a connection that failed."""
    if _NAME.search(text):
        return Reading(Outcome.NAME_ERROR)
    if _REFUSED.search(text):
        return Reading(Outcome.REFUSED)
    if _LOCAL_ROUTE.search(text):
        return Reading(None, by_text=_route_by_text(text))
    if _TIMED_OUT.search(text):
        return Reading(Outcome.FILTERED)
    return Reading(Outcome.NOT_MADE)


def curl_reading(result: CommandResult) -> Reading:
    """Reads a run of ``curl -sSv … -w '\\n%{http_code}'``: any HTTP answer is an answer.

    Exit codes: curl(1), "EXIT CODES".
    """
    _, _, code = result.stdout.rpartition("\n")
    status = int(code) if code.strip().isdigit() else 0
    numbers = {"status": float(status)} if status else {}
    if status and result.status == 0:
        return Reading(Outcome.REACHABLE, numbers)
    if re.search(r"^\* +(?:Connected|Established connection) to", result.stderr, re.MULTILINE):
        # Whatever went wrong then (18 partial, 28 time, 52 empty reply, 56 reset), it was not the way there.
        return Reading(Outcome.NO_ANSWER, numbers)
    if result.status in (7, 28):
        return error_reading(result.stderr)
    return Reading(Outcome.NAME_ERROR if result.status == 6 else Outcome.NOT_MADE)


def curl_body(result: CommandResult) -> str:
    return result.stdout.rpartition("\n")[0]


def _route_by_text(text: str) -> Outcome:
    far = "No route to host" in text or "Host is unreachable" in text
    return Outcome.UNREACHABLE if far else Outcome.NO_ROUTE
