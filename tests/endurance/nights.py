"""The same run night after night on one standing lab: nothing may grow, and the verdicts are the same."""

from __future__ import annotations

import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from reports import runfile
from tests.endurance import census
from tests.endurance.stage import Say, Stage, begin

LIMIT = 600.0
# what provisions each system with the fewest boots: a topology with two servers, the NAT VM, a container in it
CHEAPEST = (
    "suites/virtualbox/test_nat.py", "suites/docker/test_containers.py", "suites/openstack/test_one_vm.py",
    "-k", "reaches_its_host or another_network or first_address or address_of_its_subnet or answers_the_desktop",
)  # fmt: skip
WARM = 2
"""Nights after which caches and pools of the lab's services are filled: growth is looked for from there."""
SLACK = {"processes": 2.0, "descriptors": 0.02, "memory_mib": 0.03, "cache_mib": 0.0}
"""How much more is no growth: of the first fifth of the nights to the last, as a part; processes as a number."""


@dataclass(frozen=True)
class Night:
    """One run: how it ended, and what there was after it."""

    number: int
    seconds: float
    status: int
    verdicts: dict[str, str]
    sizes: dict[str, float]
    by_design: dict[str, float]
    left: list[str]


def run(stage: Stage, folder: Path, nights: int, censuses: list[census.Census], say: Say) -> list[Night]:
    """Makes the nights, one after another.

    Args:
        censuses: what is counted before the first and after each.
    """
    before, rows = census.count(censuses), []
    for number in range(1, nights + 1):
        began = time.monotonic()
        started = begin(folder / "night", [*CHEAPEST, "-q"], {})
        try:
            status = started.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            started.process.kill()
            status = -1
        file = folder / "night" / "reports" / "latest" / "run.json"
        checks = runfile.read(file)["checks"] if file.exists() else []
        verdicts = {check["id"]: check["verdict"] for check in checks}
        left = sorted({*census.settled(censuses, before)} - {*before}) + sorted(
            census.processes(started.token)
        )
        rows.append(
            Night(
                number, round(time.monotonic() - began, 1), status, verdicts,
                census.sizes(stage.box), census.growing(stage.box), left,
            )
        )  # fmt: skip
        told = {verdict: list(verdicts.values()).count(verdict) for verdict in sorted(set(verdicts.values()))}
        say(f"night {number}/{nights}: {rows[-1].seconds:.0f} s, status {status}, {told}, left {left}")
        say(f"  {rows[-1].sizes} {rows[-1].by_design}")
        if status:
            (folder / f"output-{number}").write_text(started.text)
    return rows


def grown(rows: list[Night]) -> list[str]:
    """What is more at the end than at the beginning, by more than its slack."""
    warm = rows[WARM:] if len(rows) > WARM + 1 else rows
    part = max(1, len(warm) // 5)
    told = []
    for name in warm[0].sizes if warm else ():
        first = median(row.sizes[name] for row in warm[:part])
        last = median(row.sizes[name] for row in warm[-part:])
        slack = SLACK.get(name, 0.0)
        if last > first + (slack if name == "processes" else first * slack):
            told.append(f"{name}: {first:g} -> {last:g}")
    return told


def unlike(rows: list[Night]) -> list[str]:
    """Nights whose verdicts are not the first one's."""
    return [
        f"night {row.number}: {name} {row.verdicts.get(name)}, and {verdict} in the first"
        for row in rows
        for name, verdict in rows[0].verdicts.items()
        if row.verdicts.get(name) != verdict
    ]


def as_json(rows: list[Night], **facts: Any) -> dict[str, Any]:
    return {
        **facts,
        "nights": len(rows),
        "failed": sum(row.status != 0 for row in rows),
        "left": sum(len(row.left) for row in rows),
        "grown": grown(rows),
        "unlike": unlike(rows),
        "rows": [asdict(row) for row in rows],
    }
