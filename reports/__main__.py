"""``python -m reports``: pages, grades and comparisons from run files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from reports import gradescope, handing, history, historypage, html, moodle
from reports import roster as rosters
from reports import rubric as rubrics
from reports.claims import ClaimsError
from reports.claims import load as load_claims
from reports.classroom import ClassError, Member, gather
from reports.csvtext import TableError
from reports.grades import Grade, grade
from reports.markup import LANGUAGES
from reports.rubric import Rubric, RubricError, show
from reports.runfile import RunFileError, read, write_whole
from reports.text import one_line

Work = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, or 2 after a line for each thing that is wrong."""
    options = _parser().parse_args(arguments)
    work: Work = options.work
    try:
        return work(options)
    except (
        RunFileError, RubricError, rosters.RosterError, ClassError, TableError, ClaimsError,
    ) as error:  # fmt: skip
        for line in str(error).splitlines():
            sys.stderr.write(f"error: {one_line(line, 600)}\n")
    except OSError as error:
        sys.stderr.write(f"error: {error.filename or 'output'}: cannot be written: {error.strerror}\n")
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, work: Work, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(work=work)
        return made

    one = command("html", _html, "a page from a run file, or from the folder that holds it")
    one.add_argument("run", type=Path, metavar="RUN.json")
    one.add_argument("-o", "--output", type=Path, help="default: run.html beside the run file")
    _language(one)
    graded = command("grade", _grade, "a run's points by a rubric; a page and grade.json beside the run file")
    graded.add_argument("run", type=Path, metavar="RUN.json")
    graded.add_argument("-o", "--output", type=Path, help="folder; default: the run file's")
    scope = command("gradescope", _gradescope, "Gradescope's results.json of one run")
    scope.add_argument("run", type=Path, metavar="RUN.json")
    scope.add_argument("-o", "--output", type=Path, help="default: results.json beside the run file")
    whole = command("class", _class, "a class: overview, a page per group, files for the LMS")
    whole.add_argument("-o", "--output", type=Path, help="folder; default: `class` in the first one named")
    sheet = command("moodle", _moodle, "Moodle's offline grading worksheet alone")
    sheet.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.csv")
    for each in (whole, sheet):
        each.add_argument("sources", type=Path, nargs="+", metavar="FOLDER|RUN.json")
        each.add_argument("--roster", type=Path, metavar="FILE.csv", help="the groups, and who is in them")
        each.add_argument(
            "--worksheet", type=Path, metavar="FILE.csv", help="as downloaded from Moodle, to be filled in"
        )
    for each in (graded, scope, whole, sheet):
        each.add_argument(
            "--rubric", default=rubrics.DEFAULT, metavar="NAME|FILE.toml",
            help=f"default: {rubrics.DEFAULT}, which ships",
        )  # fmt: skip
    two = command("compare", _compare, "what changed from one run to another, per claim")
    two.add_argument("before", type=Path, metavar="A")
    two.add_argument("after", type=Path, metavar="B")
    two.add_argument("-o", "--output", type=Path, metavar="FILE.html", help="a page too")
    many = command("trend", _trend, "the last runs of a folder: what holds, what flaps")
    many.add_argument("sources", type=Path, nargs="+", metavar="FOLDER|RUN.json")
    many.add_argument("-n", "--last", type=_count, default=14, help="so many runs (default: 14)")
    many.add_argument("-o", "--output", type=Path, help="default: trend.html in the folder")
    for each in (graded, whole, sheet, two, many):
        _language(each)
    return parser


def _language(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lang",
        choices=LANGUAGES,
        default="",
        help="that pages open in (default: the browser's; both are there)",
    )


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError("write a number of runs, 1 or more")
    return int(text)


def _run_file(path: Path) -> Path:
    return path / "run.json" if path.is_dir() else path


