"""``python -m grading ROSTER.csv``: examines every group of a roster, then grades the class.

Interrupted, the same command goes on with the groups that are not done. Arguments after ``--`` are pytest's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from grading.group import Command, Ended
from grading.progress import Progress
from grading.runner import ROOT, InterruptedRunError, run, suites
from reports import handing, roster, rubric
from reports.classroom import ClassError, gather
from reports.csvtext import TableError
from reports.markup import LANGUAGES
from reports.text import one_line

PARALLEL = 4


def main(arguments: Sequence[str] | None = None, command: Command | None = None) -> int:
    """Runs one class.

    Args:
        command: what examines a group, in place of the suites.

    Returns:
        0 when every group was examined, whatever its grade; 1 when one could not be, 2 for wrong usage, 130
        after an interruption.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    words, passed_on = _split(words)
    options = _parser().parse_args(words)
    try:
        entries = _chosen(roster.load(options.roster), options.only)
        rules = rubric.load(options.rubric)
        folder = options.output or ROOT / "reports" / "out" / options.roster.stem
        _attachable(entries)
        folder.mkdir(parents=True, exist_ok=True)
        with Progress(plain=options.quiet) as progress:
            ended = run(
                entries,
                folder,
                command or suites(options.lab, passed_on),
                progress,
                parallel=options.parallel,
                limit=options.time_limit * 60,
                again=options.again,
            )
        return _tell(folder, ended, options, rules)
    except InterruptedRunError:
        _error("interrupted; the same command goes on with the groups that are not done")
        return 130
    except (roster.RosterError, rubric.RubricError, ClassError, TableError) as error:
        for line in str(error).splitlines():
            _error(line)
    except OSError as error:
        _error(f"{error.filename or 'output'}: {error.strerror}")
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m grading", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "roster", type=Path, metavar="ROSTER.csv", help="columns group, cloud or submission, members"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="default: reports/out/ROSTER")
    parser.add_argument(
        "--parallel", type=_number, default=PARALLEL, help=f"groups at once (default: {PARALLEL})"
    )
    parser.add_argument(
        "--time-limit", type=_number, default=60, metavar="MINUTES", help="per group (default: 60)"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="GROUP", help="this group, and those named so"
    )
    parser.add_argument("--again", action="store_true", help="examine groups that are done, too")
    parser.add_argument("--lab", default="", metavar="NAME|FILE", help="lab file, or its name in labs/")
    parser.add_argument("--rubric", default=rubric.DEFAULT, metavar="NAME|FILE.toml", help="default: lab")
    parser.add_argument(
        "--worksheet", type=Path, metavar="FILE.csv", help="as downloaded from Moodle, to be filled in"
    )
    parser.add_argument("--lang", choices=LANGUAGES, default="", help="that the pages open in")
    parser.add_argument("-q", "--quiet", action="store_true", help="plain lines in place of bars")
    return parser


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _number(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 10_000:
        raise argparse.ArgumentTypeError("write a number, 1 or more")
    return int(text)


def _chosen(entries: list[roster.Entry], only: Sequence[str]) -> list[roster.Entry]:
    wanted = {roster.slug(each): each for each in only}
    absent = [each for key, each in wanted.items() if key not in {entry.slug for entry in entries}]
    if absent:
        raise ClassError(f"--only: no group {', '.join(absent)} in the roster")
    return [entry for entry in entries if not wanted or entry.slug in wanted]


def _attachable(entries: Sequence[roster.Entry]) -> None:
    without = [entry.group for entry in entries if not entry.attach]
    if without:
        raise roster.RosterError(
            [f"{name}: neither cloud nor submission says where the group's work is" for name in without]
        )


def _tell(folder: Path, ended: Sequence[Ended], options: argparse.Namespace, rules: rubric.Rubric) -> int:
    """Writes the class's pages from all that the folder has, and names the groups that could not be examined."""
    bad = [each for each in ended if not each.well]
    for each in bad:
        _error(f"{each.group}: {each.status}: {each.reason}")
    try:
        members = gather([folder], rules, roster.load(options.roster))
    except ClassError:
        _error("no group has a run: there is nothing to grade")
        return 1
    handing.write_class(
        folder / "class", members, rules, lang=options.lang, worksheet=options.worksheet, say=_say
    )
    return 1 if bad else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _error(line: str) -> None:
    sys.stderr.write(f"labproof: {one_line(line, 600)}\n")


if __name__ == "__main__":
    sys.exit(main())
