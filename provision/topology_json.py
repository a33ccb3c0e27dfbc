"""Reading JSON for people: every value with its place, every problem collected, none fatal to the rest."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TypeVar

MAX_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_ENTRIES = 1000
MAX_HINTS = 100
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
PORTS = re.compile(r"([0-9]{1,9})(?:\s*-\s*([0-9]{1,9}))?")
PREFIXED = re.compile(r"[0-9.]+/[0-9.]+")

Choice = TypeVar("Choice", bound=str)


class Problems:
    """Collects what is wrong with one document, as ``source: place: reason`` lines."""

    def __init__(self, source: str) -> None:
        self.source = printable(source)
        self.lines: list[str] = []

    def add(self, place: str, reason: str) -> None:
        self.lines.append(": ".join(part for part in (self.source, place, reason) if part))

    def guess(self, word: str, known: Collection[str], tell: bool = True) -> str:
        """``; did you mean "x"?``, or what there is (if ``tell``), or nothing."""
        if len(known) > 200 or len(self.lines) > MAX_HINTS:
            return ""
        lower = {name.lower(): name for name in known}
        close = get_close_matches(word[:80].lower(), lower, n=1, cutoff=0.6)
        if close:
            return f"; did you mean {shown(lower[close[0]])}?"
        return f"; there is {', '.join(known)}" if tell and 0 < len(known) <= 8 else ""


def printable(text: str) -> str:
    """The text with all that a terminal or an encoding could stumble over escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: object) -> str:
    """A value as it stands in the document, short and printable whatever it is."""
    if isinstance(value, str):
        return printable(json.dumps(value if len(value) <= 60 else value[:57] + "...", ensure_ascii=False))
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**18 else "a huge number"
    kinds = {dict: "an object", list: "a list"}
    return next((text for kind, text in kinds.items() if isinstance(value, kind)), "not a JSON value")


class _Object(dict[str, object]):
    """A JSON object that remembers which of its keys were given more than once."""

    repeated: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, object]]) -> _Object:
    result = _Object(pairs)
    if len(result) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        result.repeated = tuple(key for key, count in counts.items() if count > 1)
    return result


def parse_file(path: str | Path, problems: Problems) -> object:
    """The JSON value in a file; on any problem with the file or the text it is added, and None returned."""
    try:
        file = Path(path)
        if file.is_dir():
            problems.add("", "is a directory, not a topology document")
            return None
        if file.exists() and not file.is_file():
            problems.add("", "is not a regular file")
            return None
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problems.add("", f"cannot be read: {reason or error}")
        return None
    if len(data) > MAX_BYTES:
        problems.add("", "is larger than 1 MiB: not a topology document")
        return None
    return parse_text(data, problems)


