"""What a run leaves standing for the next one, part by part."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from provision.runs import begin_run, standing_run
from tests.probes_world import until
from tests.suite_runs import watcher_of

LAB = Path(__file__).resolve().parent.parent / "labs" / "box.toml"
ROOT = str(Path(__file__).resolve().parent.parent)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", ROOT)
    yield tmp_path / "labproof"
    for process in psutil.process_iter(["cmdline"]):
        # one that waits to try again what nobody can remove
        if str(tmp_path) in " ".join(process.info["cmdline"] or ()):
            process.kill()


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


RUN = """
    import os, signal, sys, time
    import pytest

    pytest_plugins = [
        "fixtures.verdicts", "fixtures.attach", "fixtures.interrupts", "fixtures.lab", "fixtures.run"
    ]

    def part(name, left):
        @pytest.fixture(scope="session", name=name)
        def made(kept, journal):
            kept.hold(name)
            journal.intend("thing", name)
            yield
            print("removing", name, file=sys.__stderr__, flush=True)
            time.sleep(float(os.environ.get("REMOVAL", "0")))
            assert journal.path.exists()
            if not left:
                kept.forget(name)
        return made

    clean, other, dirty = part("clean", False), part("other", False), part("dirty", True)
"""


def journals(state: Path) -> list[str]:
    return [file.name for file in (state / "journal").iterdir()]


def test_the_journal_of_a_run_goes_when_the_last_part_has_gone(
    pytester: pytest.Pytester, state: Path
) -> None:
    pytester.makeconftest(RUN)
    pytester.makepyfile("def test_all(clean, other): pass")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    assert not journals(state)
    assert not list((state / "runs").iterdir())
    pytester.makepyfile("def test_all(clean, dirty): pass")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    assert len(journals(state)) == 1


def begin(pytester: pytest.Pytester, **environment: str) -> tuple[subprocess.Popen[str], int]:
    """A run whose check waits; and the process id of its watcher."""
    pytester.makeconftest(RUN)
    pytester.makepyfile("import time\ndef test_all(clean): print('BEGUN', flush=True); time.sleep(60)")
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider"],
        cwd=pytester.path,
        env={**os.environ, "PYTHONPATH": ROOT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.stdout
    for line in run.stdout:
        if "BEGUN" in line:
            break
    watcher = watcher_of(run.pid)
    assert watcher
    return run, watcher.pid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_removes_what_it_made(
    pytester: pytest.Pytester, state: Path, number: signal.Signals
) -> None:
    run, watcher = begin(pytester)
    run.send_signal(number)
    text, _ = run.communicate(timeout=30)
    assert f"{number.name}: what the run made is being removed" in text
    assert "removing clean" in text
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert not journals(state)
    until(lambda: not psutil.pid_exists(watcher), "the watcher's end", 10)


def test_interrupted_twice_it_ends_at_once_and_its_journal_stays(
    pytester: pytest.Pytester, state: Path
) -> None:
    run, watcher = begin(pytester, REMOVAL="60")
    run.send_signal(signal.SIGINT)
    assert run.stdout
    while "removing clean" not in run.stdout.readline():
        pass
    began = time.monotonic()
    run.send_signal(signal.SIGINT)
    text, _ = run.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert f"process {watcher} removes the rest" in text
    assert run.returncode == 128 + signal.SIGINT
    assert len(journals(state)) == 1
    psutil.Process(watcher).kill()


def test_an_interrupt_during_the_removal_does_not_break_it(pytester: pytest.Pytester, state: Path) -> None:
    run, _ = begin(pytester, REMOVAL="2")
    run.send_signal(signal.SIGINT)
    assert run.stdout
    text, _ = run.communicate(timeout=30)
    assert "removing clean" in text
    assert not journals(state)


def test_the_watcher_of_a_run_that_is_killed_tries_to_remove_its_things(
    pytester: pytest.Pytester, state: Path
) -> None:
    logs = state / "watchers"
    logs.mkdir(parents=True)
    # as a log that another watcher removes between the listing and the look at its age
    (logs / "gone.log").symlink_to("nowhere")
    run, watcher = begin(pytester)
    for number in (signal.SIGINT, signal.SIGTERM):
        # as who stops a service does to all of it
        os.kill(watcher, number)
    run.kill()
    run.communicate()
    until(lambda: any(each.exists() for each in logs.glob("*.log")), "the watcher's word", 20)
    (log,) = (each for each in logs.glob("*.log") if each.exists())
    until(lambda: "left behind: thing: this version" in log.read_text(), "what is left", 20)
    assert len(journals(state)) == 1, "nobody removed the thing, so it stays written down"
    psutil.Process(watcher).kill()


def test_a_watchers_command_line_has_no_secret(pytester: pytest.Pytester, state: Path) -> None:
    run, watcher = begin(pytester)
    try:
        words = psutil.Process(watcher).cmdline()
        assert words[words.index("-m") + 1 :][::2] == [
            "provision.watcher",
            str(LAB),
            str(*state.glob("journal/*")),
        ]
    finally:
        run.terminate()
        run.communicate(timeout=30)
