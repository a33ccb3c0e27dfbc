"""The monitor of a real QEMU: what it answers, refuses, and does not say."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.qmp import Monitor, MonitorError, MonitorGone


@pytest.fixture
def monitored(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A QEMU without a machine; its socket's name is longer than the address of one can be."""
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    argv = ["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none"]
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *argv, "-qmp", "unix:qmp,server=on,wait=off"], cwd=folder
    )
    end = time.monotonic() + 10
    while True:
        with contextlib.suppress(MonitorGone), Monitor(folder / "qmp"):
            break
        assert time.monotonic() < end
        time.sleep(0.01)
    yield process, folder / "qmp"
    process.kill()
    process.wait()


def test_the_monitor_answers(monitored: tuple[subprocess.Popen[bytes], Path]):
    process, path = monitored
    with Monitor(path) as monitor:
        assert monitor.execute("query-status")["running"] is True
        assert "unknown command" in monitor.human("no_such_command")
        with pytest.raises(MonitorError, match="no-such-command has not been found"):
            monitor.execute("no-such-command")
        with pytest.raises(MonitorError, match="did not answer"):
            Monitor(path, within=0.3)  # one session at a time
        monitor.execute("quit")
        process.wait(10)
        with pytest.raises(MonitorGone):
            monitor.execute("query-status")
    with pytest.raises(MonitorGone):
        Monitor(path)


def test_a_stuck_qemu_does_not_hold_its_caller(monitored: tuple[subprocess.Popen[bytes], Path]):
    process, path = monitored
    with Monitor(path) as monitor:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(MonitorError, match="query-status"):
            monitor.execute("query-status", within=0.3)
