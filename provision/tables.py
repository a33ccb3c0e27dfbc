"""TOML files of people (lab files, submissions), read by a table of keys: refused whole, with file, key and reason."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

SIZE_LIMIT = 1024 * 1024  # bytes of a file
SECRETS = re.compile(
    r"pass(word|wd|phrase)|secret|token|credential|private_?key|api_?key|auth", re.IGNORECASE
)


class RefusedError(Exception):
    """A file is refused.

    Attributes:
        problems: everything that is wrong with it, a line each: ``file: key: reason``.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = [shown(problem) for problem in problems]
        super().__init__("\n".join(self.problems))


def shown(text: str, limit: int = 600) -> str:
    """Foreign text on one line that a terminal shows as it is; the middle of a long one left out."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return line if len(line) <= limit else f"{line[: limit // 2]} … {line[-limit // 3 :]}"


def read_document(path: Path) -> dict[str, Any]:
    """The document that a TOML file holds.

    Raises:
        RefusedError: with the one line that says why there is none.
    """
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise RefusedError([f"{path}: more than {SIZE_LIMIT} bytes; that is no such file"])
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 text (byte {error.start})"
    except tomllib.TOMLDecodeError as error:
        reason = f"is not TOML: {error}"
    except RecursionError:
        reason = "is not TOML: tables or lists are nested too deeply"
    except ValueError as error:
        reason = f"cannot be read: {error}"
    raise RefusedError([f"{path}: {reason}"])


def is_file(path: Path) -> bool:
    """Whether there is such a file; a path that no file can have leads to none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def meant(word: str, known: list[str] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


# Each reader turns a TOML value into ours, or raises ValueError with what it must be.
Reader = Callable[[Any, Path], Any]


def text(value: Any, _: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value


def flag(value: Any, _: Path) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def address(value: Any, _: Path) -> IPv4Address:
    try:
        return IPv4Address(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError('must be an IPv4 address in quotes, such as "198.51.100.8"') from None


def addresses(value: Any, source: Path) -> tuple[IPv4Address, ...]:
    if not isinstance(value, list):
        raise ValueError("must be a list of IPv4 addresses")
    return tuple(address(item, source) for item in value)


def port(value: Any, _: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise ValueError("must be a port number from 1 to 65535")
    return value


def file(value: Any, source: Path) -> Path:
    path = home(text(value, source))
    path = path if path.is_absolute() else source.parent / path
    if not is_file(path):
        raise ValueError(f"there is no file {path}")
    return path


def home(path: str) -> Path:
    """The path, with ``~`` and ``~user`` for folders of the user's."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"there is no home folder for {Path(path).parts[0]}") from None


def one_of(known: tuple[str, ...]) -> Reader:
    def read(value: Any, _: Path) -> str:
        if value not in known:
            raise ValueError(f"must be one of {', '.join(known)}{meant(str(value), known)}")
        return str(value)

    return read


def at_least(least: int) -> Reader:
    def read(value: Any, _: Path) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"must be a whole number from {least}")
        return value

    return read


def names(value: Any, source: Path) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a table of names")
    for key, item in value.items():
        try:
            text(item, source)
        except ValueError as error:
            raise ValueError(f"{key!r} {error}") from None
    return dict(value)


@dataclass(frozen=True)
class Key:
    """Where a key's value goes, and how it is read."""

    attribute: str
    read: Reader


@dataclass(frozen=True)
class Each:
    """Tables of any names, read alike; they go into a mapping by name."""

    attribute: str
    table: Table


Table = Mapping[str, "Key | Each | Table"]


def read_table(
    document: Mapping[str, Any],
    table: Table,
    at: str,
    values: dict[str, Any],
    source: Path,
    kind: str = "a lab file",
) -> Iterator[str]:
    """Puts what the keys say into ``values``, and yields the problems.

    Args:
        at: where the document is in the file, as its keys' prefix.
        source: the file; paths in it are from its folder.
        kind: what the file is, in words.
    """
    for key, value in document.items():
        place = f"{at}{key}"
        known = table.get(key)
        if known is None and SECRETS.search(key):
            yield f"{place}: credentials do not belong in {kind}, but in clouds.yaml or the environment"
        elif known is None:
            yield f"{place}: unknown key{meant(key, sorted(table))}"
        elif isinstance(known, Key):
            try:
                values[known.attribute] = known.read(value, source)
            except ValueError as error:
                yield f"{place}: {error}"
        elif not isinstance(value, Mapping):
            yield f"{place}: must be a table ([{place}])"
        elif isinstance(known, Each):
            named = values[known.attribute] = {name: {} for name in value}
            for name, item in value.items():
                yield from read_table(
                    {name: item}, {name: known.table}, f"{place}.", named[name], source, kind
                )
        else:
            yield from read_table(value, known, f"{place}.", values, source, kind)
