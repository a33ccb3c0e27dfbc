"""``python -m reports html RUN.json``: a report from a run file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reports import html
from reports.runfile import RunFileError, read, write_whole


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reports", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("html", help="a page from a run file, or from the folder that holds it")
    one.add_argument("run", type=Path, metavar="RUN.json")
    one.add_argument("-o", "--output", type=Path, help="default: run.html beside the run file")
    options = parser.parse_args(arguments)
    source = options.run / "run.json" if options.run.is_dir() else options.run
    output = options.output or source.with_name("run.html")
    try:
        page = html.page(read(source))
        write_whole(output, page.encode("utf-8", "replace"))
    except RunFileError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: {output}: cannot be written: {error}\n")
        return 2
    sys.stdout.write(f"report: {output}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
