"""The calculator's protocol as seen from outside: what is asked and answered, and what the services have logged.

Only the protocol counts (DESIGN.md, "The wire protocol of the calculator"), whoever made the services:

>>> calculate(desktop, "http://192.168.37.14:50010", "(5+6)*2").output
"result = 22\\n"
>>> requests("New request :\\nA = 2\\nB = 3\\nA + B = 5\\n")
[Request(operation='sum', a=Decimal('2'), b=Decimal('3'), result=Decimal('5'))]
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from probes.guest import socket_of
from probes.host import Host
from probes.observation import Observation, Unproven
from probes.probe import FactProbe
from probes.reach import HttpProbe, fact, facts, http, look

MICRO = ("sum", "sub", "mul", "div")
SIGNS = {"sum": "+", "sub": "-", "mul": "*", "div": "/"}
QUESTIONS = {"sum": ("2 3", 5), "sub": ("5 3", 2), "mul": ("12 3", 36), "div": ("15 5", 3)}
"""A question for each micro-service, and its answer: none that another operation on the numbers gives too."""
# a calculator may wait some seconds for each micro-service before it says that one does not answer
ANSWERS_WITHIN = 10.0

_NUMBER = r"([+-]?\d+(?:\.\d+)?)"
_NEW = re.compile(r"\bnew\s+request\b", re.IGNORECASE)
_RESULT = re.compile(rf"\bA\s*([-+*/x×÷:])\s*B\s*=\s*{_NUMBER}")
_OPERAND = re.compile(rf"\b([AB])\s*=\s*{_NUMBER}")
_LISTENING = re.compile(r"\blistening\s+on\s+port\s*:?\s*(\d+)", re.IGNORECASE)
_ANSWER = re.compile(rf"\bresult\s*=\s*{_NUMBER}\s*$")
_NAMES = {"+": "sum", "-": "sub", "*": "mul", "x": "mul", "×": "mul", "/": "div", "÷": "div", ":": "div"}


@dataclass(frozen=True)
class Place:
    """Where a service is meant to be.

    Attributes:
        name: ``sum``, ``sub``, ``mul``, ``div`` or ``calculator``.
        address: of its host, as the others reach it.
        log_file: on the host; empty where it is not known.
    """

    name: str
    host: Host
    address: str
    port: int
    log_file: str

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def __str__(self) -> str:
        return f"{self.name} ({self.url} on {self.host.name})"


@dataclass(frozen=True)
class Request:
    """A request as a micro-service logged it; None, or no operation, for what it did not log of it."""

    operation: str = ""
    a: Decimal | None = None
    b: Decimal | None = None
    result: Decimal | None = None


def calculation(source: Host, url: str, expression: str, *, window: float = ANSWERS_WITHIN) -> HttpProbe:
    """The request for an expression (or, to a micro-service, for two numbers), as a look not yet made."""
    return http(source, url, method="POST", body=expression, window=window)


def calculate(source: Host, url: str, expression: str, *, window: float = ANSWERS_WITHIN) -> Observation:
    """Asks from a host, by curl: ``output`` is the answer's body, ``numbers["status"]`` its HTTP status.

    Args:
        source: any host, the desktop included.
        url: of the calculator, or of a micro-service.
        expression: infix for the calculator, ``A B`` for a micro-service.
        window: seconds within which the answer must come.
    """
    return look(calculation(source, url, expression, window=window))[0]


def number_of(seen: Observation) -> Decimal | None:
    """The number that was answered, by the calculator as ``result = 22``, else alone; None if it was none."""
    if not seen.reached or seen.numbers.get("status") != 200:
        return None
    text = seen.output.strip()
    found = _ANSWER.search(text) or re.fullmatch(_NUMBER, text)
    return Decimal(found[1]) if found else None


def operations(expression: str) -> list[str]:
    """The micro-services that an expression needs, in the order in which a calculator comes to need them.

    Raises:
        ValueError: it is no expression of numbers, ``+ - * /`` and parentheses.
    """
    names = {ast.Add: "sum", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}

    def needed(node: ast.expr) -> list[str]:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return []
        if isinstance(node, ast.BinOp) and type(node.op) in names:
            return [*needed(node.left), *needed(node.right), names[type(node.op)]]
        raise ValueError(f"not an expression of numbers and + - * /: {expression!r}")

    return needed(ast.parse(expression, mode="eval").body)


# ---------- Logs
def requests(log: str) -> list[Request]:
    """The requests in a micro-service's log, oldest first; other lines, and text before ours, do not matter."""
    found: list[Request] = []
    for line in log.splitlines():
        if _NEW.search(line):
            found.append(Request())
        elif not found:
            continue
        elif result := _RESULT.search(line):
            found[-1] = replace(found[-1], operation=_NAMES[result[1]], result=Decimal(result[2]))
        elif operand := _OPERAND.search(line):
            value = Decimal(operand[2])
            found[-1] = replace(found[-1], a=value) if operand[1] == "A" else replace(found[-1], b=value)
    return found


def listening_ports(log: str) -> list[int]:
    """The ports that a log says are listened on, oldest first."""
    return [int(port) for port in _LISTENING.findall(log)]


