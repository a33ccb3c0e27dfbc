"""Whatever a file of people's holds, it is read or refused with its name and a reason: never a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provision import journal
from provision.attach.submission import Submission, SubmissionError
from provision.lab import Lab, LabError
from provision.tables import RefusedError
from reports import __main__ as reports
from reports import roster, rubric, runfile
from reports.text import plain
from tests.recorded_runs import Group, record

FUZZ = settings(max_examples=100, deadline=None, database=None)
ROOT = Path(__file__).resolve().parent.parent

SUBMISSION = """
cloud = "lab-g07"
[guests]
login = "user"
[roles]
front = "front network"
back = "12.7.5.0"
calculator = "our calculator"
[ports]
calculator = 50010
[logs]
sum = "/home/user/sum.log"
"""
LAB = """
driver = "cloud"
outside = "198.51.100.8"
outside_tcp = 443
docker = "local"
base_image = "ubuntu"
[neighbour]
address = "10.1.5.90"
[natvm]
memory_mb = 1024
cpus = 2
kvm = true
[calculator]
command = "node {service}.js --port {port} --bind {bind}"
[calculator.services.sum]
command = "node SumService.js"
[openstack]
cloud = "lab"
public_network = "public"
image = "Ubuntu4CLV"
dns = ["198.51.100.8"]
config_drive = false
[openstack.flavors]
nano = "m1.nano"
[parts]
docker = false
"""
ROSTER = 'group,cloud,members,moodle\r\nGroup 1,lab-g01,a@x.fr b@x.fr,Participant 1\r\n"Group 2",lab-g02,"Ann; Bo",\r\n'
# what means something somewhere in these files, and its like at the edges
VALUES = [
    '""', '" "', "true", "0", "-1", "65536", "1e400", "nan", "inf", "-inf", "1e-400", "[]", "{}", "[{}]", "[[1]]", '"x"',
    "{ a = 1 }", '{ en = "", fr = 1 }', "2026-11-28", "12:00:00", '"\\u0000"', '"\\ud800"', "'''", '"""', "0x10", "1_0",
    "99999999999999999999999999", '"/etc"', '"/etc/passwd"', '"{nothing}"', '"$(reboot)"', '"~nobody/x"', "\x00", "\ufeff",
    '"' + "A" * 5000 + '"', "0.1", "1/3", '"1/3"', '"~"', '"\\n"', '"."', '"../../x"', "1_000.5e3", "[" * 20_000,
    # where there is no such user, Path.expanduser raises RuntimeError
    '"~no-such-user-there-is/id_ed25519"', '"' + "x/" * 3000 + '"', '"a\\u0000b.toml"',
]  # fmt: skip
NOISE = st.text(max_size=12) | st.sampled_from(VALUES)


@st.composite
def mutated(draw: st.DrawFn, text: str) -> bytes:
    """The text with a few of its lines, values, keys or bytes changed."""
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1)) if lines else 0
        line = lines[at] if lines else ""
        key, equals, _ = line.partition("=")
        change = draw(
            st.sampled_from(["value", "value", "value", "key", "drop", "twice", "line", "cut", "cell"])
        )
        if change == "value" and equals:
            lines[at] = f"{key}= {draw(NOISE)}"
        elif change == "key" and equals:
            lines[at] = (
                f"{draw(st.sampled_from([*VALUES, 'password', 'image', 'a.b', 'points']))} {line[len(key) :]}"
            )
        elif change == "drop" and lines:
            del lines[at]
        elif change == "twice" and lines:
            lines.insert(draw(st.integers(0, len(lines))), line)
        elif change == "line":
            lines.insert(at, draw(NOISE))
        elif change == "cut":
            lines[at:] = [line[: draw(st.integers(0, len(line)))]]
        elif change == "cell" and lines:
            cells = line.split(",")
            cells[draw(st.integers(0, len(cells) - 1))] = draw(NOISE)
            lines[at] = ",".join(cells)
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    data = end.join(lines).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=8)) + data[at:]
    return data


def bytes_of(text: str) -> st.SearchStrategy[bytes]:
    return mutated(text) | st.binary(max_size=80)


def file_of(factory: pytest.TempPathFactory, name: str, data: bytes) -> Path:
    file = factory.getbasetemp() / name
    file.write_bytes(data)
    return file


def is_told(problems: list[str], file: Path) -> None:
    assert problems
    for line in problems:
        assert line.startswith(f"{file}: "), line
        assert len(line) > len(f"{file}: ") + 5
        assert "\n" not in line
        assert plain(line) == line, ascii(line)
        assert len(line) < 2_000, f"{len(line)} characters"


