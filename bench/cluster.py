"""The embedded lab's cluster: ten cold starts in a row, its end, and its memory when idle."""

from __future__ import annotations

import statistics
import subprocess
from pathlib import Path

from bench.common import Row, timed
from provision.box import cluster, runtime
from provision.box.namespaces import Holder

RUNS = 10
READY = "three nodes Ready"


def measure() -> list[Row]:
    runtime.down()
    cluster.ensure(lambda _: None)
    try:
        return measure_in(runtime.up(lambda _: None).holder, cluster.folder())
    finally:
        runtime.down()


def measure_in(holder: Holder, folder: Path, runs: int = RUNS) -> list[Row]:
    """Starts a cluster so many times, each from nothing; a start that fails ends the measurement."""
    ups: list[float] = []
    readies: list[float] = []
    downs: list[float] = []
    memory: list[float] = []
    for number in range(runs):
        with timed() as up:
            made = cluster.begin(holder, folder, lambda _: None)
        ups.append(up.seconds)
        readies.append(made.timeline[READY])
        memory.append(idle_memory(made))
        print(
            f"cold start {number + 1}: {readies[-1]:.1f} s, all {ups[-1]:.1f} s, {memory[-1]:.0f} MiB",
            flush=True,
        )
        with timed() as down:
            cluster.clear(holder, folder)
        downs.append(down.seconds)
    return [
        Row("cluster: cold start to three Ready (median)", statistics.median(readies), note="wanted 25"),
        Row(f"cluster: the same, slowest of {runs} in a row", max(readies)),
        Row("cluster: cold start, kube-proxy and plug-in run too (median)", statistics.median(ups)),
        Row("cluster: down (median)", statistics.median(downs)),
        Row("cluster: memory, PSS of everything", max(memory) / 1024, "GiB", "wanted 0.9"),
    ]


def idle_memory(made: cluster.Cluster) -> float:
    """MiB of proportional set size over all processes of all nodes (smaps_rollup, proc(5))."""
    script = "cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ {s += $2} END {print s / 1024}'"
    argvs = [[*node.enter, "sh", "-c", script] for node in made.nodes.values()]
    return sum(
        float(subprocess.run(argv, capture_output=True, text=True, check=True).stdout) for argv in argvs
    )
