"""Which services answer where, and where they log, on a lab that somebody else has set up.

>>> services_in(who_answers(calculator, "30.4.5.215", [50001, 50002]).look())
{50001: 'sum'}
"""

from __future__ import annotations

import socket
import time
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, InvalidOperation

from probes.host import Host
from probes.observation import Observation, Outcome, evidence
from probes.probe import FactProbe, fact

QUESTION = "9 3"
ANSWERS = {12: "sum", 6: "sub", 27: "mul", 3: "div"}
"""A question that each operation answers otherwise, and who answers so."""
WITHIN = 4

# What a process writes to is for its user and for root to see. One sudo alone: where a host cannot resolve its own name,
# as on many a cloud, each waits for a name server. In a shell of its own: the host's is left by no command.
_LOG = """
(look='pid=$(ss -Hltnp "sport = :PORT" 2>/dev/null | sed -n "s/.*pid=\\([0-9]*\\).*/\\1/p" | head -n 1)
    for stream in 1 2; do
        file=$([ -z "$pid" ] || readlink "/proc/$pid/fd/$stream" 2>/dev/null)
        if [ -n "$file" ] && [ -f "$file" ]; then echo "$file"; exit 0; fi
    done
    exit 1'
sh -c "$look" || sudo -n sh -c "$look")
"""


def open_ports(
    address: object, ports: Iterable[int], *, source: str = "desktop", within: float = 3.5
) -> list[int]:
    """The TCP ports of an address that take a connection of this process, tried all at once.

    Args:
        source: what this process is, for the evidence.
        within: seconds; a SYN that was lost is sent again after 1 and 3 s.
    """
    tried = sorted(set(ports))
    started, began = time.time(), time.monotonic()

    def takes(port: int) -> bool:
        try:
            socket.create_connection((str(address), port), timeout=within).close()
        except OSError:
            return False
        return True

    with ThreadPoolExecutor(max(1, len(tried)), thread_name_prefix="port") as threads:
        found = [port for port, open_ in zip(tried, threads.map(takes, tried), strict=True) if open_]
    told = f"{tried[0]} to {tried[-1]}" if tried else "none"
    evidence.add(
        Observation(
            "tcp", source, str(address), f"connect to TCP ports {told}", Outcome.SEEN,
            f"open: {', '.join(map(str, found)) or 'none'}", {}, started, time.monotonic() - began,
        )
    )  # fmt: skip
    return found


def who_answers(source: Host, address: object, ports: Collection[int]) -> FactProbe:
    """Asks :data:`QUESTION` on ports of an address, all at once."""
    text = (
        f"for port in {' '.join(map(str, ports))}; do (echo \"$port $(curl -s -m {WITHIN} --noproxy '*' "
        f"--data-raw '{QUESTION}' http://{address}:$port/ 2>/dev/null | head -c 100 | tr '\\r\\n' '  ')\") & done; wait"
    )
    return fact(source, text, target=str(address), timeout=WITHIN + 20.0)


def services_in(seen: Observation) -> dict[int, str]:
    """Who answered, by port."""
    found: dict[int, str] = {}
    for line in seen.output.splitlines() if seen.outcome is Outcome.SEEN else ():
        port, _, answer = line.partition(" ")
        try:
            name = ANSWERS.get(int(Decimal(answer.strip()))) if Decimal(answer.strip()) % 1 == 0 else None
        except (InvalidOperation, ValueError, OverflowError):
            continue
        if name and port.isdigit():
            found[int(port)] = name
    return found


def log_of(source: Host, port: int) -> FactProbe:
    """Looks where the process that listens on a port of a host writes its output to."""
    return fact(source, _LOG.strip().replace("PORT", str(port)), target=f"log of port {port}", timeout=60.0)


def log_path(seen: Observation) -> str:
    """The file; empty where it is none, or cannot be seen."""
    lines = seen.output.strip().splitlines() if seen.outcome is Outcome.SEEN else []
    return next((line for line in lines if line.startswith("/")), "")
