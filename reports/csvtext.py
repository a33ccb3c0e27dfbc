"""CSV as spreadsheets take it, and cells that they do not take for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from reports.text import plain

SIZE_LIMIT = 16 * 1024 * 1024  # bytes of a file that is read
CELL_LIMIT = 8_000  # characters; a spreadsheet's own limit is 32 767

# OWASP, CSV injection: a cell that begins so is computed when the file is opened in a spreadsheet
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


class TableError(Exception):
    """A CSV file cannot be used; the text names the file, the line and the reason."""


def cell(value: object, limit: int = CELL_LIMIT) -> str:
    """Foreign text as a cell: readable, cut, and led by an apostrophe where it would be a formula."""
    text = plain(str(value), limit)
    if text in ("-", "+"):
        return text
    return f"'{text}" if text.lstrip(" \n").startswith(_FORMULA) else text


def written(rows: Iterable[Sequence[str]], delimiter: str = ",") -> bytes:
    """Rows as UTF-8; lines end as RFC 4180 has it."""
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    return stream.getvalue().encode("utf-8", "replace")


def read(path: Path) -> tuple[list[tuple[int, list[str]]], str]:
    """The rows that hold anything, each with its line; and the delimiter, comma, semicolon or tab.

    Takes what spreadsheets save: UTF-8 with or without a mark, UTF-16 with one, or Windows-1252.

    Raises:
        TableError: it cannot be read.
    """
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise TableError(f"{path}: more than {SIZE_LIMIT} bytes")
        text = _decoded(path.read_bytes())
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error}") from error
    head = text.partition("\n")[0]
    delimiter = max((",", ";", "\t"), key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        begins = 1
        for row in reader:
            if any(each.strip() for each in row):
                rows.append((begins, row))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise TableError(f"{path}: line {reader.line_num}: {error}") from error
    if not rows:
        raise TableError(f"{path}: there is nothing in it")
    return rows, delimiter


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")