@FUZZ
@given(bytes_of(LAB))
def test_lab_files(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = file_of(tmp_path_factory, "fuzz.toml", data)
    try:
        lab = Lab.load(file)
    except LabError as error:
        is_told(error.problems, file)
        return
    assert lab.image or not lab.has("openstack")
    for part in ("openstack", "docker", "calculator"):
        lab.has(part)
    assert lab.flavor("nano")


@FUZZ
@given(bytes_of(SUBMISSION))
def test_submissions(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = file_of(tmp_path_factory, "submission.toml", data)
    try:
        submission = Submission.load(file)
    except SubmissionError as error:
        is_told(error.problems, file)
        return
    assert submission.cloud.strip()
    assert all(1 <= port <= 65535 for port in submission.ports.values())
    submission.adapted(Lab(name="x"))


@FUZZ
@given(bytes_of(ROSTER))
def test_rosters(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = file_of(tmp_path_factory, "roster.csv", data)
    try:
        entries = roster.load(file)
    except roster.RosterError as error:
        is_told(error.problems, file)
        return
    assert entries
    slugs = [entry.slug for entry in entries]
    assert len(set(slugs)) == len(slugs)
    assert all(slug and "/" not in slug and not slug.startswith(".") for slug in slugs)


@FUZZ
@given(bytes_of((ROOT / "reports" / "rubrics" / "lab.toml").read_text(encoding="utf-8")))
def test_rubrics(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = file_of(tmp_path_factory, "rubric.toml", data)
    try:
        made = rubric.load(file)
    except rubric.RubricError as error:
        is_told(error.problems, file)
        return
    assert made.points == sum(part.points for part in made.parts)
    assert made.out_of > 0
    assert made.round_to > 0


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from datetime import UTC, datetime

    folder = tmp_path_factory.mktemp("recorded")
    path = record(folder, Group("Group 01", 1, ("no route",)), datetime(2026, 12, 1, 8, tzinfo=UTC))
    file = path if path.is_file() else path / "run.json"
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    document["checks"] = document["checks"][:4]
    for check in document["checks"]:
        check["observations"] = check["observations"][:1]
    return document


def places_of(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place] * bool(place) + [deep for key, item in inner for deep in places_of(item, (*place, key))]


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
    | st.sampled_from(["pass", "fail", "unproven", "skip", "OS-05", "6", "\ud800", "\0", 10**400, -1, 1e308, "A" * 9000])
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def commands(folder: Path, file: Path) -> list[list[str]]:
    out = folder / "out"
    return [
        ["html", str(file), "-o", str(out / "run.html")],
        ["grade", str(file), "-o", str(out)],
        ["gradescope", str(file), "-o", str(out / "results.json")],
        ["compare", str(file), str(file), "-o", str(out / "compare.html")],
        ["trend", str(file), "-o", str(out / "trend.html")],
        ["class", str(file), "-o", str(out / "class")],
    ]


@settings(FUZZ, max_examples=40)
@given(st.data())
def test_recorded_runs_through_every_report(
    tmp_path_factory: pytest.TempPathFactory, recorded: dict[str, Any], data: st.DataObject
) -> None:
    document = copy.deepcopy(recorded)
    for _ in range(data.draw(st.integers(1, 3))):
        places = places_of(document)
        *way, last = data.draw(st.sampled_from(places))
        holder = document
        for key in way:
            holder = holder[key]
        change = data.draw(st.sampled_from(["replace", "replace", "remove", "repeat"]))
        if change == "replace":
            holder[last] = data.draw(ANYTHING)
        elif change == "remove":
            del holder[last]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        if not document:
            break
    file = file_of(tmp_path_factory, "run.json", json.dumps(document).encode())
    (file.parent / "out").mkdir(exist_ok=True)
    try:
        runfile.read(file)
        readable = True
    except runfile.RunFileError as error:
        readable = False
        is_told([str(error)], file)
    for words in commands(file.parent, file):
        status = reports.main(words)
        assert status in (0, 2)
        assert readable or status == 2 or words[0] in ("class", "trend"), words


@FUZZ
@given(st.binary(max_size=200) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_as_a_run_and_as_a_journal(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = file_of(tmp_path_factory, "any.json", data)
    assert reports.main(["html", str(file)]) == 2
    with pytest.raises(journal.JournalError, match="reading the journal"):
        journal.read(file)


ROWS = st.fixed_dictionaries(
    {},
    optional={
        "what": st.sampled_from(["begin", "intend", "made", "removed", "other"]) | SCALARS,
        "kind": st.sampled_from(["server", "vm"]) | SCALARS,
        "name": SCALARS, "id": SCALARS, "run": SCALARS, "lab": SCALARS,
        "pid": SCALARS, "started": SCALARS, "boot": st.just(journal._boot()) | SCALARS,
    },
)  # fmt: skip


@FUZZ
@given(st.lists(ROWS | ANYTHING, max_size=8))
def test_journals(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    file = file_of(tmp_path_factory, "fuzz.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    try:
        record_ = journal.read(file)
    except journal.JournalError as error:
        is_told([str(error).removeprefix("reading the journal ")], file)
        return
    assert isinstance(record_.run, str)
    assert isinstance(record_.alive, bool)


@pytest.mark.parametrize("value", [value for value in VALUES if value.startswith('"')])
def test_paths_in_a_lab_file(tmp_path: Path, value: str) -> None:
    file = tmp_path / "lab.toml"
    file.write_text(
        f'[openstack]\nimage = "x"\nssh_key = {value}\n[calculator]\nfiles = [{value}]\ncommand = "x"\n',
        encoding="utf-8",
    )
    try:
        Lab.load(file)
    except LabError as error:
        is_told(error.problems, file)


@pytest.mark.parametrize(
    ("read", "refusal"),
    [(Lab.load, LabError), (Submission.load, SubmissionError), (rubric.load, rubric.RubricError)],
)
@pytest.mark.parametrize("name", ["folder.toml", "nothing.toml", "a\0b.toml", f"{'x' * 300}.toml"])
def test_paths_that_are_no_file(
    tmp_path: Path, read: Callable[[Path], object], refusal: type[RefusedError], name: str
) -> None:
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(refusal) as caught:
        read(tmp_path / name)
    assert caught.value.problems
