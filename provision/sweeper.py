"""What runs left that ended without removing it themselves: found by their journals, shown, removed.

Only what stands in the journal of a run that has ended *and* carries that run's tag goes
(:mod:`provision.claimed`), in the order in which it hangs together. What carries a tag and stands in no journal
here may be a colleague's, whose journal is on another machine: it is shown, and goes only by :func:`adopt`.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from provision import cluster_sweep
from provision import journal as journals
from provision.box.namespaces import BoxError
from provision.box.paths import state, sweep_scratch
from provision.containers import ContainerError, Engine, local
from provision.journal import Record
from provision.lab import Lab
from provision.mark import MARK, RUN, Mark
from provision.nat_lab import nat_lab
from provision.nat_machines import NatMachines
from provision.natvm import NatVmError
from provision.runs import drop_key

if TYPE_CHECKING:
    from provision.cloud import Cloud
    from provision.holdings import Holdings

OnLine = Callable[[str], None]
SETTLE = 15.0
"""Seconds in which what was asked for just before the asker's death may still appear on a cloud."""
MACHINES = frozenset({"vm", "disk"})
CONTAINERS = frozenset({"container", "container image"})
NAMESPACES = frozenset({"namespace"})
FILES = frozenset({"file", "folder"})
BOX = "box"
KNOWN = journals.CLOUD | MACHINES | CONTAINERS | NAMESPACES | FILES | {BOX, "forwarding rule"}
ANOTHERS = "somebody else is removing its things just now"
"""What is told of a run that its own watcher, or another sweep, is at work on."""


@dataclass(frozen=True)
class Thing:
    """Something that is there."""

    kind: str
    name: str
    id: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" ({self.id})" if self.id and self.id != self.name else "")


@dataclass(frozen=True)
class Swept:
    """How a run's sweep ended: what went, and what is left with the reasons."""

    run: str
    removed: tuple[str, ...]
    left: tuple[str, ...]


