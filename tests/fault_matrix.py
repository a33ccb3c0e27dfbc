"""Each kind of fault on each call that provisioning and removal make, on the real cloud behind the faulty proxy."""

from __future__ import annotations

import queue
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from provision.cloud import Cloud, CloudError
from provision.holdings import holdings
from provision.lab import Lab
from provision.mark import Mark
from provision.openstack import ProvisionError, apply, destroy
from provision.topology import Topology
from tests import faulty_cloud
from tests.faulty_cloud import Fault, FaultyCloud, Rule, Trust

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBXtmrcQ1rMTx3HgPJhhnxVXMMxbT5RtBbCSsXHmjSq8 labproof-tests"
# one of each thing that a topology can ask for: both kinds of legs, a group that names another, a floating IP
TOPOLOGY = Topology.from_json(
    {
        "name": "faults",
        "networks": [
            {"name": "public", "type": "external", "cidr": "192.168.37.0/24", "gateway": "192.168.37.1"},
            {"name": "front", "cidr": "20.4.5.0/24", "gateway": "20.4.5.1"},
        ],
        "routers": [
            {"name": "RT1", "external": "public", "legs": [{"network": "front"}]},
            {"name": "RT2", "legs": [{"network": "front", "address": "20.4.5.4"}]},
        ],
        "security_groups": [
            {"name": "lab", "rules": [{"direction": "ingress", "protocol": "tcp", "ports": "22", "remote": "0.0.0.0/0"}]},
        ],
        "hosts": [
            {"name": "vm", "network": "front", "flavor": "nano", "floating_ip": True, "security_groups": ["lab"]},
        ],
    },
    "the matrix",
)  # fmt: skip
PARALLEL = 3
ACTIVE_SECONDS = 90.0
STALL_SECONDS = 30.0


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        told: pattern of what must be said of it.
        limit: seconds in which provisioning, or removal, has to end with it: on a busy machine one answer may take 60.
        bodied: it needs an answer with a body: not for DELETE.
        slow: the call may succeed all the same.
    """

    fault: Fault
    told: str
    limit: float = 180.0
    bodied: bool = False
    slow: bool = False


KINDS = {
    "401": Kind(faulty_cloud.refuse(401), r"(not accepted|before the login) \(HTTP 401\)"),
    "403": Kind(faulty_cloud.refuse(403), r"fault 403 .*HTTP 403"),
    "404": Kind(faulty_cloud.refuse(404), r"HTTP 404"),
    "409": Kind(faulty_cloud.refuse(409), r"fault 409 .*HTTP 409"),
    "413 in 1 s": Kind(faulty_cloud.refuse(413, "1"), r"fault 413 .*HTTP 413.*asked less often"),
    "429 in 1 s": Kind(faulty_cloud.refuse(429, "1"), r"fault 429 .*HTTP 429.*asked less often"),
    "429 in 1 h": Kind(faulty_cloud.refuse(429, "3600"), r"fault 429 .*HTTP 429.*asked less often"),
    "500": Kind(faulty_cloud.refuse(500), r"fault 500 .*HTTP 500.*cloud's side"),
    "503": Kind(faulty_cloud.refuse(503), r"fault 503 .*HTTP 503.*cloud's side"),
    "503 after": Kind(faulty_cloud.lose(503), r"fault 503 .*HTTP 503.*cloud's side"),
    "reset": Kind(faulty_cloud.reset, r"no answer from https://\S+ \(.*(reset by peer|hung up)"),
    "reset after": Kind(faulty_cloud.reset_after, r"no answer from https://\S+ \(.*(reset by peer|hung up)"),
    "TLS": Kind(faulty_cloud.garble, r"no answer from https://\S+ \([\w ]+\)"),
    "half": Kind(faulty_cloud.half, r"it broke off in the middle of the answer", bodied=True),
    "cut": Kind(faulty_cloud.cut, r"is cut off, or no JSON", bodied=True),
    "page": Kind(faulty_cloud.page, r"is a page \(HTTP 200\)"),
    "stall": Kind(faulty_cloud.stall(STALL_SECONDS), r"timed out", limit=400.0, slow=True),
}


@dataclass
class Row:
    """What became of a call with a fault: seconds, what was said, and what is wrong with that."""

    kind: str
    call: str
    seconds: float = 0.0
    said: str = ""
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        wrong = "".join(f"\n    WRONG: {problem}" for problem in self.problems)
        return f"{self.kind:11} {self.seconds:6.1f} s  {self.call}\n    {self.said or 'went well'}{wrong}"


@dataclass(frozen=True)
class Bench:
    """The cloud as it is, and the way to put the proxy before it.

    Attributes:
        standing: runs whose topology stands whole: a removal that was stopped at once has touched nothing of it.
    """

    lab: Lab
    cloud: Cloud
    clouds_yaml: Path
    folder: Path
    trust: Trust
    standing: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)

    @contextmanager
    def proxy(self) -> Iterator[tuple[FaultyCloud, Path]]:
        """A proxy of its own, and the clouds.yaml that leads through it."""
        with faulty_cloud.faulty_cloud("192.168.37.5", self.trust) as faulty:
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            yield faulty, faulty.clouds_yaml(self.clouds_yaml, folder, self.trust.cacert)

    def calls(self) -> tuple[list[str], list[str]]:
        """The calls that provisioning makes, the login included, and those of removal."""
        run = new_run()
        with self.proxy() as (faulty, clouds):
            cloud = Cloud.connect(self.lab, clouds)
            try:
                apply(cloud, TOPOLOGY, run, key_public=KEY)
                made = len(faulty.calls)
                destroy(cloud, run).check()
            finally:
                cloud.close()
                destroy(self.cloud, run).check()
        return list(dict.fromkeys(faulty.calls[:made])), list(dict.fromkeys(faulty.calls[made:]))

    def provision(self, kind: str, call: str) -> Row:
        """Provisions while a call fails at each time; then removes, the fault gone, and looks what is left."""
        row, run = Row(kind, call), new_run()
        with self.proxy() as (faulty, clouds):
            faulty.rules = [rule := Rule(re.escape(call), KINDS[kind].fault)]
            try:
                self._timed(row, lambda: self.apply(clouds, run))
                self._judge(row, rule)
            finally:
                self._clear(row, run)
        return row

    def remove(self, kind: str, call: str) -> Row:
        """Removes while a call fails at each time; then once more, the fault gone, and looks what is left."""
        row, run, whole = Row(kind, call), self._stand(), False
        try:
            before = self._there(run)
            with self.proxy() as (faulty, clouds):
                cloud = Cloud.connect(self.lab, clouds)
                faulty.rules = [rule := Rule(re.escape(call), KINDS[kind].fault)]
                try:
                    self._timed(row, lambda: destroy(cloud, run, patience=5.0).check())
                finally:
                    cloud.close()
            after = self._there(run)
            whole = after == before
            self._judge(row, rule, lost=not after)
            if after and not row.said:
                row.problems.append("said to be removed, and is there")
        finally:
            if whole:
                self.standing.put(run)
            else:
                self._clear(row, run)
        return row

    def _there(self, run: str) -> set[tuple[str, ...]]:
        """What stands of a run, and how its servers are."""
        have = holdings(self.cloud, Mark(run))
        return {*have.things(), *((server.id, server.status, server.task or "") for server in have.servers)}

    def _stand(self) -> str:
        """A run whose topology stands, made unless one is there."""
        try:
            return self.standing.get_nowait()
        except queue.Empty:
            run = new_run()
        try:
            apply(self.cloud, TOPOLOGY, run, key_public=KEY)
        except BaseException:
            destroy(self.cloud, run)
            raise
        return run

    def clear(self) -> None:
        """Removes what still stands."""
        while not self.standing.empty():
            destroy(self.cloud, self.standing.get()).check()

    def apply(self, clouds: Path, run: str, within: float = ACTIVE_SECONDS) -> None:
        """Provisions through a proxy; ``within``: seconds for the servers to become ACTIVE."""
        cloud = Cloud.connect(self.lab, clouds)
        try:
            apply(cloud, TOPOLOGY, run, key_public=KEY, within=within)
        finally:
            cloud.close()

    def _timed(self, row: Row, act: Callable[[], None]) -> None:
        from provision.removal import LeftBehindError

        began = time.monotonic()
        try:
            act()
        except (CloudError, ProvisionError) as error:
            row.said = str(error)
            if "\n" in row.said:
                row.problems.append("the reason is not one line")
        except LeftBehindError as error:
            row.said = " / ".join(str(item) for item in error.left)
        except Exception as error:  # noqa: BLE001 - whatever comes is told in the table
            row.said = f"{type(error).__name__}: {error}"
            row.problems.append("a traceback, and no reason")
        row.seconds = time.monotonic() - began

    def _judge(self, row: Row, rule: Rule, *, lost: bool = False) -> None:
        kind = KINDS[row.kind]
        if row.seconds > kind.limit:
            row.problems.append(f"took longer than {kind.limit:g} s")
        if not rule.happened:
            row.problems.append("the call was not made")
        elif not row.said:
            if not (kind.slow or lost or tolerated(row.kind, row.call)):
                row.problems.append("went well: was the fault not noticed?")
        elif not re.search(kind.told, row.said):
            row.problems.append(f"does not say {kind.told}")

    def _clear(self, row: Row, run: str) -> None:
        try:
            left = list(destroy(self.cloud, run))
        except CloudError as error:
            row.problems.append(f"the removal without the fault: {error}")
            return
        row.problems += [f"left behind: {item}" for item in left]


def tolerated(kind: str, call: str) -> bool:
    """Calls that provisioning can do without.

    Version documents only save the SDK a guess; of their quota not every cloud tells its users, and which addresses
    the external network has, neutron's default policy does not show them.
    """
    method, _, path = call.split(" ", 2)
    if method == "GET" and re.fullmatch(r"/(v\d[.\d]*/?)?", path):
        return True
    return "/quotas/" in path and kind in {"403", "404"}


def fits(kind: str, call: str) -> bool:
    return not (KINDS[kind].bodied and call.startswith("DELETE"))


def new_run() -> str:
    return f"f{secrets.token_hex(4)}"


def all_of(
    act: Callable[[str, str], Row], kind: str, calls: Iterable[str], tell: Callable[[str], None]
) -> list[Row]:
    """One kind of fault on each call, several at a time; tells each row as it comes."""

    def one(call: str) -> Row:
        row = act(kind, call)
        tell(str(row))
        return row

    with ThreadPoolExecutor(3 * PARALLEL if KINDS[kind].slow else PARALLEL) as pool:
        return list(pool.map(one, [call for call in calls if fits(kind, call)]))
