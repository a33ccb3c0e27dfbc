"""Runs over time: what changed between two, and what flaps over the last of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reports import __main__ as command_line
from reports import history
from reports.runfile import read
from tests.recorded_runs import Group, nights, record


def test_two_runs_are_compared_claim_by_claim(tmp_path: Path) -> None:
    before = read(record(tmp_path / "a", Group("x", 6, ("no route", "commit late"))))
    after = read(record(tmp_path / "b", Group("x", 6, ("no route", "cloud down"))))
    del before["claims"]["API-02"]
    changes = {each.claim: each.kind for each in history.compare(before, after)}
    assert changes.pop("API-02") == "new"
    assert changes == {
        "CT-12": "mended", "CT-14": "mended",
        **dict.fromkeys(("OP-01", "OP-02", "OP-03", "OP-04", "OP-05", "API-01", "API-03"), "no longer told"),
    }  # fmt: skip
    reverse = {each.claim: each.kind for each in history.compare(after, before)}
    assert reverse["CT-12"] == "broken"
    assert reverse["OP-01"] == "told again"
    assert reverse["API-02"] == "gone"
    assert next(iter(reverse.values())) == "broken", "what broke comes first"


def test_the_trend_names_what_flaps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, 9)
    (tmp_path / "20991231-000000-aaaaa").mkdir()
    (tmp_path / "20991231-000000-aaaaa" / "run.json").write_text("{")
    (tmp_path / "latest").symlink_to(next(tmp_path.glob("2026*")).name)
    assert command_line.main(["trend", str(tmp_path), "-n", "7"]) == 0
    said = capsys.readouterr()
    assert re.search(r"flaps: OS-07 [+x]+x[+x]* ", said.out)
    assert "flaps: CT-12" not in said.out, "what breaks once and stays broken does not flap"
    assert "left out: " in said.err
    page = (tmp_path / "trend.html").read_text()
    assert "the last 6 runs" in page
    assert command_line.main(["trend", str(tmp_path / "nothing")]) == 2


@pytest.mark.parametrize(
    ("verdicts", "flaps"),
    [
        (("pass", "fail", "pass"), True),
        (("pass", "pass", "fail", "fail"), False),
        (("pass", "unproven", "pass"), False),
        (("fail", "unproven", "pass", "absent", "fail"), True),
        ((None, "skip"), False),
    ],
)
def test_flapping_is_two_turns(verdicts: tuple[str | None, ...], flaps: bool) -> None:
    assert history.Series("OS-07", "", verdicts).flaps is flaps