class Sweeper:
    """Finds and removes what runs left on a lab.

    Args:
        connect: logs in to the lab's cloud, at the first need.
        tell: called with a line as things go.
        settle: seconds that a cloud is given for what was asked of it just before a run died.
    """

    def __init__(
        self, lab: Lab, connect: Callable[[], Cloud], tell: OnLine = lambda _: None, settle: float = SETTLE
    ) -> None:
        self.lab = lab
        self._connect = connect
        self._tell = tell
        self._settle = settle
        self._cloud: Cloud | None = None

    @property
    def cloud(self) -> Cloud:
        """The lab's cloud.

        Raises:
            CloudError: it cannot be reached.
        """
        if self._cloud is None:
            self._cloud = self._connect()
        return self._cloud

    def ended(self) -> list[Record]:
        """The journals of this lab's runs that have ended and left something besides what is to stand."""
        return [
            record
            for record in journals.read_all()
            if record.lab == self.lab.name
            and not record.alive
            and (record.left or not record.kept or not self._stands())
        ]

    def look(self, record: Record) -> list[Thing]:
        """What would be removed of a run.

        Raises:
            CloudError, NatVmError, ContainerError, KubernetesError: a system could not be asked.
        """
        kinds = {entry.kind for entry in record.left}
        there: list[Thing] = []
        if kinds & NAMESPACES:
            mine = names(record, NAMESPACES)
            there += [Thing(*pair) for pair in cluster_sweep.there(self.lab, record.run, mine)]
        if not self._stands():
            return there + [Thing("file", str(path)) for path in self._files(record)]
        if kinds & journals.CLOUD and self.lab.has("openstack"):
            there += [Thing(*thing) for thing in self._claimed(record)(self._holdings(record.run)).things()]
        if kinds & MACHINES:
            there += [Thing(*pair) for pair in self._machines(record.run, names(record, MACHINES)).there()]
        if kinds & CONTAINERS:
            there += [Thing(*pair) for pair in _there(record)]
        there += [Thing("file", str(path)) for path in self._files(record)]
        if BOX in kinds and self._started_box(record):
            there.append(Thing(BOX, "the embedded lab that it started"))
        return there

    def remove(self, record: Record) -> Swept:
        """Removes what a run left, what hangs on others first; forgets its journal and key if nothing is left."""
        with journals.swept_alone(record) as alone:
            if not alone:
                return Swept(record.run, (), (ANOTHERS,))
            return self._remove(record)

    def _remove(self, record: Record) -> Swept:
        kinds = {entry.kind for entry in record.left}
        removed: list[str] = []
        unknown = sorted(kinds - KNOWN)
        left = [f"{', '.join(unknown)}: this version does not know how to remove it"] if unknown else []
        for wanted, work, outlives_the_box in (
            # with it goes all that is on it
            (kinds & {BOX}, self._end_box, True),
            (kinds & CONTAINERS, self._remove_containers, False),
            (kinds & MACHINES, self._remove_machines, False),
            # the cluster is looked for by itself: it stands without the rest of the embedded lab too
            (kinds & NAMESPACES, self._remove_namespaces, True),
            (kinds & journals.CLOUD if self.lab.has("openstack") else (), self._remove_from_cloud, False),
            (kinds & FILES, self._remove_files, True),
        ):
            if wanted and (outlives_the_box or self._stands()):
                gone, stays = work(record)
                removed += gone
                left += stays
        # folders of the cache that a dead run has half made
        sweep_scratch()
        if not left and not (record.kept and self._stands()):
            record.path.unlink(missing_ok=True)
            drop_key(record.run)
        elif not left:
            _forget(record)
        return Swept(record.run, tuple(removed), tuple(left))

    def _stands(self) -> bool:
        """Whether what runs have made can be there: on the embedded lab it ended with that."""
        if self.lab.driver != "box":
            return True
        from provision.box import namespaces, runtime

        return namespaces.find(runtime.folder()) is not None

    def _holdings(self, run: str) -> Holdings:
        from provision.holdings import holdings

        return holdings(self.cloud, Mark(run))

    def _claimed(self, record: Record) -> Callable[[Holdings], Holdings]:
        from provision.claimed import claimed

        def gone(server: str) -> bool:
            with self.cloud.doing(f"looking for server {server}"):
                return self.cloud.api.compute.find_server(server) is None

        return lambda have: claimed(have, Mark(record.run), record.left, gone)

    def _remove_from_cloud(self, record: Record) -> tuple[list[str], list[str]]:
        from provision.cloud import CloudError
        from provision.removal import destroy

        began, removed = time.monotonic(), []
        try:
            while True:
                done = destroy(self.cloud, record.run, on_progress=self._tell, only=self._claimed(record))
                removed += [str(Thing(*thing)) for thing in done.removed]
                waited = time.monotonic() - began
                if done or not record.unsettled(journals.CLOUD) or waited >= self._settle:
                    return removed, [str(each) for each in done]
                self._wait(waited)
        except (CloudError, BoxError) as error:
            return removed, [str(error)]

    def _machines(self, run: str, only: frozenset[str] | None) -> NatMachines:
        where = nat_lab(self.lab, lambda _: None)
        # nobody enters them any more: no key
        return NatMachines(where.hypervisor, where.folder / "disks", run, where.folder, "", only=only)

    def _remove_machines(self, record: Record) -> tuple[list[str], list[str]]:
        try:
            machines = self._machines(record.run, names(record, MACHINES))
            there = machines.there()
            left = machines.remove_all()
            still = machines.there()
        except NatVmError as error:
            return [], [f"the run's VMs: {error}"]
        return [" ".join(pair) for pair in there if pair not in still], left

    def _wait(self, waited: float) -> None:
        """Until what was asked for just before the asker's death must have appeared."""
        self._tell(f"looking again in {self._settle - waited:.0f} s: more was asked for")
        time.sleep(self._settle - waited)

    def _remove_containers(self, record: Record) -> tuple[list[str], list[str]]:
        began, removed = time.monotonic(), []
        try:
            client = local()
            try:
                engine = Engine(client, record.run, only=names(record, CONTAINERS))
                while True:
                    removed += [" ".join(pair) for pair in engine.there()]
                    left = engine.remove_all()
                    waited = time.monotonic() - began
                    if left or not record.unsettled(CONTAINERS) or waited >= self._settle:
                        return removed, left
                    self._wait(waited)
            finally:
                client.close()
        except ContainerError as error:
            return removed, [f"the run's containers: {error}"]

    def _remove_namespaces(self, record: Record) -> tuple[list[str], list[str]]:
        from provision.kubernetes_errors import KubernetesError

        mine = names(record, NAMESPACES)
        try:
            there = cluster_sweep.there(self.lab, record.run, mine)
            left = cluster_sweep.remove(self.lab, record.run, mine)
        except KubernetesError as error:
            return [], [f"the run's namespaces: {error}"]
        return [" ".join(pair) for pair in there], left

    def _files(self, record: Record) -> Iterator[Path]:
        """Files and folders that are there, of those that are certainly the run's: its name is in theirs."""
        for entry in record.left:
            path = Path(entry.name)
            own = path.is_absolute() and f"{MARK}-{record.run}-" in path.name
            if entry.kind in FILES and own and path.exists():
                yield path

    def _remove_files(self, record: Record) -> tuple[list[str], list[str]]:
        removed, left = [], []
        for path in list(self._files(record)):
            try:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(f"file {path}")
            except OSError as error:
                left.append(f"{path}: {error.strerror}")
        return removed, left

    def _started_box(self, record: Record) -> bool:
        from provision.box import runtime

        return self.lab.driver == "box" and runtime.owner() == record.run

    def _end_box(self, record: Record) -> tuple[list[str], list[str]]:
        if not self._started_box(record):
            return [], []
        if users := in_use(record.run):
            # the last of them ends it
            self._tell(f"the embedded lab stays: run {', '.join(users)} uses it")
            return [], []
        from provision.box import runtime

        try:
            runtime.down()
        except BoxError as error:
            return [], [str(error)]
        return ["the embedded lab"], []

    def orphans(self) -> dict[str, list[Thing]]:
        """What carries a run's tag and stands in no journal here, by run.

        Raises:
            CloudError: the cloud could not be asked.
        """
        if not self.lab.has("openstack") or not self._stands():
            return {}
        from provision.holdings import holdings

        known = {record.run for record in journals.read_all()}
        found: dict[str, list[Thing]] = {}
        have = holdings(self.cloud)
        runs = {run for text in _written(have) if (run := _run_of(text)) and run not in known}
        for run in sorted(runs):
            things = [Thing(*thing) for thing in _with_tag(self._holdings(run), run).things()]
            if things:
                found[run] = things
        return found

    def adopt(self, run: str) -> Swept:
        """Removes what carries a run's tag without a journal: that alone which a dry run has shown.

        Raises:
            LookupError: no dry run has shown that run's things; says what to do.
        """
        from provision.cloud import CloudError
        from provision.removal import destroy

        shown = read_shown(self.lab).get(run)
        if not shown:
            raise LookupError(
                f"no dry run has shown things of a run {run}: `lab sweep` without --adopt shows what there is"
            )
        ids = frozenset(shown)

        def seen(have: Holdings) -> Holdings:
            return _with_ids(_with_tag(have, run), ids)

        try:
            done = destroy(self.cloud, run, on_progress=self._tell, only=seen)
        except CloudError as error:
            return Swept(run, (), (str(error),))
        removed = tuple(str(Thing(*thing)) for thing in done.removed)
        return Swept(run, removed, tuple(str(each) for each in done))