def last_words(log: str) -> str:
    """The line of a log's end that says most of why a service ended: the last that speaks of an error, else the last."""
    lines = [line.strip() for line in log.splitlines() if line.strip()][-30:]
    speaking = [
        line
        for line in lines
        if re.search(r"error|cannot|can't|exception|does not listen", line, re.IGNORECASE)
    ]
    return (speaking or lines or [""])[-1]


def _of_log(place: Place, command: str) -> FactProbe:
    """A log may belong to another user than the one who is logged in."""
    file, target = place.log_file, f"log of {place.name}"
    return fact(
        place.host, f"if [ -r %s ]; then {command} < %s; else sudo -n cat %s | {command}; fi",
        file, file, file, target=target,
    )  # fmt: skip


def _know_logs(places: Collection[Place]) -> None:
    """Raises Unproven for a log that nobody knows; if that is because its host cannot be entered, with that."""
    unknown = [place for place in places if not place.log_file]
    facts(*(fact(place.host, "true", target=f"log of {place.name}") for place in unknown))
    if unknown:
        name = unknown[0].name
        raise Unproven(f"the log of {name} is not known: name it in the submission file: [logs] {name} = …")


def log_sizes(places: Collection[Place]) -> dict[str, int]:
    """How long the logs are, to read later from there; all at once.

    Raises:
        Unproven: one cannot be read, or it is not known where it is.
    """
    _know_logs(places)
    seen = facts(*(_of_log(place, "wc -c") for place in places))
    sizes = {}
    for place, each in zip(places, seen, strict=True):
        if each.numbers.get("status") != 0 or not each.output.strip().isdigit():
            raise Unproven(f"cannot be told: the log of {place} cannot be read: {each}")
        sizes[place.name] = int(each.output)
    return sizes


def logs_since(places: Collection[Place], sizes: Mapping[str, int]) -> dict[str, str]:
    """What the services have logged since their logs were so long; all at once.

    Raises:
        Unproven: a log cannot be read, or has become shorter.
    """
    now = log_sizes(places)
    if shorter := [str(place) for place in places if now[place.name] < sizes[place.name]]:
        raise Unproven(f"cannot be told: the log was begun anew of {', '.join(shorter)}")
    seen = facts(*(_of_log(place, f"tail -c +{sizes[place.name] + 1}") for place in places))
    return {place.name: each.output for place, each in zip(places, seen, strict=True)}


def called(logs: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """How many requests each micro-service has logged, by operation (``""`` where it did not log which).

    >>> called(logs_since(places, sizes))
    {'sum': {'sum': 1}, 'sub': {}, 'mul': {'mul': 1}, 'div': {}}
    """
    return {name: dict(Counter(request.operation for request in requests(log))) for name, log in logs.items()}


# ---------- A service on its host
# /proc says what listens on any Linux; which process that is, and with what settings it was started, is for root to see
_STATE = """
echo "== listening"
awk '$4 == "0A" {print $2}' /proc/net/tcp /proc/net/tcp6 2>/dev/null
root=; [ "$(id -u)" = 0 ] || root="sudo -n"
echo "== settings"
$root sh -c '
    pid=$(ss -Hltnp "sport = :PORT" | sed -n "s/.*pid=\\([0-9]*\\).*/\\1/p" | head -n 1)
    [ -z "$pid" ] || tr "\\0" "\\n" </proc/$pid/environ | grep "^[A-Z]*_URL="' 2>/dev/null
echo "== size"
reader=; [ -r LOG ] || reader=$root
$reader cat LOG 2>/dev/null | wc -c
echo "== log"
$reader tail -c 65536 LOG 2>/dev/null
true
"""


@dataclass(frozen=True)
class ServiceState:
    """What a service's host shows of it.

    Attributes:
        listening: addresses and ports on which anything listens there; None where the host cannot be looked at.
        settings: the ``..._URL`` in the environment of the process that listens on the service's port.
        log: the end of its log, of `size` bytes.
        seen: the look.
    """

    listening: frozenset[tuple[str, int]] | None
    settings: Mapping[str, str]
    log: str
    size: int
    seen: Observation

    def listens(self, port: int) -> list[str]:
        """The addresses on which that port is listened on."""
        return sorted(address for address, listened in self.listening or () if listened == port)


def state_of(place: Place) -> FactProbe:
    """The look that :func:`service_state` reads."""
    log = "'" + place.log_file.replace("'", "'\\''") + "'"
    text = _STATE.strip().replace("PORT", str(place.port)).replace("LOG", log)
    return fact(place.host, text, target=f"{place.name} on its host", timeout=20.0)


def service_state(seen: Observation) -> ServiceState:
    """What the look at a service on its host showed."""
    head, cut, log = seen.output.partition("== log\n")
    if not cut:
        return ServiceState(None, {}, "", 0, seen)
    head, _, size = head.partition("== size\n")
    sockets, _, settings = head.partition("== settings\n")
    listening = frozenset(socket_of(line) for line in sockets.split() if ":" in line)
    pairs = (line.partition("=") for line in settings.splitlines())
    return ServiceState(listening, {key: value for key, _, value in pairs}, log, int(size), seen)
