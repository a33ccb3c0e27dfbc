"""``make endurance``: kills runs at random moments and sweeps; makes the same run night after night."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.endurance import census, decoys, kills, nights, stage

ROOT = Path(__file__).resolve().parent.parent.parent
OUT = ROOT / "reports" / "out"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.endurance", description=__doc__)
    parser.add_argument("what", choices=("kill", "nights"))
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument(
        "--seed", type=int, default=None, help="of the moments and victims (default: the time)"
    )
    parser.add_argument(
        "--first",
        type=int,
        default=1,
        help="number of the first kill: goes on with the plan of the same seed, kinds and kills",
    )
    parser.add_argument("--kinds", nargs="+", default=["openstack", "natvm", "engine"])
    parser.add_argument(
        "--at-once", type=int, default=None, help="runs that stand side by side (default: one of each kind)"
    )
    parser.add_argument("--nights", type=int, default=50)
    parser.add_argument("-o", "--output", type=Path, default=OUT, help="folder of the results")
    options = parser.parse_args()
    if options.first > 1 and options.seed is None:
        parser.error("--first goes on with a plan: give its --seed")
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)

    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="labproof-endurance-") as scratch, ExitStack() as stack:
        work = _kill if options.what == "kill" else _nights
        document = work(options, Path(scratch), stack, say)
    document["seconds"] = round(time.monotonic() - began)
    target = options.output / f"endurance-{options.what}.json"
    if options.first > 1:
        document = _continued(json.loads(target.read_text()), document)
    target.write_text(json.dumps(document, indent=1))
    figures = {key: value for key, value in document.items() if key != "rows"}
    print("\n".join(f"{key}: {value}" for key, value in figures.items()))
    print(f"endurance: {target}")
    bad = ("left", "foreign_touched", "hung", "failed", "grown", "unlike")
    return 1 if any(document.get(key) for key in bad) else 0


def _continued(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The results of a plan that was made in parts."""
    if before["seed"] != now["seed"]:
        raise SystemExit(
            f"what is there was made with the seed {before['seed']}: give it, or begin anew without --first"
        )
    rows = [kills.Row(**row) for row in (*before["rows"], *now["rows"])]
    facts = {"date": before["date"], "seed": now["seed"], "seconds": before["seconds"] + now["seconds"]}
    return kills.as_json(
        sorted({row.number: row for row in rows}.values(), key=lambda row: row.number), **facts
    )


def _facts() -> dict[str, Any]:
    return {"date": datetime.now(UTC).isoformat(timespec="seconds")}


def _counted(here: stage.Stage) -> list[census.Census]:
    """What is counted of the standing lab, whatever is done to it."""
    return [
        lambda: census.on_cloud(here.cloud),
        lambda: census.on_hypervisor(here.nat.hypervisor),
        lambda: census.networks_and_mounts(here.box),
        census.files,
    ]


def _kill(options: argparse.Namespace, scratch: Path, stack: ExitStack, say: Any) -> dict[str, Any]:
    seed = options.seed if options.seed is not None else int(time.time())
    here = stack.enter_context(stage.standing(say))
    disk = decoys.copy_of(here.nat.plain.disk, scratch)
    stack.enter_context(decoys.on_hypervisor(here.nat.hypervisor, here.nat.folder / "disks", disk))
    stack.enter_context(decoys.on_cloud(here.cloud, scratch))
    counted = _counted(here)
    engine = None
    if "engine" in options.kinds:
        file, host, client = stack.enter_context(stage.engine(here, scratch))
        stack.enter_context(decoys.on_engine(client, here.lab.base_image))
        counted.append(lambda: census.on_engine(client))
        engine = file, host
    say("decoys stand")
    planned = kills.plan(options.kills, seed, options.kinds)
    folder = options.output / "endurance-kill"
    rows = kills.Kills(here, folder, counted, engine, say).run(
        planned, options.at_once or len(options.kinds), options.first
    )
    return kills.as_json(rows, **_facts(), seed=seed)


def _nights(options: argparse.Namespace, scratch: Path, stack: ExitStack, say: Any) -> dict[str, Any]:
    here = stack.enter_context(stage.standing(say))
    rows = nights.run(here, scratch, options.nights, _counted(here), say)
    return nights.as_json(rows, **_facts())


if __name__ == "__main__":
    sys.exit(main())
