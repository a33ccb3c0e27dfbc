"""What a run leaves standing for the next one, part by part."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.runs import begin_run, standing_run


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "labproof"


def test_a_run_that_leaves_nothing_takes_its_key_with_it(state: Path) -> None:
    run = begin_run("box", "r1")
    assert run.key.stat().st_mode & 0o777 == 0o600
    run.hold("openstack")
    run.forget("openstack")
    run.close()
    assert not run.key.exists()
    assert standing_run("box") is None
    assert not list((state / "runs").iterdir())


def test_what_was_kept_is_the_next_runs_with_the_same_key() -> None:
    first = begin_run("box", "r1")
    first.hold("openstack")
    first.remember("openstack")
    first.close()
    second = standing_run("box")
    assert second is not None
    assert (second.run, second.public_key) == ("r1", first.public_key)
    assert second.stands("openstack")
    assert not second.stands("natvm")
    assert standing_run("cloud") is None


def test_one_part_goes_and_the_other_stays() -> None:
    first = begin_run("box", "r1")
    for part in ("openstack", "natvm"):
        first.hold(part)
        first.remember(part)
    second = standing_run("box")
    assert second is not None
    second.forget("natvm")
    second.close()
    assert second.key.exists()
    third = standing_run("box")
    assert third is not None
    assert third.parts == {"openstack"}


def test_a_journal_is_needed_while_anything_may_stand() -> None:
    """The part that is removed first does not take the journal of the others with it."""
    first = begin_run("box", "r1")
    assert not first.held
    first.hold("openstack")
    first.hold("natvm")
    first.forget("natvm")
    assert first.held == {"openstack"}
    first.remember("openstack")
    second = standing_run("box")
    assert second is not None
    assert second.held == {"openstack"}, "what an earlier run left is not looked at, and stands still"


def test_a_pointer_without_its_key_or_with_nonsense_is_no_standing_run(state: Path) -> None:
    first = begin_run("box", "r1")
    first.remember("openstack")
    first.key.unlink()
    assert standing_run("box") is None
    (state / "runs" / "box.json").write_text('{"run": "r1"')
    assert standing_run("box") is None


def test_the_journal_of_a_suite_goes_when_the_last_part_has_gone(
    pytester: pytest.Pytester, state: Path
) -> None:
    pytester.makeconftest(
        """
        import pytest
        from fixtures.openstack import journal
        from provision.runs import begin_run

        @pytest.fixture(scope="session")
        def kept():
            return begin_run("box", "r9")

        def part(name, left):
            @pytest.fixture(scope="session", name=name)
            def made(kept, journal):
                kept.hold(name)
                journal.intend("thing", name)
                yield
                assert journal.path.exists()
                if not left:
                    kept.forget(name)
            return made

        clean, other, dirty = part("clean", False), part("other", False), part("dirty", True)
        """
    )
    pytester.makepyfile("def test_all(clean, other): pass")
    pytester.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=1)
    journals = state / "journal"
    assert not list(journals.iterdir())
    pytester.makepyfile("def test_all(clean, dirty): pass")
    pytester.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=1)
    assert [file.name for file in journals.iterdir()] == ["r9.jsonl"]
