"""The suites run on what stands, in processes that have imported what takes long before they are forked."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports import runfile

ROOT = Path(__file__).resolve().parent.parent.parent
PRELOADED = [
    *(
        "openstack.connection",
        "openstack.compute.v2._proxy",
        "openstack.network.v2._proxy",
        "paramiko",
        "docker",
    ),
    *("pytest", "pytest_html", "pytest_metadata", "hypothesis", "testinfra", "rich.progress", "jsonschema"),
]
"""Of others alone: what is our own must be imported by pytest, which rewrites its assertions."""
LIMIT = 600.0


@dataclass(frozen=True)
class Look:
    """One run of checks that has ended.

    Attributes:
        run: the run file; empty where there is none.
        text: what was printed.
    """

    folder: Path
    run: dict[str, Any]
    text: str
    seconds: float

    @property
    def claims(self) -> dict[str, str]:
        """The verdict of each claim that a check of the run carries."""
        return {id_: claim["verdict"] or "unproven" for id_, claim in self.run.get("claims", {}).items()}

    @property
    def told(self) -> str:
        """Reasons and diagnoses of the checks that did not pass."""
        turned = [check for check in self.run.get("checks", []) if check["verdict"] != "pass"]
        return "\n".join("\n".join([check["reason"], *check["diagnosis"]]) for check in turned)


class Looks:
    """Makes runs of the suites; safe to use from several threads."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)

    def __call__(self, folder: Path, *words: str, plugin: str = "", without: str = "") -> Look:
        """Runs pytest with these words; its reports and what it prints are put into a folder.

        Args:
            plugin: a break of :mod:`tests.faults.plugin` to be put in while the checks run.
            without: kind of probe whose positive controls are left out.
        """
        folder.mkdir(parents=True, exist_ok=True)
        argv = [*words, "--lab", "box", "-q", "--report-dir", str(folder)]
        given = {"LABPROOF_BREAK": plugin, "LABPROOF_WITHOUT_CONTROLS": without}
        if plugin or without:
            argv += ["-p", "tests.faults.plugin"]
        began, log = time.monotonic(), folder / "output"
        process = self._context.Process(target=_pytest, args=(argv, given, str(log)))
        process.start()
        process.join(LIMIT)
        if process.is_alive():
            process.kill()
            process.join()
        file = folder / "latest" / "run.json"
        run = dict(runfile.read(file)) if file.exists() else {}
        return Look(folder, run, log.read_text(errors="replace"), time.monotonic() - began)


def _pytest(argv: list[str], environment: dict[str, str], log: str) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for target in (1, 2):
        os.dup2(out, target)
    os.environ.update(environment)
    os.chdir(ROOT)
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    import pytest

    status = int(pytest.main(argv))
    sys.stdout.flush()
    os._exit(status)
