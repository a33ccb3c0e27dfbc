"""Where in a TOML file a value stands: tomllib yields values without their lines."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]


def lines_of(text: str) -> dict[Path, int]:
    """The line on which each table and each key of a document begins.

    A path such as ``("objective", 0, "claims", "OS-05")``; the numbers count a table array's elements.

    Args:
        text: a document that :func:`tomllib.loads` takes.
    """
    found: dict[Path, int] = {}
    table: Path = ()
    counts: dict[Path, int] = {}
    for number, statement in _statements(text):
        parsed = tomllib.loads(statement)
        if not parsed:
            continue
        names, value = _names(parsed)
        if statement.lstrip().startswith("["):
            table = _table(names, counts, appends=isinstance(value, list))
            found.setdefault(table, number)
            continue
        for depth in range(1, len(names) + 1):
            found.setdefault((*table, *names[:depth]), number)
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement with its first line: the fewest lines from there on that are TOML by themselves."""
    lines = text.splitlines()
    start = 0
    for end in range(1, len(lines) + 1):
        statement = "\n".join(lines[start:end])
        try:
            tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        yield start + 1, statement
        start = end


def _names(parsed: Any) -> tuple[tuple[str, ...], Any]:
    names: list[str] = []
    while isinstance(parsed, dict) and len(parsed) == 1:
        ((name, parsed),) = parsed.items()
        names.append(name)
    return tuple(names), parsed


def _table(names: tuple[str, ...], counts: dict[Path, int], *, appends: bool) -> Path:
    """A header's names with the number of the element that each table array among them is at."""
    path: Path = ()
    for name in names[:-1]:
        path = (*path, name)
        if path in counts:
            path = (*path, counts[path])
    path = (*path, names[-1])
    if appends:
        counts[path] = counts.get(path, -1) + 1
        return (*path, counts[path])
    return path
