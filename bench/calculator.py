"""The calculator's whole chain on the loopback: ours against Node.js in the lab's synchronous style; and a soak.

LABPROOF_SOAK is the number of the soak's requests: 5000 by default, 100000 for the whole.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from bench.common import Row, ratio, timed
from provision.box.paths import cache
from tests.calculator_expressions import Unknowable, agrees, exact
from tests.calculator_world import LOOPBACK, Calculator, Service, five

SECONDS = 5.0
CLIENTS = 8
SOAK = int(os.environ.get("LABPROOF_SOAK", "5000"))
# As the lab's own programs call the micro-services; any 6.x has the same one function.
SYNC_REQUEST = "sync-request@6.1.0"
NO_EXPRESSIONS = [
    "",
    "1+",
    "(1",
    "1 2",
    "nan",
    "1e5",
    "1/0",
    "1/(2-2)",
    "9" * 41,
    "(" * 60,
    "\u00b2+1",
    "x" * 4000,
]
WRONG = [
    *(("POST", text.encode(), 400) for text in NO_EXPRESSIONS),
    ("POST", b"\xff\xfe", 400),
    ("POST", b"1+\x00", 400),
    ("POST", b"1" * 5000, 413),
    ("POST", b"1" * 200_000, 413),
    ("GET", b"", 405),
    ("PUT", b"1+1", 405),
]


def measure() -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        labs = {
            "ours": stack.enter_context(five("python", folder)),
            "Node.js": stack.enter_context(five("node", folder)),
        }
        note = "no npm, or no package to be had"
        if modules := sync_request():
            with environment(NODE_PATH=str(modules), SYNC_REQUEST="1"):
                labs[f"Node.js, {SYNC_REQUEST}"] = stack.enter_context(five("node", folder))
        else:
            rows.append(Row(f"calculator: Node.js, {SYNC_REQUEST}: not measured", 0, "", note))
        rates = {}
        for whose, lab in labs.items():
            rates[whose] = rate(lab.calculator)
            times = latencies(lab.calculator)
            centiles = statistics.quantiles(times, n=100)
            rows += [
                Row(f"calculator: (5+6)*2, {CLIENTS} clients, {whose}", rates[whose], "1/s"),
                Row(f"calculator: (5+6)*2, one client, p50, {whose}", centiles[49] * 1000, "ms"),
                Row(f"calculator: (5+6)*2, one client, p99, {whose}", centiles[98] * 1000, "ms"),
            ]
        rows += [
            ratio(f"calculator: requests per second, ours / {whose}", rates["ours"], theirs, "")
            for whose, theirs in rates.items()
            if whose != "ours"
        ]
        rows += soak(labs["ours"])
    return rows


def sync_request() -> Path | None:
    """Where the npm package is, installed into the cache; None if it cannot be."""
    folder = cache() / f"npm-{hashlib.sha256(SYNC_REQUEST.encode()).hexdigest()[:16]}"
    modules = folder / "node_modules"
    if not modules.is_dir():
        if not shutil.which("npm"):
            return None
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            done = subprocess.run(
                ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", name, SYNC_REQUEST],
                capture_output=True, check=False, timeout=300,
            )  # fmt: skip
            if done.returncode:
                return None
            Path(name, "node_modules").rename(Path(name, "made"))
            folder.mkdir(exist_ok=True)
            Path(name, "made").rename(modules)
    return modules


@contextmanager
def environment(**settings: str) -> Iterator[None]:
    """Of the processes that are started meanwhile."""
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in settings:
            del os.environ[name]


def ask(connection: http.client.HTTPConnection, body: bytes, method: str = "POST") -> tuple[int, str]:
    connection.request(method, "/", body)
    response = connection.getresponse()
    return response.status, response.read().decode()


def rightly(connection: http.client.HTTPConnection) -> float:
    """Seconds that one right answer took."""
    with timed() as clock:
        answer = ask(connection, b"(5+6)*2")
    if answer != (200, "result = 22\n"):
        raise SystemExit(f"(5+6)*2 is answered by {answer}")
    return clock.seconds


def latencies(service: Service) -> list[float]:
    """Of requests one after another over one connection."""
    ends = time.monotonic() + SECONDS
    with closing(http.client.HTTPConnection(LOOPBACK, service.port, timeout=60)) as connection:
        rightly(connection)
        times = []
        while time.monotonic() < ends or len(times) < 2:
            times.append(rightly(connection))
    return times


def rate(service: Service) -> float:
    """Right answers per second to CLIENTS clients, each over one connection."""
    ends = time.monotonic() + SECONDS

    def client(_: int) -> int:
        count = 0
        with closing(http.client.HTTPConnection(LOOPBACK, service.port, timeout=60)) as connection:
            while time.monotonic() < ends:
                rightly(connection)
                count += 1
        return count

    with ThreadPoolExecutor(CLIENTS) as pool, timed() as clock:
        total = sum(pool.map(client, range(CLIENTS)))
    return total / clock.seconds


def soak(lab: Calculator) -> list[Row]:
    """SOAK requests, a third of them bad, over connections that come and go."""
    services = [lab.calculator, *lab.micro.values()]
    warm = SOAK // 5
    wrong = run(lab.calculator, warm, seed=1)
    before = [resident(service) for service in services]
    with timed() as clock:
        wrong += run(lab.calculator, SOAK - warm, seed=2)
    growth = [resident(service) - old for service, old in zip(services, before, strict=True)]
    for line in wrong[:5]:
        print(f"soak: {line}")
    note = f"of {SOAK}, {(SOAK - warm) / clock.seconds:.0f} per second"
    return [
        Row("calculator: soak, wrong answers", len(wrong), "", f"{note}; wanted 0"),
        Row("calculator: soak, largest growth of a process", max(growth) / 1024, "MiB", f"from {max(before) / 1024:.1f}"),
    ]  # fmt: skip


def run(service: Service, count: int, seed: int) -> list[str]:
    """What was answered wrongly."""

    def client(number: int) -> list[str]:
        chance = random.Random(f"{seed} {number}")
        wrong = []
        connection = http.client.HTTPConnection(LOOPBACK, service.port, timeout=60)
        for _ in range(count // CLIENTS):
            if chance.random() < 0.05:
                connection.close()
            if chance.random() < 1 / 3:
                method, body, wanted = chance.choice(WRONG)
                status, text = ask(connection, body, method)
                right = status == wanted
            else:
                asked = expression(chance, 3)
                status, text = ask(connection, body := asked.encode())
                right = is_right(asked, status, text)
            if not right:
                wrong.append(f"{body[:80]!r}: {status} {text!r}")
        connection.close()
        return wrong

    with ThreadPoolExecutor(CLIENTS) as pool:
        return [line for lines in pool.map(client, range(CLIENTS)) for line in lines]


def expression(chance: random.Random, depth: int) -> str:
    if not depth or chance.random() < 0.3:
        return f"{chance.randint(-99, 99)}" if chance.random() < 0.7 else f"{chance.uniform(0, 99):.3f}"
    left, right = (expression(chance, depth - 1) for _ in range(2))
    return f"({left}{chance.choice('+-*/')}{right})"


def is_right(body: str, status: int, text: str) -> bool:
    try:
        wanted = exact(body)
    except ZeroDivisionError:
        return status == 400
    except Unknowable:
        return status in (200, 400)
    return status == 200 and agrees(text.removeprefix("result = ").removesuffix("\n"), wanted)


def resident(service: Service) -> int:
    """KiB in memory; raises FileNotFoundError if it has crashed."""
    status = Path(f"/proc/{service.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])
