"""``make detection``: puts every fault of the catalogue into the standing lab, and scores what the suites say."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
OUT = ROOT / "reports" / "out"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", metavar="ID", help="these faults alone (substrings of their ids)"
    )
    parser.add_argument("--scope", help="the faults of one scope alone (substring of its name)")
    parser.add_argument("--healthy", type=int, default=20, help="runs on the healthy lab (default: 20)")
    parser.add_argument(
        "-o", "--output", type=Path, default=OUT, help="folder of detection.json and its reports"
    )
    options = parser.parse_args()
    from provision.box import runtime
    from reports.detection import page
    from reports.runfile import write_whole
    from tests.faults.catalogue import CATALOGUE
    from tests.faults.detection import Detection, started
    from tests.faults.score import not_as_it_should_be, summary

    faults = [
        fault
        for fault in CATALOGUE.values()
        if (not options.only or any(each in fault.id for each in options.only))
        and (not options.scope or options.scope in fault.scope.name)
    ]
    if not faults:
        parser.error("no fault of the catalogue has such an id")
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)

    standing = runtime.running() is not None
    started(say)
    detection = Detection(options.output / "detection", faults, options.healthy, say)
    try:
        score = detection.run()
    finally:
        if not standing:
            runtime.down()
    command = (
        "make detection"
        if len(faults) == len(CATALOGUE)
        else f"python -m tests.faults {' '.join(sys.argv[1:])}"
    )
    document = score.as_json(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        seconds=round(time.monotonic() - began),
    )
    options.output.mkdir(parents=True, exist_ok=True)
    target = options.output / "detection.json"
    write_whole(target, json.dumps(document, indent=1).encode())
    write_whole(options.output / "detection.html", page(document).encode())
    for row in not_as_it_should_be(score.rows):
        print(row)
    for problem in detection.problems:
        print(problem)
    print("\n".join(summary(document)))
    print(f"detection: {target}")
    return 1 if detection.problems or not_as_it_should_be(score.rows) or document["false_alarms"] else 0


if __name__ == "__main__":
    sys.exit(main())
