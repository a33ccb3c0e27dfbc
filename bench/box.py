"""The embedded lab: warm start, end, and memory when idle."""

from __future__ import annotations

import statistics
import subprocess

from bench.common import Row, timed
from provision.box import runtime

RUNS = 3


def measure() -> list[Row]:
    runtime.down()
    runtime.build(lambda _: None)
    ups: list[float] = []
    downs: list[float] = []
    for _ in range(RUNS):
        with timed() as up:
            box = runtime.up(lambda _: None)
        ups.append(up.seconds)
        memory = idle_memory(box)
        chain = " -> ".join(runtime.critical_chain(box.status["services"]))
        with timed() as down:
            runtime.down()
        downs.append(down.seconds)
    return [
        Row("box: warm start (median)", statistics.median(ups), note=f"wanted 15; set by {chain}"),
        Row("box: down (median)", statistics.median(downs), note="wanted 1"),
        Row("box: idle memory, PSS of everything", memory / 1024, "GiB", "wanted 2.3"),
    ]


def idle_memory(box: runtime.Box) -> float:
    """MiB of proportional set size over all the box's processes (smaps_rollup, proc(5))."""
    script = "cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ {s += $2} END {print s / 1024}'"
    done = subprocess.run(
        [*box.holder.enter(), "sh", "-c", script], capture_output=True, text=True, check=True
    )
    return float(done.stdout)
