"""Topology documents that are refused: every problem, with its place, in the words that people read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.topology import Topology, TopologyError
from provision.topology_json import MAX_BYTES, MAX_DEPTH, MAX_ENTRIES

HERE = Path(__file__).parent / "topology"
TOPOLOGIES = Path(__file__).parent.parent / "labs" / "topologies"
CASES = HERE / "refusals.txt"


def document_of(name: str) -> dict[str, Any]:
    file = HERE / name if (HERE / name).exists() else TOPOLOGIES / name
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


def cases() -> Iterator[Any]:
    """The cases of refusals.txt: document, changes, expected problems."""
    name, first = "", 0
    changes: list[str] = []
    expected: list[str] = []
    lines = [*CASES.read_text(encoding="utf-8").splitlines(), "document end"]
    for number, line in enumerate(lines, start=1):
        if line.startswith("    "):
            expected.append(line.strip())
        elif line.strip() and not line.startswith("#"):
            if expected:
                yield pytest.param(name, changes, expected, id=f"{CASES.name}:{first}")
                changes, expected = [], []
            first = first if changes else number
            if line.startswith("document "):
                name = line.removeprefix("document ")
            else:
                changes.append(line)


def change(document: Any, text: str) -> None:
    """Makes one change of a case: ``place = JSON``, ``list[] = JSON`` or ``del place``."""
    place, _, value = text.removeprefix("del ").partition(" = ")
    *way, last = re.findall(r"\w+|\[\]", place)
    for key in way:
        document = document[int(key) if isinstance(document, list) else key]
    if text.startswith("del "):
        del document[last]
    elif last == "[]":
        document.append(json.loads(value))
    else:
        document[last] = json.loads(value)


def problems_of(obj: object) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        Topology.from_json(obj, "two.json")
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize(("name", "changes", "expected"), list(cases()))
def test_document_is_refused_with_these_words(name: str, changes: list[str], expected: list[str]) -> None:
    document = document_of(name)
    assert Topology.from_json(document), "the case starts from a good document"
    for text in changes:
        change(document, text)
    assert problems_of(document) == [f"two.json: {line}" for line in expected]


def test_flavors_are_the_caller_s_if_given() -> None:
    document = document_of("single.json")
    document["hosts"][0]["flavor"] = "m1.tiny"
    assert Topology.from_json(document, flavors=("m1.tiny",)).host("vm").flavor == "m1.tiny"
    assert Topology.from_json(document, flavors=None).host("vm").flavor == "m1.tiny"
    with pytest.raises(TopologyError, match=r'unknown flavor "m1\.tiny"; did you mean "m2\.tiny"'):
        Topology.from_json(document, flavors=("m2.tiny",))


def test_list_without_end_is_refused() -> None:
    document = document_of("single.json")
    document["networks"] *= MAX_ENTRIES
    assert problems_of(document) == [f"two.json: networks: has 2000 entries: at most {MAX_ENTRIES}"]


def test_value_that_cannot_be_printed_is_told_all_the_same() -> None:
    document = document_of("single.json")
    document["hosts"][0]["network"] = "\ud800\n"
    document["hosts"][0]["flavor"] = 10**5000
    document["x\ud800" * 50] = 1
    lines = problems_of(document)
    assert len(lines) == 3
    assert lines[1:] == [
        'two.json: hosts[0].network: "\\ud800\\n" is not a name',
        "two.json: hosts[0].flavor: must be a string, not a huge number",
    ]
    assert all(line.isprintable() and len(line) < 500 for line in lines)


@pytest.mark.parametrize("obj", [object(), {1: 2}, {"networks": ({},)}, b"{}", {"networks": [{"name": {1}}]}])
def test_python_object_that_is_no_json_is_refused(obj: object) -> None:
    assert problems_of(obj)


# ---------- files


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "is empty: a topology needs at least a network"),
        (b" \n", "is empty: a topology needs at least a network"),
        (b'{"networks":\n  [}', "line 2, column 4: is not JSON: Expecting value"),
        (b"\xff{}", "is not UTF-8 text (byte 0 is 0xff)"),
        (b"[]", "must be an object, not a list"),
        (b"null", "must be an object, not null"),
        (b"{}", "networks: is missing or empty: a topology needs at least a network"),
        (b'{"networks": [{"name": "a", "name": "b"}]}', "networks[0].name: is given more than once"),
        (b" " * (MAX_BYTES + 1), "is larger than 1 MiB: not a topology document"),
        (b"[" * 100_000, f"is nested too deep: a topology has at most {MAX_DEPTH} levels"),
        (
            b"[" * 30 + b"]" * 30,
            f"{'[0]' * MAX_DEPTH}: is nested too deep: a topology has at most {MAX_DEPTH} levels",
        ),
    ],
    ids=range(11),
)
def test_text_that_is_no_document_is_refused(tmp_path: Path, text: bytes, reason: str) -> None:
    file = tmp_path / "two.json"
    file.write_bytes(text)
    with pytest.raises(TopologyError) as caught:
        Topology.load(file)
    assert caught.value.problems == [f"{file}: {reason}"]


def test_number_too_long_to_convert_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "two.json"
    file.write_text('{"networks": ' + "9" * 5000 + "}")
    with pytest.raises(TopologyError, match="is not JSON: "):
        Topology.load(file)


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "none.json", "cannot be read: No such file or directory"),
        (tmp_path, "is a directory, not a topology document"),
        (Path("/dev/null"), "is not a regular file"),
        ("a\0b", "cannot be read: embedded null byte"),
    ):
        with pytest.raises(TopologyError) as caught:
            Topology.load(path)
        assert caught.value.problems[0].endswith(f": {reason}")
