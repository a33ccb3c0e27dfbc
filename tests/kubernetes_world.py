"""The embedded cluster in networks of its own, without a cloud beside it: stands in a minute, and the suites run on it as
on the box.

``python -m tests.kubernetes_world FOLDER`` holds one until its standard input ends, or SIGTERM; with
``LABPROOF_WORLD=FOLDER`` ``-p tests.kubernetes_world`` has pytest take it for the box. ``LABPROOF_BREAK`` names what is
broken meanwhile.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from provision import manifests
from provision.box import cluster, runtime
from provision.box.namespaces import Holder, enter_desktop
from provision.progress import Progress
from tests.cluster_world import world

WORLD = os.environ.get("LABPROOF_WORLD", "")
DESKTOP = os.environ.get("LABPROOF_DESKTOP", "")
"""Has the process enter the desktop itself: for labs that have no box."""
BREAK = os.environ.get("LABPROOF_BREAK", "")


@contextmanager
def standing(folder: Path) -> Iterator[cluster.Cluster]:
    """A cluster in networks of its own, its files below a folder; all of it ends with the block."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "accelerator").write_text("none")
    below = folder / runtime.CLUSTER
    try:
        with world() as holder:
            (folder / "holder.json").write_text(json.dumps([holder.outer, holder.init]))
            with Progress("cluster") as progress:
                made = cluster.begin(holder, below, progress)
            try:
                yield made
            finally:
                cluster.clear(holder, below)
    finally:
        shutil.rmtree(folder)


def taken_for_the_box(folder: Path) -> None:
    """Has this process take the world in a folder for the embedded lab."""
    outer, init = json.loads((folder / "holder.json").read_text())
    box = runtime.Box(Holder(outer, init), folder / "data", {"phase": "up", "seconds": 0.0})
    runtime.running = lambda: box
    runtime.folder = lambda: folder


def _service(name: str, change: Callable[[Any], None]) -> None:
    _changed("Service", name, change)


def _changed(kind: str, name: str, change: Callable[[Any], None]) -> None:
    """Has an object of a manifest made otherwise than written."""
    original = manifests.load

    def load(manifest: str) -> list[Any]:
        things = original(manifest)
        for thing in things:
            if (thing["kind"], thing["metadata"]["name"]) == (kind, name):
                change(thing)
        return things

    manifests.load = load


def _wrong_target_ports() -> None:
    for name in ("fastapi-app-clusterip-service", "fastapi-app-nodeport-service"):
        _service(name, lambda thing: thing["spec"]["ports"][0].update(targetPort=5001))


def _no_pre_stop(thing: Any) -> None:
    thing["spec"]["template"]["spec"]["containers"][0].pop("lifecycle")
    thing["spec"]["strategy"] = {"type": "Recreate", "rollingUpdate": None}


def _image(thing: Any) -> None:
    thing["spec"]["template"]["spec"]["containers"][0]["image"] = "labproof/nowhere:1"


BREAKS: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "wrong-selector": lambda: _service(
        "fastapi-app-clusterip-service", lambda thing: thing["spec"].update(selector={"app": "fastapi"})
    ),
    "wrong-target-port": _wrong_target_ports,
    "secret-of-the-wrong-type": lambda: _changed(
        "Secret", "repo-secret", lambda thing: thing.update(type="Opaque")
    ),
    "image-missing": lambda: _changed("Deployment", "fastapi-app", _image),
    "moved-by-recreation": lambda: _changed("Deployment", "moving-app", _no_pre_stop),
}


def pytest_configure() -> None:
    if WORLD:
        taken_for_the_box(Path(WORLD))
        if DESKTOP:
            box = runtime.running()
            assert box is not None
            enter_desktop(box.holder)
    BREAKS[BREAK]()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with standing(Path(sys.argv[1])) as made:
        print(f"there: {made.kubeconfig}", flush=True)
        sys.stdin.read()
