"""What several modules of tests share: recorded runs of a class, made once; QEMU's room; and that interrupts are heard."""

from __future__ import annotations

import signal
from datetime import datetime
from pathlib import Path

import pytest

from reports import classroom, handing, roster, rubric
from tests.qemu_world import hypervisor, room  # noqa: F401 - fixtures


def pytest_configure() -> None:
    # a shell has what it starts in the background ignore interrupts, and so would all that tests start and interrupt
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of twelve groups and their roster; the first one's newest run fails."""
    from tests.recorded_runs import Group, class_of, record

    folder = tmp_path_factory.mktemp("course")
    class_of(folder, 12)
    later = datetime.fromisoformat("2026-12-01T08:00:00+01:00")
    record(folder / "group-01" / "runs", Group("Group 01", 1, ("no route",)), later)
    return folder


@pytest.fixture(scope="session")
def members(course: Path) -> list[classroom.Member]:
    return classroom.gather([course], rubric.load(), roster.load(course / "roster.csv"))


@pytest.fixture(scope="session")
def written(members: list[classroom.Member], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the class yields."""
    folder = tmp_path_factory.mktemp("written")
    handing.write_class(folder, members, rubric.load(), say=lambda line: None)
    return folder
