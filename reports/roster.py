"""The roster: a course's groups, where each one's cloud is, and who is in it; from a CSV file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from reports.csvtext import TableError, read
from reports.text import plain

COLUMNS = ("group", "cloud", "submission", "members", "moodle")
_FRENCH = {"groupe": "group", "membres": "members", "remise": "submission", "nuage": "cloud"}
_SLUG = re.compile(r"[^a-z0-9]+")
_CLOUD = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,99}")


class RosterError(Exception):
    """A roster is refused.

    Attributes:
        problems: everything that is wrong with it, a line each: ``file: line 4: column: reason``.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = [" ".join(plain(problem, 600).split("\n")) for problem in problems]
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Entry:
    """A group.

    Attributes:
        group: its name; ``slug`` is what its files are called.
        cloud: entry of clouds.yaml; empty where a submission file says more.
        submission: the file that the group handed in.
        members: e-mail addresses, or names, as the LMS has them.
        moodle: identifiers of the members in Moodle's grading worksheet, such as ``Participant 123``.
    """

    group: str
    slug: str
    cloud: str = ""
    submission: Path | None = None
    members: tuple[str, ...] = ()
    moodle: tuple[str, ...] = ()

    @property
    def attach(self) -> str:
        """What the suites attach to: the submission file, or else the cloud's name."""
        return str(self.submission) if self.submission else self.cloud


def slug(name: str) -> str:
    """A group's name as a file's: lower case letters, digits and dashes."""
    return _SLUG.sub("-", name.lower()).strip("-")[:60].strip("-")


def load(path: Path) -> list[Entry]:
    """Reads a roster.

    The first line names the columns: ``group``, ``cloud`` or ``submission`` (a path from the roster's own
    folder), and optionally ``members`` and ``moodle`` (several with ``;`` or spaces between); others are
    left alone.

    Raises:
        RosterError: it cannot be read, or anything in it is wrong; names every problem with its line.
    """
    try:
        rows, delimiter = read(path)
    except TableError as error:
        raise RosterError([str(error)]) from error
    (head_line, head), *body = rows
    names = [_FRENCH.get(name.strip().lower(), name.strip().lower()) for name in head]
    if "group" not in names:
        raise RosterError([f"{path}: line {head_line}: no column `group`; it has {', '.join(names)[:200]}"])
    problems = [
        f"{path}: line {head_line}: column {each} is there twice" for each in COLUMNS if names.count(each) > 1
    ]
    entries: list[Entry] = []
    lines: dict[str, int] = {}
    for line, row in body:
        place = f"{path}: line {line}"
        if len(row) > len(names):
            problems.append(
                f"{place}: {len(row)} cells under {len(names)} columns; put cells that hold "
                f"`{delimiter}` in quotes"
            )
            continue
        cells = dict(zip(names, (each.strip() for each in row), strict=False))
        entry, wrong = _entry(cells, path.parent)
        problems += [f"{place}: {each}" for each in wrong]
        if not wrong and entry.slug in lines:
            problems.append(
                f"{place}: group: {entry.group} and line {lines[entry.slug]}'s have the same files"
            )
        lines.setdefault(entry.slug, line)
        entries.append(entry)
    if not body:
        problems.append(f"{path}: no group in it")
    if problems:
        raise RosterError(problems)
    return entries


def _entry(cells: dict[str, str], folder: Path) -> tuple[Entry, list[str]]:
    wrong = []
    name, cloud, submission = (cells.get(each, "") for each in ("group", "cloud", "submission"))
    if not slug(name):
        wrong.append("group: is empty" if not name else f"group: {name!r:.60} has no letter or digit")
    if not name.isprintable() or len(name) > 100:
        wrong.append("group: a name of more than 100 characters, or with control characters")
    if cloud and submission:
        wrong.append("cloud, submission: one of them says where the group's work is; both are given")
    if cloud and not _CLOUD.fullmatch(cloud):
        wrong.append(f"cloud: {cloud!r:.60} is no name of an entry of clouds.yaml")
    handed_in = None
    if submission:
        handed_in = folder / submission
        if not handed_in.is_file():
            wrong.append(f"submission: {submission!r:.100} is no file (seen from {folder})")
    members, moodle = (_several(cells.get(each, ""), each) for each in ("members", "moodle"))
    return Entry(name, slug(name), cloud, handed_in, members, moodle), wrong


def _several(cell: str, column: str) -> tuple[str, ...]:
    """Parts of a cell; identifiers of Moodle's and names hold spaces, addresses do not."""
    spaces = column == "members" and all("@" in each for each in re.split(r"[;,\s]+", cell.strip()) if each)
    parts = re.split(r"[;,\s]+" if spaces else r"[;,|\n]+", cell)
    return tuple(dict.fromkeys(each.strip() for each in parts if each.strip()))
