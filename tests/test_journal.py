"""What a run writes down before it makes anything, and what is read back of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from provision import journal
from provision.journal import Entry, Journal, JournalError


def test_what_was_intended_or_made_and_not_removed_may_still_be_there(tmp_path: Path) -> None:
    log = Journal(tmp_path / "r1.jsonl", "box", "r1")
    log.intend_all([("network", "front"), ("router", "RT1"), ("server", "calculator")])
    log.made("network", "front", "id-n")
    log.made("router", "RT1", "id-r")
    log.removed("router", "id-r")
    record = journal.read(log.path)
    assert (record.lab, record.run) == ("box", "r1")
    assert record.left == (Entry("network", "front", "id-n"), Entry("server", "calculator"))


def test_the_intention_is_in_the_file_before_the_call_returns(tmp_path: Path) -> None:
    log = Journal(tmp_path / "r1.jsonl", "box", "r1")
    log.intend("server", "calculator")
    assert '"calculator"' in log.path.read_text()


def test_something_intended_only_is_forgotten_by_its_name(tmp_path: Path) -> None:
    log = Journal(tmp_path / "r1.jsonl", "box", "r1")
    log.intend("server", "calculator")
    log.removed("server", "", name="calculator")
    assert journal.read(log.path).left == ()


def test_a_journal_is_continued(tmp_path: Path) -> None:
    first = Journal(tmp_path / "r1.jsonl", "box", "r1")
    first.intend("network", "front")
    first.close()
    second = Journal(tmp_path / "r1.jsonl", "box", "r1")
    second.intend("network", "back")
    assert [entry.name for entry in journal.read(second.path).left] == ["front", "back"]


def test_its_writer_is_alive_until_its_process_ends(tmp_path: Path) -> None:
    path = tmp_path / "r1.jsonl"
    assert journal.read(Journal(path, "box", "r1").path).alive
    root = str(Path(__file__).resolve().parent.parent)
    code = (
        f"import sys; sys.path.insert(0, {root!r})\n"
        "from pathlib import Path\nfrom provision.journal import Journal\n"
        f"Journal(Path({str(path)!r}), 'box', 'r1').intend('server', 'a')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert not journal.read(path).alive


def test_another_process_with_the_same_number_is_not_the_writer(tmp_path: Path) -> None:
    log = Journal(tmp_path / "r1.jsonl", "box", "r1")
    row = json.loads(log.path.read_text())
    log.path.write_text(json.dumps({**row, "started": row["started"] - 1}) + "\n")
    assert not journal.read(log.path).alive


def test_nobody_survives_a_reboot(tmp_path: Path) -> None:
    log = Journal(tmp_path / "r1.jsonl", "box", "r1")
    row = json.loads(log.path.read_text())
    log.path.write_text(json.dumps({**row, "boot": "another"}) + "\n")
    assert not journal.read(log.path).alive


def test_a_line_cut_off_by_a_crash_does_not_count(tmp_path: Path) -> None:
    log = Journal(tmp_path / "r1.jsonl", "box", "r1")
    log.intend("network", "front")
    with log.path.open("a") as file:
        file.write('{"what":"made","kind":"netw')
    assert journal.read(log.path).left == (Entry("network", "front"),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}\n", "does not say whose it is"),
        ("nonsense\n{}\n", "line 1 is not JSON"),
        ("[]\n", "line 1 is not an object"),
    ],
)
def test_what_is_no_journal_is_refused_with_its_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(JournalError, match=reason):
        journal.read(path)


def test_all_journals_of_a_folder_are_read_and_others_passed_over(tmp_path: Path) -> None:
    Journal(tmp_path / "r1.jsonl", "box", "r1")
    Journal(tmp_path / "r2.jsonl", "box", "r2")
    (tmp_path / "bad.jsonl").write_text("x\n")
    assert [record.run for record in journal.read_all(tmp_path)] == ["r1", "r2"]


def test_a_run_that_left_nothing_leaves_no_journal(tmp_path: Path) -> None:
    log = Journal(tmp_path / "r1.jsonl", "box", "r1")
    log.close(empty=True)
    assert not log.path.exists()


def test_journals_are_kept_where_state_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    log = Journal(None, "box", "r7")
    assert log.path == tmp_path / "labproof" / "journal" / "r7.jsonl"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="opening the journal"):
        Journal(tmp_path / "file" / "r1.jsonl", "box", "r1")


def test_writing_after_the_end_is_refused(tmp_path: Path) -> None:
    log = Journal(tmp_path / "r1.jsonl", "box", "r1")
    log.close()
    with pytest.raises(JournalError, match="writing the journal"):
        log.intend("server", "a")


def test_what_was_told_to_stand_is_not_left(tmp_path: Path) -> None:
    """A later run that is killed over it leaves only what it made besides."""
    first = Journal(tmp_path / "r1.jsonl", "box", "r1")
    first.intend("network", "front")
    first.made("network", "front", "id-n")
    first.keep()
    first.close()
    second = Journal(tmp_path / "r1.jsonl", "box", "r1")
    second.intend("server", "later")
    record = journal.read(second.path)
    assert record.left == (Entry("server", "later"),)
    assert record.kept == (Entry("network", "front", "id-n"),)
    second.removed("network", "id-n")
    assert journal.read(second.path).kept == ()


def test_what_goes_with_something_is_removed_with_it(tmp_path: Path) -> None:
    log = Journal(tmp_path / "r1.jsonl", "box", "r1")
    log.made("network", "front", "id-n")
    log.made("subnet", "front", "id-n")
    log.made("leg", "RT1-front", "id-r")
    log.removed("network", "id-n", "front")
    assert journal.read(log.path).left == (Entry("leg", "RT1-front", "id-r"),)
    log.removed("router", "id-r", "RT1")
    assert journal.read(log.path).left == ()


def test_a_cloud_that_has_nothing_clears_what_was_never_made_there(tmp_path: Path) -> None:
    log = Journal(tmp_path / "r1.jsonl", "box", "r1")
    log.intend_all([("floating IP", "labproof-r1-vm"), ("vm", "labproof-r1-natvm"), ("server", "another")])
    log.cleared("labproof-r1-")
    assert [entry.name for entry in journal.read(log.path).left] == ["labproof-r1-natvm", "another"]


def test_what_was_asked_for_without_an_answer_may_still_come_until_a_reboot(tmp_path: Path) -> None:
    log = Journal(tmp_path / "r1.jsonl", "box", "r1")
    log.intend("network", "front")
    assert journal.read(log.path).unsettled({"network", "server"})
    log.made("network", "front", "id-n")
    assert not journal.read(log.path).unsettled({"network", "server"})
    log.intend("server", "vm")
    begun = json.loads(log.path.read_text().splitlines()[0])
    with log.path.open("a") as file:
        file.write(json.dumps({**begun, "boot": "another"}) + "\n")
    assert not journal.read(log.path).unsettled({"network", "server"})


def test_a_journal_whose_last_line_was_cut_off_is_continued(tmp_path: Path) -> None:
    log = Journal(tmp_path / "r1.jsonl", "box", "r1")
    log.intend("network", "front")
    with log.path.open("a") as file:
        file.write('{"what":"made","kind":"netw')
    Journal(log.path, "box", "r1").intend("server", "vm")
    assert [entry.name for entry in journal.read(log.path).left] == ["front", "vm"]


def test_a_damaged_journal_is_told_of(tmp_path: Path) -> None:
    """What it names would else be lost without a word."""
    (tmp_path / "bad.jsonl").write_text("x\n")
    told: list[JournalError] = []
    assert list(journal.read_all(tmp_path, told.append)) == []
    assert "bad.jsonl: line 1 is not JSON" in str(told[0])


def test_one_sweeper_at_a_time(tmp_path: Path) -> None:
    record = journal.read(Journal(tmp_path / "r1.jsonl", "box", "r1").path)
    with journal.swept_alone(record) as first, journal.swept_alone(record) as second:
        assert first
        assert not second
    with journal.swept_alone(record) as alone:
        assert alone
    record.path.unlink()
    with journal.swept_alone(record) as gone:
        assert not gone
