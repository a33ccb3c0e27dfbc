"""``python -m bench [NAME ...]``: measures and prints a table; also writes reports/out/bench.json."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench import boots, box, calculator, cluster, natvm, observing, provisioning
from bench.common import Row, on_the_desktop

BENCHES = {
    "box": box.measure,
    "provisioning": provisioning.measure,
    "observing": observing.measure,
    "boots": boots.measure,
    "calculator": calculator.measure,
    "natvm": natvm.measure,
    "cluster": cluster.measure,
}
OUT = Path("reports/out/bench.json")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "name", nargs="*", choices=[*BENCHES, []], help=f"of {', '.join(BENCHES)}; all by default"
    )
    names = parser.parse_args().name or list(BENCHES)
    rows: list[Row] = []
    for name in names:
        if name not in ("box", "calculator", "cluster"):
            on_the_desktop()
        rows += BENCHES[name]()
    for row in rows:
        print(f"{row.what:62} {row.value:8.2f} {row.unit:4} {row.note}")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps([row.__dict__ for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
