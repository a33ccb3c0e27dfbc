"""What the measurements share."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from provision.box import namespaces, runtime
from provision.cloud import Cloud
from provision.lab import Lab
from provision.runs import Key, make_key

ROOT = Path(__file__).resolve().parent.parent
TOPOLOGIES = ROOT / "labs" / "topologies"


@dataclass(frozen=True)
class Row:
    """One figure."""

    what: str
    value: float
    unit: str = "s"
    note: str = ""


@dataclass
class Clock:
    """Seconds that a block took."""

    seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)


@contextmanager
def timed() -> Iterator[Clock]:
    clock = Clock()
    try:
        yield clock
    finally:
        clock.seconds = time.monotonic() - clock.began


def on_the_desktop() -> runtime.Box:
    """Starts the box where it is not up, and moves this process to its desktop."""
    box = runtime.running() or runtime.up(lambda _: None)
    namespaces.enter_desktop(box.holder)
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(box.clouds_yaml)
    return box


@contextmanager
def own_key() -> Iterator[Key]:
    """A key pair for one measurement."""
    with tempfile.TemporaryDirectory() as folder:
        yield make_key(Path(folder) / "id_ed25519")


def cloud() -> Cloud:
    return Cloud.connect(Lab.load("box"))


def ratio(what: str, theirs: float, ours: float, wanted: str) -> Row:
    return Row(what, theirs / ours, "x", wanted)