def parse_text(data: bytes, problems: Problems) -> object:
    """The JSON value in a text; its problems are added, and None returned if there is no value."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add("", f"is not UTF-8 text (byte {error.start} is 0x{data[error.start]:02x})")
        return None
    if not text.strip():
        problems.add("", "is empty: a topology needs at least a network")
        return None
    try:
        value: object = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        problems.add(f"line {error.lineno}, column {error.colno}", f"is not JSON: {error.msg}")
        return None
    except RecursionError:
        problems.add("", f"is nested too deep: a topology has at most {MAX_DEPTH} levels")
        return None
    except ValueError as error:
        problems.add("", f"is not JSON: {error}")
        return None
    return value if _sound(value, problems) else None


def _sound(document: object, problems: Problems) -> bool:
    """Looks at every level of the document for repeated keys and for its depth, without recursion."""
    queue: list[tuple[str, object, int]] = [("", document, 1)]
    before = len(problems.lines)
    for place, value, depth in queue:
        if depth > MAX_DEPTH:
            problems.add(place, f"is nested too deep: a topology has at most {MAX_DEPTH} levels")
            return False
        if isinstance(value, _Object):
            for key in value.repeated:
                problems.add(join(place, key), "is given more than once")
            queue += [(join(place, key), inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            queue += [
                (f"{place}[{number}]", inner, depth + 1)
                for number, inner in enumerate(value)
                if isinstance(inner, dict | list)
            ]
    return len(problems.lines) == before


def join(place: str, key: object) -> str:
    """The place of a key in the object at ``place``."""
    word = key if isinstance(key, str) and NAME.fullmatch(key) else shown(key)
    return f"{place}.{word}" if place else word


class Item:
    """A JSON object of the document: its values are asked for by key and kind.

    A value that is missing though required, or of another kind, is added to the problems and None comes back.
    JSON's ``null`` is the same as a key left out.
    """

    def __init__(self, value: object, place: str, known: Sequence[str], problems: Problems) -> None:
        self.place = place
        self.problems = problems
        self.values: dict[object, object] = {}
        self.valid = isinstance(value, dict)
        if not isinstance(value, dict):
            problems.add(place, f"must be an object, not {shown(value)}")
            return
        self.values = dict(value)
        for key in self.values:
            if key not in known:
                hint = problems.guess(key, known) if isinstance(key, str) else ""
                problems.add(self.at(key), "unknown key" + hint)

    def at(self, key: object) -> str:
        return join(self.place, key)

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def either(self, one: str, other: str) -> str:
        """Which of two names for the same thing is used; both at once is a problem."""
        if self.has(one) and self.has(other):
            self.problems.add(self.at(other), f'means the same as "{one}": give one of them')
        return other if self.has(other) and not self.has(one) else one

    def _get(self, key: str, kind: str, types: tuple[type, ...], required: bool) -> object:
        value = self.values.get(key)
        if value is None:
            if required and self.valid:
                self.problems.add(self.at(key), "is missing")
            return None
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            self.problems.add(self.at(key), f"must be {kind}, not {shown(value)}")
            return None
        return value

    def text(self, key: str, required: bool = False) -> str | None:
        value = self._get(key, "a string", (str,), required)
        if not isinstance(value, str):
            return None
        if not value.strip() or not value.isprintable() or len(value) > 255:
            why = "is empty" if not value.strip() else f"{shown(value)} is not a name"
            self.problems.add(self.at(key), why)
            return None
        return value

    def name(self, key: str = "name", required: bool = True) -> str:
        """A name by our rule; the empty string after a problem."""
        text = self.text(key, required)
        return text if text is not None and self.check_name(text, self.at(key)) else ""

    def check_name(self, text: str, place: str) -> bool:
        if NAME.fullmatch(text):
            return True
        self.problems.add(
            place,
            f"{shown(text)} is not a name: at most 63 of A-Z a-z 0-9 _ . - "
            "are allowed, a letter or digit first",
        )
        return False

    def choice(self, key: str, choices: Sequence[Choice], required: bool = False) -> Choice | None:
        text = self.text(key, required)
        for option in choices:
            if text == option:
                return option
        if text is not None:
            hint = self.problems.guess(text, choices, tell=False)
            self.problems.add(self.at(key), f"{shown(text)} is not one of {', '.join(choices)}{hint}")
        return None

    def flag(self, key: str, default: bool) -> bool:
        value = self._get(key, "true or false", (bool,), required=False)
        return value if isinstance(value, bool) else default

    def number(self, key: str, first: int, last: int, required: bool = True) -> int | None:
        value = self._get(key, "a whole number", (int,), required)
        if not isinstance(value, int):
            return None
        if not first <= value <= last:
            self.problems.add(self.at(key), f"{shown(value)} is outside {first} to {last}")
            return None
        return value

    def address(self, key: str, required: bool = False) -> IPv4Address | None:
        value = self._get(key, "an IPv4 address in a string", (str,), required)
        return self.parse_address(value, self.at(key)) if isinstance(value, str) else None

    def parse_address(self, value: str, place: str) -> IPv4Address | None:
        try:
            return IPv4Address(value)
        except ValueError:
            self.problems.add(place, f"{shown(value)} is not an IPv4 address")
            return None

    def cidr(self, key: str, required: bool = True) -> IPv4Network | None:
        value = self._get(key, "a CIDR in a string", (str,), required)
        return self.parse_cidr(value, self.at(key)) if isinstance(value, str) else None

    def parse_cidr(self, value: str, place: str) -> IPv4Network | None:
        try:
            network = IPv4Network(value, strict=False)
        except ValueError:
            self.problems.add(place, f"{shown(value)} is not an IPv4 CIDR such as 10.5.7.0/24")
            return None
        if not PREFIXED.fullmatch(value):
            self.problems.add(place, f"{shown(value)} lacks its prefix length, such as {value}/24")
            return None
        if IPv4Address(value.partition("/")[0]) != network.network_address:
            self.problems.add(place, f"{shown(value)} has host bits set; its network is {network}")
            return None
        return network

    def strings(self, key: str) -> list[tuple[str, str]]:
        """The strings of a list, each with its place."""
        result = []
        for value, place in self._list(key):
            if isinstance(value, str):
                result.append((value, place))
            else:
                self.problems.add(place, f"must be a string, not {shown(value)}")
        return result

    def names(self, key: str) -> list[tuple[str, str]]:
        """The names of a list, each once, with their places."""
        result: dict[str, str] = {}
        for text, place in self.strings(key):
            if text in result:
                self.problems.add(place, f"{shown(text)} is in the list twice")
            elif self.check_name(text, place):
                result[text] = place
        return list(result.items())

    def items(self, key: str, known: Sequence[str]) -> list[Item]:
        """The objects of a list."""
        made = [Item(value, place, known, self.problems) for value, place in self._list(key)]
        return [item for item in made if item.valid]

    def _list(self, key: str) -> list[tuple[object, str]]:
        value = self._get(key, "a list", (list,), required=False)
        if not isinstance(value, list):
            return []
        if len(value) > MAX_ENTRIES:
            self.problems.add(self.at(key), f"has {len(value)} entries: at most {MAX_ENTRIES}")
            return []
        return [(inner, f"{self.at(key)}[{number}]") for number, inner in enumerate(value)]
