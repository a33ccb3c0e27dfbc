"""The fault catalogue is whole, and a look at a broken lab is scored as it should be."""

from __future__ import annotations

import pytest

from probes.greeting import greeting
from probes.reach import fact, ping, tcp
from provision.box import runtime
from reports import claims
from tests.faults.catalogue import CATALOGUE
from tests.faults.detection import Detection
from tests.faults.fault import CATALOGUE as ENTRIES
from tests.faults.fault import Fault, fault, plugged
from tests.faults.looks import Look
from tests.faults.plugin import BREAKS
from tests.faults.scopes import HEALTHY as LOOKED_AT
from tests.faults.scopes import NAT, ONE_VM, STAND
from tests.faults.score import RED, Score, judge, not_as_it_should_be, summary


@pytest.fixture
def entered():
    """What a test enters goes again."""
    before = dict(ENTRIES)
    yield ENTRIES
    ENTRIES.clear()
    ENTRIES.update(before)


@pytest.fixture
def entry(entered):
    @fault("test-entry", "something", ONE_VM, red="OS-07 OS-11", open_="OS-05", words=("icmp", "ICMP"))
    def put_in(world):
        yield

    return entered["test-entry"]


HEALTHY = dict.fromkeys(("OS-02", "OS-05", "OS-07", "OS-10", "OS-11"), "pass")
BROKEN = {**HEALTHY, "OS-05": "unproven", "OS-07": "fail", "OS-11": "fail"}


def test_the_catalogue_has_sixty_faults_over_all_systems():
    assert len(CATALOGUE) >= 60
    systems = {id_.split("-")[0] for each in CATALOGUE.values() for id_ in each.red | each.open}
    assert systems == {"NAT", "CT", "OS", "OP", "API", "APP", "TOP"}


@pytest.mark.parametrize("each", CATALOGUE.values(), ids=CATALOGUE)
def test_an_entry_names_claims_that_there_are_and_words_to_look_for(each: Fault):
    assert each.red | each.open <= set(claims.load())
    assert each.red | each.open, "a fault that turns nothing cannot be detected"
    assert each.what
    assert all(each.words)
    assert (each.put_in is None) == bool(each.plugin)


def test_every_break_of_the_plugin_is_an_entry():
    assert set(BREAKS) - {""} == {each.plugin for each in CATALOGUE.values() if each.plugin}


def test_each_kind_of_probe_has_a_fault_that_its_controls_alone_show():
    kinds = {
        ping(None, "x").kind,
        tcp(None, "x", 1).kind,
        fact(None, "true").kind,
        greeting(None, "x", 1).kind,
        "http",
    }
    assert {each.control for each in CATALOGUE.values() if each.everyday} - {""} == kinds


def test_what_each_scope_needs_is_made_by_one_of_its_lane():
    assert {each.scope for each in CATALOGUE.values()} <= set(STAND)
    assert all(scope.lane == maker.lane and maker in LOOKED_AT for scope, maker in STAND.items())


def test_an_id_is_entered_once(entry):
    with pytest.raises(ValueError, match="test-entry is in the catalogue already"):
        plugged("test-entry", "again", NAT, red="NAT-08", words="x")


def test_detected_and_told(entry):
    row = judge(entry, BROKEN, "no rule lets icmp in")
    assert (row.detected, row.diagnosed, row.accused, row.stayed) == (True, True, {}, 2)
    assert str(row) == "test-entry: as it should be"


@pytest.mark.parametrize("verdict", ["pass", "unproven", "skip"])
def test_a_claim_that_must_be_red_and_is_not_is_missed(entry, verdict):
    row = judge(entry, {**BROKEN, "OS-07": verdict}, "icmp")
    assert not row.detected
    assert row.missed == {"OS-07": verdict}
    assert RED == ("fail",)


def test_a_claim_that_cannot_be_told_and_is_green_is_missed(entry):
    assert judge(entry, {**BROKEN, "OS-05": "pass"}, "icmp").missed == {"OS-05": "pass"}
    assert judge(entry, {**BROKEN, "OS-05": "fail"}, "icmp").detected


def test_a_claim_that_did_not_run_is_missed(entry):
    assert judge(entry, {}, "icmp").missed == dict.fromkeys(("OS-05", "OS-07", "OS-11"), "not run")


def test_a_claim_that_turns_without_reason_is_accused(entry):
    row = judge(entry, {**BROKEN, "OS-02": "unproven"}, "icmp")
    assert row.accused == {"OS-02": "unproven"}
    assert not_as_it_should_be([row]) == [row]


def test_a_fault_that_could_not_be_put_in_is_not_detected(entry):
    assert not judge(entry, BROKEN, "icmp", error="AssertionError before the look").detected


def test_the_sums(entry):
    rows = [
        judge(entry, BROKEN, "icmp"),
        judge(entry, {**BROKEN, "OS-02": "fail", "OS-07": "pass"}, "silence"),
    ]
    score = Score(rows, [HEALTHY, {**HEALTHY, "OS-10": "unproven"}]).as_json(date="today")
    assert {key: score[key] for key in ("faults", "detected", "diagnosed", "claims_watched", "collateral")} == {
        "faults": 2, "detected": 1, "diagnosed": 1, "claims_watched": 5, "collateral": 1,
    }  # fmt: skip
    assert (score["healthy_runs"], score["false_alarms"], score["should_have_stayed"]) == (2, 1, 4)
    assert score["alarms"] == [{"run": 2, "claim": "OS-10", "verdict": "unproven"}]
    assert "detected 1 (50.0 %)" in summary(score)[0]


def test_a_lane_that_ends_early_is_told(entry, tmp_path, monkeypatch):
    """And is not merely a catalogue with fewer faults, all of them found."""
    monkeypatch.setattr(runtime, "running", lambda: None)
    made = Detection(tmp_path, [entry], healthy=0, say=lambda line: None)
    monkeypatch.setattr(made, "looks", lambda folder, *words: Look(folder, {"exit_status": 0}, "", 0))
    assert not made.run().rows
    (problem,) = made.problems
    assert problem.startswith("cloud: not gone through to its end: AssertionError")