def _write(path: Path, content: str | bytes, what: str = "report") -> None:
    write_whole(path, content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    _say(f"{what}: {path}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _html(options: argparse.Namespace) -> int:
    source = _run_file(options.run)
    _write(options.output or source.with_name("run.html"), html.page(read(source), lang=options.lang))
    return 0


def _grade(options: argparse.Namespace) -> int:
    source = _run_file(options.run)
    run, rubric = read(source), rubrics.load(options.rubric)
    points = grade(run, rubric)
    _tell(points)
    folder = options.output or source.parent
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(points.as_json(), ensure_ascii=False, indent=1) + "\n"
    write_whole(folder / "grade.json", content.encode("utf-8", "backslashreplace"))
    _write(folder / "grade.html", html.page(run, points, lang=options.lang))
    return 0


def _tell(points: Grade) -> None:
    """The points on the terminal, an objective a line, and what is for the instructor to decide."""
    names = [part.part.name.en for part in points.parts]
    width = max(map(len, names))
    _say(f"{'':<{width}}   earned     of   open")
    for name, part in zip(names, points.parts, strict=True):
        counted = part.part.points - part.sum("excluded")
        cells = [show(part.sum("earned")), show(counted), show(part.sum("open"))]
        earned, of, left = cells if counted else ("-", "-", "-")
        _say(f"{name:<{width}} {earned:>8} {of:>6} {left if left != '0' else '-':>6}")
    for each in points.flagged:
        _say(f"decide: {each.worth.claim} ({show(each.worth.points)}): {one_line(each.flag, 160)}")
    lowest, highest = points.lowest, points.highest
    if lowest is None or highest is None:
        _say("grade: none, nothing that the rubric grades was examined")
    elif points.final is None:
        _say(
            f"grade: {show(lowest)} to {show(highest)} of {show(points.rubric.out_of)}, not final: points are open"
        )
    else:
        _say(f"grade: {show(points.final)} of {show(points.rubric.out_of)}")


def _gradescope(options: argparse.Namespace) -> int:
    source = _run_file(options.run)
    run = read(source)
    results = gradescope.results(run, grade(run, rubrics.load(options.rubric)), load_claims())
    content = json.dumps(results, ensure_ascii=False, indent=1) + "\n"
    _write(options.output or source.with_name("results.json"), content.encode("utf-8", "backslashreplace"))
    return 0


def _members(options: argparse.Namespace) -> tuple[list[Member], Rubric]:
    rubric = rubrics.load(options.rubric)
    roster = rosters.load(options.roster) if options.roster else None
    return gather(options.sources, rubric, roster), rubric


def _class(options: argparse.Namespace) -> int:
    members, rubric = _members(options)
    first = options.sources[0]
    folder = options.output or (first if first.is_dir() else first.parent) / "class"
    handing.write_class(folder, members, rubric, lang=options.lang, worksheet=options.worksheet, say=_say)
    for each in members:
        if each.problem:
            _say(f"no grade: {one_line(each.name, 100)}: {each.problem}")
    return 0


def _moodle(options: argparse.Namespace) -> int:
    members, _ = _members(options)
    if options.worksheet:
        sheet = moodle.filled(options.worksheet, members)
    elif any(each.entry and each.entry.moodle for each in members):
        sheet = moodle.made(members, options.lang or "en")
    else:
        raise TableError(
            "no worksheet to fill in: download one from Moodle and name it with --worksheet, or give the roster "
            "a column `moodle` with the identifiers (Participant 123) of each group"
        )
    _write(options.output, sheet.content, "worksheet")
    for note in sheet.notes:
        _say(note)
    return 0


def _compare(options: argparse.Namespace) -> int:
    before, after = (read(_run_file(path)) for path in (options.before, options.after))
    changes = history.compare(before, after)
    for each in changes:
        turn = f"{each.before or 'not run'} -> {each.after or 'not run'}"
        _say(f"{each.kind:<15} {one_line(each.claim, 40):<8} {turn:<22} {one_line(each.text, 90)}")
        if each.reason:
            _say(f"{'':<15} {'':<8} {each.reason}")
    if not changes:
        _say("no verdict changed")
    if options.output:
        _write(options.output, historypage.comparison(before, after, lang=options.lang))
    return 0


def _trend(options: argparse.Namespace) -> int:
    runs, problems = history.last_runs(options.sources, options.last)
    for line in problems:
        sys.stderr.write(f"left out: {line}\n")
    for each in history.series(runs):
        if each.flaps:
            signs = "".join(
                {"pass": "+", "fail": "x", "unproven": "?"}.get(v or "", ".") for v in each.verdicts
            )
            _say(f"flaps: {one_line(each.claim, 40)} {signs} {one_line(each.text, 90)}")
    first = options.sources[0]
    output = options.output or (first if first.is_dir() else first.parent) / "trend.html"
    _write(output, historypage.trend(runs, problems, lang=options.lang))
    return 0


if __name__ == "__main__":
    sys.exit(main())
