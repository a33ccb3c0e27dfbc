"""Moodle's offline grading worksheet, filled in: the file that *Upload grading worksheet* takes.

What Moodle reads of it (mod/assign/feedback/offline/importgradeslib.php): the columns *Identifier*, *Grade* and
*Last modified (grade)* by their names in the user's language, and the feedback comments by theirs. A row
whose grade is empty keeps the grade that it has; one that was graded since the worksheet was downloaded is
skipped, so *Last modified* goes back as it came.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from html import escape
from pathlib import Path

from reports.classroom import Member
from reports.csvtext import TableError, cell, read, written
from reports.grades import Grade
from reports.rubric import show
from reports.text import one_line

FEEDBACK_CLAIMS = 40  # claims that a comment names, at most

_IDENTIFIER = re.compile(r"[^\W\d_]+ ?\d{1,12}")  # "Participant 123"; in French without the space


@dataclass(frozen=True)
class Headers:
    """The worksheet's columns in a language, in Moodle's order, and its decimal sign."""

    identifier: str
    name: str
    email: str
    status: str
    grade: str
    maximum: str
    changeable: str
    modified: str
    feedback: str
    yes: str
    decimal: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (
            self.identifier, self.name, self.email, self.status, self.grade, self.maximum, self.changeable,
            self.modified, self.feedback,
        )  # fmt: skip


# mod/assign/lang/en/assign.php and the French language pack: recordid, fullname, email, status, grade,
# maxgrade, gradecanbechanged, lastmodifiedgrade, and assignfeedback_comments' pluginname
HEADERS: Mapping[str, Headers] = {
    "en": Headers(
        "Identifier", "Full name", "Email address", "Status", "Grade", "Maximum grade",
        "Grade can be changed", "Last modified (grade)", "Feedback comments", "Yes", ".",
    ),
    "fr": Headers(
        "Identifiant", "Nom complet", "Adresse de courriel", "Statut", "Note", "Note maximale",
        "La note peut être modifiée", "Dernière modification (note)", "Feedback par commentaires", "Oui", ",",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Worksheet:
    """A worksheet to upload, and what the instructor should know of it."""

    content: bytes
    notes: tuple[str, ...]


def filled(path: Path, members: Sequence[Member]) -> Worksheet:
    """A worksheet as Moodle gave it, with the grades and the comments put in and all else as it was.

    A row is a group's when its e-mail address, identifier or name is among the group's members in the
    roster, or its *Group* is the group's name. A grade with points open stays empty.

    Raises:
        TableError: it is no such worksheet; says which column is not there.
    """
    (_, head), *rows = read(path)[0]
    language, places = _columns(path, head)
    names = HEADERS[language]
    group_at = next((i for i, each in enumerate(head) if each.strip() in ("Group", "Groupe")), None)
    whose = _by_person(members)
    groups = {_plain(each.name): each for each in members}
    table, unknown, graded = [head], [], set()
    for line, cells in rows:
        row = [*cells, *[""] * (len(head) - len(cells))][: len(head)]
        identifier = row[places["identifier"]].strip()
        if not _IDENTIFIER.fullmatch(identifier):
            raise TableError(
                f"{path}: line {line}: {identifier!r:.60} is no identifier such as Participant 123"
            )
        people = (row[places[each]] for each in ("email", "identifier", "name") if each in places)
        member = next((whose[_plain(each)] for each in people if _plain(each) in whose), None)
        if member is None and group_at is not None:
            member = groups.get(_plain(row[group_at]))
        if member is None:
            unknown.append(identifier)
        else:
            graded.add(member.slug)
            _fill(row, places, member, names, path, line)
        kept = {places["identifier"], places["grade"], places.get("maximum")}
        table.append([each if i in kept else cell(each, 32_000) for i, each in enumerate(row)])
    return Worksheet(written(table), tuple(_notes(unknown, members, graded)))


def made(members: Sequence[Member], language: str) -> Worksheet:
    """A worksheet made from the roster's column ``moodle`` alone, a row per identifier."""
    names = HEADERS[language]
    rows: list[Sequence[str]] = [names.columns]
    graded = set()
    for member in members:
        entry = member.entry
        for number, identifier in enumerate(entry.moodle if entry else ()):
            person = entry.members[number] if entry and number < len(entry.members) else ""
            if not _IDENTIFIER.fullmatch(identifier):
                raise TableError(
                    f"roster: {member.name}: {identifier!r:.60} is no identifier such as Participant 123"
                )
            graded.add(member.slug)
            mark, comment = _marks(member, names)
            highest = _number(member.grade.rubric.out_of, names) if member.grade else ""
            mail, name = (person, "") if "@" in person else ("", person)
            rows.append([identifier, cell(name), cell(mail), "-", mark, highest, names.yes, "-", comment])
    return Worksheet(written(rows), tuple(_notes([], members, graded)))