def names(record: Record, kinds: frozenset[str]) -> frozenset[str]:
    """The names in a journal of things of these kinds."""
    return frozenset(entry.name for entry in record.left if entry.kind in kinds)


def in_use(run: str) -> list[str]:
    """Other runs that still run: several lab files may be of the one embedded lab."""
    return [record.run for record in journals.read_all() if record.alive and record.run != run]


def show(lab: Lab, orphans: dict[str, list[Thing]]) -> None:
    """Notes what a dry run has shown: of things without a journal no others are removed."""
    file = _shown(lab)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.write_text(json.dumps({run: [thing.id for thing in things] for run, things in orphans.items()}))


def read_shown(lab: Lab) -> dict[str, list[str]]:
    """Ids that a dry run has shown, by run."""
    try:
        document = json.loads(_shown(lab).read_text())
        return {str(run): [str(id_) for id_ in ids] for run, ids in document.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _shown(lab: Lab) -> Path:
    return state() / "runs" / f"{lab.name}.shown"


def _there(record: Record) -> list[tuple[str, str]]:
    client = local()
    try:
        return Engine(client, record.run, only=names(record, CONTAINERS)).there()
    finally:
        client.close()


def _forget(record: Record) -> None:
    """What was to go is gone, what was to stand stands: the journal says so."""
    with record.path.open("a", encoding="utf-8") as file:
        for entry in record.left:
            row = {"what": "removed", "kind": entry.kind, "id": entry.id, "name": entry.name}
            file.write(json.dumps(row, separators=(",", ":")) + "\n")


def _written(have: Holdings) -> Iterator[str]:
    for items in (have.networks, have.routers, have.ports, have.security_groups, have.floating_ips):
        for item in items:
            yield item.description
            yield from item.tags
    for server in have.servers:
        yield f"{MARK}:{server.metadata.get(f'{MARK}_run', '')}"
    for image in have.images:
        yield f"{MARK}:{image.run}"
    for key in have.keypairs:
        yield key.name


def _run_of(text: str) -> str:
    match = re.match(rf"{MARK}[:-]({RUN.pattern})(?:$|[ -])", text)
    return match[1] if match else ""


def _with_tag(have: Holdings, run: str) -> Holdings:
    """Without what carries the name alone; as if all of it stood in a journal."""
    from provision.claimed import claimed
    from provision.journal import Entry

    entries = [Entry(kind, name, id_) for kind, name, id_ in have.things()]
    return claimed(have, Mark(run), entries)


def _with_ids(have: Holdings, ids: frozenset[str]) -> Holdings:
    from provision.claimed import claimed
    from provision.journal import Entry

    entries = [Entry(kind, name, id_) for kind, name, id_ in have.things() if id_ in ids]
    run = have.prefix.split("-")[1]
    return claimed(have, Mark(run), entries)
