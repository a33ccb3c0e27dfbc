"""What the kill test and the nights make of what they have seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision import journal
from provision.journal import Entry, Journal
from tests.endurance import kills, nights
from tests.endurance.kills import Row
from tests.endurance.nights import Night

STEADY = {
    "processes": 60.0,
    "descriptors": 2000.0,
    "memory_mib": 2300.0,
    "natvm_files": 4.0,
    "cache_mib": 2000.0,
}


def night(number: int, verdict: str = "pass", **sizes: float) -> Night:
    return Night(number, 60.0, 0, {"a": verdict}, STEADY | sizes, {}, [])


def test_fifty_nights_alike_have_not_grown() -> None:
    rows = [night(n, memory_mib=2300 + n % 7, processes=60 + n % 2) for n in range(1, 51)]
    assert nights.grown(rows) == []
    assert nights.unlike(rows) == []


@pytest.mark.parametrize(
    ("name", "each"), [("natvm_files", 0.1), ("descriptors", 2), ("memory_mib", 3), ("processes", 0.2)]
)
def test_what_grows_slowly_is_told(name: str, each: float) -> None:
    rows = [night(n, **{name: STEADY[name] + each * n}) for n in range(1, 51)]
    assert [line.partition(":")[0] for line in nights.grown(rows)] == [name]


def test_a_verdict_that_changed_is_told() -> None:
    rows = [night(1), night(2), night(3, "unproven")]
    assert nights.unlike(rows) == ["night 3: a unproven, and pass in the first"]


def test_the_same_seed_makes_the_same_kills_of_every_kind() -> None:
    strikes = kills.plan(200, 7, ["openstack", "natvm", "engine"])
    assert strikes == kills.plan(200, 7, ["openstack", "natvm", "engine"])
    assert strikes != kills.plan(200, 8, ["openstack", "natvm", "engine"])
    assert {strike.victim for strike in strikes} == set(kills.VICTIMS)
    assert {strike.kind for strike in strikes} == {"openstack", "natvm", "engine"}


def test_the_figures_count_what_was_left_and_touched() -> None:
    rows = [
        Row(1, "natvm", "power cut", 3.0),
        Row(2, "natvm", "power cut", 4.0, left=["VM x"], touched=["a: b -> c"]),
    ]
    document = kills.as_json(rows, seed=1)
    assert (document["kills"], document["left"], document["foreign_touched"], document["hung"]) == (
        2,
        1,
        1,
        0,
    )
    assert rows[0].clean
    assert not rows[1].clean


def test_a_power_cut_takes_no_line_that_was_waited_for(tmp_path: Path) -> None:
    log = Journal(tmp_path / "r1.jsonl", "box", "r1")
    log.intend("network", "front")
    kills._cut(log.path)
    assert journal.read(log.path).left == (Entry("network", "front"),)
    log.made("network", "front", "id-n")
    kills._cut(log.path)
    assert not log.path.read_bytes().endswith(b"\n")
    assert journal.read(log.path).left == (Entry("network", "front"),)