def comments(grade: Grade, *, french: bool) -> str:
    """A comment for the group, as the HTML that Moodle takes comments for."""
    lines = []
    for part in grade.parts:
        name = part.part.name.fr if french else part.part.name.en
        counted = part.part.points - part.sum("excluded")
        if counted:
            lines.append(f"{_text(name)}: {show(part.sum('earned'))} / {show(counted)}")
    lost = [each.worth.claim for each in grade.claims if each.lost]
    open_ = [each.worth.claim for each in grade.claims if each.open]
    for words, claims in (
        ("non prouvés" if french else "missed", lost),
        ("en suspens, à décider par l'enseignant" if french else "open, for the instructor to decide", open_),
    ):
        if claims:
            more = f" … +{len(claims) - FEEDBACK_CLAIMS}" if len(claims) > FEEDBACK_CLAIMS else ""
            lines.append(f"{words}: {_text(', '.join(claims[:FEEDBACK_CLAIMS]))}{more}")
    return "<br>".join(lines)


def _columns(path: Path, head: Sequence[str]) -> tuple[str, dict[str, int]]:
    at = {name.strip(): number for number, name in reversed(list(enumerate(head)))}
    for language, names in HEADERS.items():
        if names.identifier not in at:
            continue
        wanted = {"identifier": names.identifier, "grade": names.grade, "modified": names.modified}
        absent = [name for name in wanted.values() if name not in at]
        if absent:
            raise TableError(f"{path}: line 1: no column {', '.join(absent)}: Moodle would not take it back")
        others = {
            "name": names.name,
            "email": names.email,
            "maximum": names.maximum,
            "feedback": names.feedback,
        }
        return language, {key: at[name] for key, name in {**wanted, **others}.items() if name in at}
    raise TableError(
        f"{path}: line 1: neither Identifier nor Identifiant is a column; download it from Moodle with "
        "Download grading worksheet, in English or in French"
    )


def _fill(
    row: list[str], places: Mapping[str, int], member: Member, names: Headers, path: Path, line: int
) -> None:
    mark, comment = _marks(member, names)
    if mark and member.grade and "maximum" in places:
        highest = row[places["maximum"]].strip().replace(",", ".")
        if highest and _different(highest, member.grade.rubric.out_of):
            raise TableError(
                f"{path}: line {line}: {names.maximum} is {highest}, the rubric's is "
                f"{show(member.grade.rubric.out_of)}: set out_of in the rubric, or the assignment's grade"
            )
    if mark:
        row[places["grade"]] = mark
    if "feedback" in places and comment:
        row[places["feedback"]] = comment


def _different(given: str, wanted: Fraction) -> bool:
    try:
        return Fraction(given) != wanted
    except (ValueError, ZeroDivisionError):
        return False


def _marks(member: Member, names: Headers) -> tuple[str, str]:
    """The grade, empty while anything is open, and the comment."""
    if member.grade is None:
        return "", ""
    mark = "" if member.grade.final is None else _number(member.grade.final, names)
    return mark, comments(member.grade, french=names is HEADERS["fr"])


def _number(value: Fraction, names: Headers) -> str:
    return f"{float(value):.2f}".replace(".", names.decimal)


def _by_person(members: Iterable[Member]) -> dict[str, Member]:
    people: dict[str, Member] = {}
    for member in members:
        for person in (*member.entry.members, *member.entry.moodle) if member.entry else ():
            people.setdefault(_plain(person), member)
    return people


def _plain(person: str) -> str:
    """A name as it is compared: no accents, no case, one space."""
    letters = unicodedata.normalize("NFKD", person).casefold()
    return " ".join("".join(each for each in letters if not unicodedata.combining(each)).split())


def _notes(unknown: Sequence[str], members: Sequence[Member], graded: set[str]) -> Iterable[str]:
    if unknown:
        few = ", ".join(unknown[:5]) + (" …" if len(unknown) > 5 else "")
        yield f"{len(unknown)} rows belong to no group of the class and are left as they were: {few}"
    missing = [each.name for each in members if each.slug not in graded]
    if missing:
        few = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        yield f"{len(missing)} groups have no row: {few} (members or moodle in the roster say whose rows they are)"
    waiting = [
        each.name for each in members if each.slug in graded and (not each.grade or each.grade.final is None)
    ]
    if waiting:
        few = ", ".join(waiting[:5]) + (" …" if len(waiting) > 5 else "")
        yield f"{len(waiting)} groups get no grade yet, because points are open or there is no run: {few}"


def _text(words: str) -> str:
    return escape(one_line(words, 1_000))
