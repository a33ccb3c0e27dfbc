"""The embedded lab itself, for real: started, started again, killed, ended; and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision import journal
from provision.box import namespaces, runtime
from provision.box.namespaces import BoxError
from tests.probes_world import until
from tests.suite_runs import begin, ended

pytestmark = pytest.mark.box
ROOT = Path(__file__).resolve().parent.parent


def provision(*words: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    """``python -m provision`` as a user calls it."""
    return subprocess.run(
        [sys.executable, "-m", "provision", *words], cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )


def processes_of(state: Path) -> dict[int, str]:
    """Processes that live on mounts of a box whose folder is `state`, by id."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(state) in (entry / "mountinfo").read_text():
                found[int(entry.name)] = (entry / "comm").read_text().strip()
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_left(own_box: Path) -> Iterator[None]:
    """No process, mount or file of the box is left by a test that ended it."""
    yield
    runtime.down()
    left = processes_of(own_box)
    assert not left, f"left running: {left}"
    assert str(own_box) not in Path("/proc/mounts").read_text()
    assert not runtime.folder().exists()


@pytest.fixture(scope="module")
def own_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state folder of its own: the box that others may be using stays as it is."""
    state = tmp_path_factory.mktemp("state")
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(state)
    yield state
    runtime.down()
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before


def test_up_twice_then_down_leaves_nothing(own_box):
    """Up, up again (says so), its parts where they should be, down, down again (says so): nothing is left."""
    first = provision("lab", "up")
    assert first.returncode == 0, first.stderr
    again = provision("lab", "up")
    assert again.returncode == 0, again.stderr
    assert "up already" in again.stdout
    status = provision("lab", "status")
    assert "nova-compute" in status.stdout
    assert "the total was set by" in status.stdout
    shell = provision("lab", "shell", "--", "ip", "-4", "-o", "address", "show", "eth0")
    assert "10.1.5.89/16" in shell.stdout, shell.stderr
    beside = provision(
        "lab", "shell", "--on", "neighbour", "--", "ping", "-n", "-c", "1", "-W", "5", "10.1.5.89"
    )
    assert beside.returncode == 0, beside.stdout
    outside = provision("lab", "shell", "--", "ping", "-n", "-c", "1", "-W", "5", "198.51.100.8")
    assert " ttl=63 " in outside.stdout, outside.stdout
    down = provision("lab", "down")
    assert down.returncode == 0, down.stderr
    assert "was not up" in provision("lab", "down").stdout


@pytest.mark.parametrize("seconds", [0.3, 2.0, 5.0])
def test_killed_while_starting(own_box, seconds):
    """Whoever starts the box is killed: down ends what had begun, and up works."""
    starting = subprocess.Popen(
        [sys.executable, "-m", "provision", "lab", "up"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    os.killpg(starting.pid, signal.SIGKILL)
    starting.wait()
    assert provision("lab", "down").returncode == 0
    assert namespaces.find(runtime.folder()) is None


@pytest.mark.parametrize("moment", ["half started", "up"])
def test_the_box_of_a_run_that_is_killed_is_ended_by_its_watcher(own_box, tmp_path, moment):
    """The run had started it for itself; nobody else has to do anything."""
    run = begin(tmp_path, "suites/virtualbox", "-k", "reaches_its_host")
    try:
        until(lambda: namespaces.find(runtime.folder()) is not None, "the box's first process", 60)
        if moment == "up":
            until(lambda: runtime.running() is not None, "the box", 120)
    finally:
        run.kill()
        run.communicate()
    until(lambda: namespaces.find(runtime.folder()) is None, "the end of the box", 60)
    until(lambda: not list(journal.folder().glob("*.jsonl")), "the end of the journal", 30)


def test_the_box_of_an_interrupted_run_is_ended_by_it(own_box, tmp_path):
    run = begin(tmp_path, "suites/virtualbox", "-k", "reaches_its_host")
    until(lambda: namespaces.find(runtime.folder()) is not None, "the box's first process", 60)
    run.send_signal(signal.SIGINT)
    seen = ended(run, tmp_path, 60)
    assert namespaces.find(runtime.folder()) is None, seen.text
    assert not list(journal.folder().glob("*.jsonl"))


def test_a_service_that_dies_while_starting_is_named(own_box, monkeypatch):
    """A start that cannot succeed ends at once with the service's name and its last words, and leaves nothing."""
    from provision.box import config

    render = config.render

    def broken(data: Path, *, kvm: bool) -> None:
        render(data, kvm=kvm)
        nova = data / "etc/nova/nova.conf"
        nova.write_text(nova.read_text().replace("compute_driver = libvirt", "compute_driver = no_such"))

    monkeypatch.setattr(config, "render", broken)
    with pytest.raises(BoxError, match="nova-compute"):
        runtime.up(lambda _: None)
    assert runtime.kept_logs().is_dir()
