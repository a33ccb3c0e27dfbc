"""Everything that a class yields, written into a folder: pages, grades, files for the LMS, JUnit XML."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from reports import classpage, gradescope, html, junit, moodle
from reports.claims import load as load_claims
from reports.classroom import Member
from reports.csvtext import cell, written
from reports.rubric import Rubric, show
from reports.runfile import read, write_whole

_FEW = 8


def write_class(
    folder: Path,
    members: Sequence[Member],
    rubric: Rubric,
    *,
    lang: str = "",
    worksheet: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Writes ``index.html``, ``groups/``, ``gradescope/``, ``grades.csv``, ``grades.json``, ``junit.xml``, ``moodle.csv``.

    Args:
        worksheet: Moodle's, to be filled in.
        lang: of the pages, and of a worksheet made from the roster alone.
        say: told a line of what is written, and of what the instructor should know.

    Raises:
        OSError: the folder cannot be written to.
        TableError: the worksheet is none.
    """
    sheets = {"moodle.csv": moodle.filled(worksheet, members)} if worksheet else {}
    if not worksheet and any(each.entry and each.entry.moodle for each in members):
        sheets = {f"moodle-{each}.csv": moodle.made(members, each) for each in moodle.HEADERS}
    for name in ("groups", "gradescope"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    graded = [each for each in members if each.grade and each.path]
    make = partial(_write_group, folder, lang)
    if len(graded) < _FEW:
        for member in graded:
            make(member)
    else:
        with ProcessPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
            list(pool.map(make, graded, chunksize=4))
    claims = load_claims()
    write_whole(
        folder / "index.html",
        classpage.overview(members, rubric, claims, lang=lang).encode("utf-8", "replace"),
    )
    write_whole(folder / "grades.csv", grades_csv(members))
    write_whole(folder / "grades.json", _json([_member_json(each) for each in members]))
    write_whole(folder / "junit.xml", junit.of_class(members, claims))
    for name, sheet in sheets.items():
        write_whole(folder / name, sheet.content)
        for note in sheet.notes:
            say(f"{name}: {note}")
    say(f"class: {folder / 'index.html'}")


def grades_csv(members: Sequence[Member]) -> bytes:
    """A row per group, for a spreadsheet; the grade is empty while points are open."""
    rows: list[Sequence[str]] = [
        (
            "group",
            "grade",
            "lowest",
            "highest",
            "out of",
            "earned",
            "open",
            "lost",
            "not counted",
            "decide",
            "note",
        )
    ]
    for each in members:
        grade = each.grade
        if grade is None:
            rows.append((cell(each.name), *[""] * 9, cell(each.problem)))
            continue
        marks = ["" if value is None else show(value) for value in (grade.final, grade.lowest, grade.highest)]
        points = [show(grade.sum(what)) for what in ("earned", "open", "lost", "excluded")]
        decide = cell(" ".join(p.worth.claim for p in grade.flagged))
        rows.append((cell(each.name), *marks, show(grade.rubric.out_of), *points, decide, ""))
    return written(rows)


def _write_group(folder: Path, lang: str, member: Member) -> None:
    assert member.path is not None
    assert member.grade is not None
    run = read(member.path)
    page = html.page(run, member.grade, group=member.name, lang=lang)
    write_whole(folder / "groups" / f"{member.slug}.html", page.encode("utf-8", "replace"))
    results = gradescope.results(run, member.grade, load_claims())
    write_whole(folder / "gradescope" / f"{member.slug}.json", _json(results))


def _member_json(member: Member) -> dict[str, object]:
    return {
        "group": member.name,
        "run": member.run,
        "problem": member.problem,
        "grade": member.grade.as_json() if member.grade else None,
    }


def _json(document: object) -> bytes:
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "backslashreplace")
