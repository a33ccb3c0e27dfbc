"""Puts faults into a standing lab, one after another in each lane, and scores what the suites say of them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from provision.box import namespaces, runtime
from provision.lab import Lab
from tests.faults.fault import Fault, Scope
from tests.faults.looks import Look, Looks
from tests.faults.scopes import CALCULATOR, HEALTHY, STAND
from tests.faults.score import Row, Score, judge

if TYPE_CHECKING:
    from tests.faults.world import World

Say = Callable[[str], None]
LANES = ("natvm", "cloud")
LAST = {
    "natvm": ("suites/virtualbox/test_nat.py", "-k", "test_the_vm_reaches_its_host"),
    "cloud": ("suites/openstack/test_one_vm.py", "-k", "test_the_vm_has_an_address"),
}
"""What is run at the end without ``--keep``: it removes what stands."""


class Detection:
    """A standing lab, and what is to be found out about it.

    Args:
        folder: for the reports of each look.
        say: told what is done, a line each.
    """

    def __init__(self, folder: Path, faults: Sequence[Fault], healthy: int, say: Say) -> None:
        self.folder = folder
        self.faults = faults
        self.healthy = healthy
        self.say = say
        self.score = Score()
        self.looks = Looks()
        self.problems: list[str] = []
        self._lock = threading.Lock()
        self._rounds: list[dict[str, str]] = [{} for _ in range(healthy)]

    def run(self) -> Score:
        """Stands the lab, goes through the catalogue, looks at the healthy lab again and again, removes the lab."""
        scopes = {scope for scope in HEALTHY if self.healthy} | {fault.scope for fault in self.faults}
        lanes = [lane for lane in LANES if any(scope.lane == lane for scope in scopes)]
        if len(lanes) == len(LANES):
            # the first run's name is that of all that is left standing
            self._stand(CALCULATOR)
        threads = [threading.Thread(target=self._lane, args=(lane,), name=lane) for lane in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for lane in lanes:
            last = self.looks(self.folder / f"last-{lane}", *LAST[lane])
            if not last.run or last.run["exit_status"] != 0:
                self.problems.append(f"{lane}: what stood was not removed: {last.text[-2000:]}")
        order = {fault.id: place for place, fault in enumerate(self.faults)}
        self.score.rows.sort(key=lambda row: order[row.id])
        self.score.healthy = [each for each in self._rounds if each]
        return self.score

    def _stand(self, scope: Scope) -> None:
        self.say(f"standing: {scope.name}")
        look = self._look(scope, f"stand-{scope.name}")
        if set(look.claims.values()) != {"pass"}:
            self.problems.append(
                f"{scope.name} is not healthy to begin with: {look.told or look.text[-1500:]}"
            )

    def _lane(self, lane: str) -> None:
        try:
            self._go_through(lane)
        except Exception as wrong:  # noqa: BLE001 - a thread that ends so is told to nobody else
            self.problems.append(f"{lane}: not gone through to its end: {type(wrong).__name__}: {wrong}")

    def _go_through(self, lane: str) -> None:
        from tests.faults.world import World

        box = runtime.running()
        assert box is not None
        namespaces.enter_network(box.holder.network("desktop"))
        faults = [fault for fault in self.faults if fault.scope.lane == lane]
        needed = {STAND[fault.scope] for fault in faults}
        for scope in HEALTHY:
            if scope.lane == lane and (self.healthy or scope in needed):
                self._stand(scope)
        world = World(Lab.load("box"), self.folder)
        self._healthy_rounds(lane, range(self.healthy // 2))
        for fault in faults:
            row = self._one(fault, world)
            with self._lock:
                self.score.rows.append(row)
            self.say(f"{row} ({row.needed:.0f} s + {row.seconds:.0f} s)")
        self._healthy_rounds(lane, range(self.healthy // 2, self.healthy))
        world.close()

    def _healthy_rounds(self, lane: str, rounds: range) -> None:
        for number in rounds:
            for scope in HEALTHY:
                if scope.lane == lane:
                    look = self._look(scope, f"healthy-{number}-{scope.name}")
                    with self._lock:
                        self._rounds[number] |= look.claims or {f"({scope.name})": "unproven"}
                    alarms = {id_: verdict for id_, verdict in look.claims.items() if verdict != "pass"}
                    if alarms or not look.claims:
                        self.say(f"FALSE ALARM in healthy run {number + 1}: {alarms or look.text[-500:]}")
            self.say(f"healthy run {number + 1} of {self.healthy}, {lane}")

    def _one(self, fault: Fault, world: World) -> Row:
        """Puts a fault in, looks, takes it out; whatever goes wrong is told in its row, and the next goes on."""
        began, look = time.monotonic(), None
        error = ""
        try:
            with ExitStack() as stack:
                if fault.put_in is not None:
                    stack.enter_context(fault.put_in(world))
                look = self._look(fault.scope, fault.id, fault.plugin)
                if fault.control:
                    self._without_controls(fault)
            world.refresh()
        except Exception as wrong:  # noqa: BLE001 - one fault's trouble must not end the others
            error = f"{type(wrong).__name__} {'after' if look else 'before'} the look: {wrong}"
            world.refresh()
        seconds = look.seconds if look else 0.0
        return judge(
            fault, look.claims if look else {}, look.told if look else "", seconds=seconds,
            needed=time.monotonic() - began - seconds, error=error,
            report=str((look.folder / "latest" / "report.html").relative_to(self.folder)) if look else "",
        )  # fmt: skip

    def _without_controls(self, fault: Fault) -> None:
        """The same look as it would be without the controls that the fault is seen by."""
        look = self._look(fault.scope, f"{fault.id}-without-{fault.control}", fault.plugin, fault.control)
        with self._lock:
            self.score.mutants.append(judge(fault, look.claims, look.told, seconds=look.seconds))
        missed = ", ".join(self.score.mutants[-1].missed)
        self.say(
            f"{fault.id} without {fault.control} controls: {f'{missed} missed' if missed else 'nothing missed'}"
        )

    def _look(self, scope: Scope, name: str, plugin: str = "", without: str = "") -> Look:
        folder = self.folder / name.replace(" ", "-")
        return self.looks(folder, *scope.words, "--keep", plugin=plugin, without=without)


def started(say: Say) -> runtime.Box:
    """The box, started where it is not up; the credentials are put where the suites find them."""
    box = runtime.running() or runtime.up(say)
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(box.clouds_yaml)
    return box
