"""The catalogue's everyday faults on the real lab: the claims concerned turn, no others, and the words name the fault."""

from __future__ import annotations

import pytest

from provision.box import runtime
from provision.cloud import Cloud
from provision.holdings import holdings
from provision.runs import standing_run
from tests.faults.catalogue import CATALOGUE
from tests.faults.detection import Detection
from tests.faults.score import Score

pytestmark = pytest.mark.box
EVERYDAY = [fault for fault in CATALOGUE.values() if fault.everyday]


@pytest.fixture(scope="module")
def detection(lab: object, tmp_path_factory: pytest.TempPathFactory) -> tuple[Detection, Score]:
    made = Detection(tmp_path_factory.mktemp("faults"), EVERYDAY, healthy=1, say=print)
    return made, made.run()


@pytest.mark.parametrize("id_", [fault.id for fault in EVERYDAY])
def test_a_fault_turns_its_claims_and_no_others(detection, id_):
    """What the fault concerns is red, or unproven where it cannot be told; the reasons name it."""
    _, score = detection
    row = next(each for each in score.rows if each.id == id_)
    assert row.detected, f"{row}\n{row.told}"
    assert not row.accused, f"{row}\n{row.told}"
    assert row.diagnosed, f"{row}\n{row.told}"


@pytest.mark.parametrize("id_", [fault.id for fault in EVERYDAY if fault.control])
def test_without_its_positive_controls_the_fault_goes_unnoticed(detection, id_):
    """Taken out, the controls of one kind of probe are missed: a claim that cannot be told turns green."""
    _, score = detection
    mutant = next(each for each in score.mutants if each.id == id_)
    assert "pass" in mutant.missed.values(), str(mutant)


def test_the_healthy_lab_raises_no_alarm(detection):
    """Before and after, on the healthy lab, every claim is proven."""
    made, score = detection
    assert not made.problems, "\n".join(made.problems)
    assert [set(run.values()) for run in score.healthy] == [{"pass"}]


def test_nothing_is_left_of_the_lab(detection, lab):
    """Neither a disk, nor a server, nor the note of a standing run."""
    assert detection
    box = runtime.running()
    assert box is not None
    assert not list((box.data / "natvm" / "disks").glob("*")), "disks are left"
    assert standing_run("box") is None
    left = holdings(Cloud.connect(lab)).things()
    assert not [name for _, name, _ in left if name.startswith("labproof")]
