"""Takes a run's things off a cloud again, looks whether they are gone, and names what is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from provision.cloud import Cloud, CloudError
from provision.graph import Graph, Progress, Timing, table
from provision.guests import Guests
from provision.holdings import CloudFloatingIP, CloudPort, CloudServer, Holdings, holdings
from provision.journal import Journal
from provision.mark import Mark

OnLine = Callable[[str], None]
Only = Callable[[Holdings], Holdings]
SERVER_SECONDS = 90.0
BUILDING_SECONDS = 330.0
"""Nova hears of the end of a server that it builds when its port is plugged, or not after 300 s (vif_plugging_timeout)."""
ROUNDS = 3
PATIENCE = 120.0
AGAIN = 2.0
GOING = "end of server"
COST = {"server": 10.0, "floating IP": 1.0, "port": 0.5, "leg": 1.5, "router": 1.0, "network": 1.0}


@dataclass(frozen=True)
class LeftBehind:
    """Something that is still there after its removal, and why."""

    kind: str
    name: str
    id: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.id}): {self.reason}"


class LeftBehindError(Exception):
    """Things are still there; ``left`` names them."""

    def __init__(self, left: Iterable[LeftBehind]) -> None:
        self.left = tuple(left)
        super().__init__("left behind on the cloud:\n" + "\n".join(f"  {item}" for item in self.left))


class Removal(list[LeftBehind]):
    """What was left behind (nothing, if all went well), with what was removed and how long it took.

    Attributes:
        removed: kind, name and id of each thing that is gone.
        timings: when each step ran.
        seconds: the total, the last look included.
    """

    def __init__(self) -> None:
        super().__init__()
        self.removed: list[tuple[str, str, str]] = []
        self.timings: list[Timing] = []
        self.path: list[Timing] = []
        self.seconds = 0.0

    def steps(self) -> str:
        """The steps as a table; those of the critical path are starred."""
        return table(self.timings, self.path)

    def check(self) -> None:
        """Raises LeftBehindError if anything was left behind."""
        if self:
            raise LeftBehindError(self)


def destroy(
    cloud: Cloud,
    run: str,
    topology: str | None = None,
    *,
    on_progress: OnLine | None = None,
    concurrency: int = 8,
    journal: Journal | None = None,
    patience: float = PATIENCE,
    only: Only | None = None,
) -> Removal:
    """Removes everything of a run: what was applied, and what was made beside it under the run's name or tag.

    Each thing goes as soon as what hangs on it has gone. Afterwards the cloud is listed again; what is still
    there is tried again, up to three rounds in all. What is somebody else's stays, in the run's networks too.

    Args:
        topology: of this topology alone.
        on_progress: called with a line as steps end.
        patience: seconds to wait, in all, for a cloud that does not answer.
        only: picks what may go of what carries the run's name or tag.

    Returns:
        What was left behind, with the reasons; empty if nothing was.

    Raises:
        CloudError: the cloud could not be listed: nothing is known then.
    """
    mark, result, began = Mark(run, topology), Removal(), time.monotonic()
    look = _Patient(cloud, mark, patience, on_progress, only)
    first = have = look()
    rounds, reasons = 0, dict[str, str]()
    while have and rounds < ROUNDS:
        work = _Work(cloud, mark, have)
        work.graph.run(concurrency, _lines(on_progress))
        result.timings += [_later(row, work.began - began) for row in work.graph.timings]
        result.path = result.path or work.graph.critical_path()
        reasons = work.reasons
        waited = look.waited
        have = look()
        # what failed because the cloud was away is not yet tried
        rounds += look.waited == waited
    still = {id_ for _, _, id_ in have.things()}
    for kind, name, id_ in first.things():
        if id_ not in still:
            result.removed.append((kind, name, id_))
            if journal:
                journal.removed(kind, id_, name)
    if journal and not have and topology is None:
        # what was intended and never made is on no list
        journal.cleared(mark.prefix)
    result += [LeftBehind(k, n, i, reasons.get(i, "still listed")) for k, n, i in have.things()]
    result.seconds = time.monotonic() - began
    return result


class _Patient:
    """Lists what there is of a mark; a cloud that does not answer is asked again while patience lasts."""

    def __init__(
        self, cloud: Cloud, mark: Mark, patience: float, on_progress: OnLine | None, only: Only | None
    ) -> None:
        self._cloud, self._mark, self._only = cloud, mark, only
        self._patience = patience
        self._tell = on_progress or (lambda _: None)
        self.waited = 0.0

    def __call__(self) -> Holdings:
        while True:
            began = time.monotonic()
            try:
                have = holdings(self._cloud, self._mark)
                return self._only(have) if self._only else have
            except CloudError as error:
                if not error.passing or self.waited >= self._patience:
                    raise
                left = self._patience - self.waited
                self._tell(f"{error.answer}; asking again for {left:.0f} s: there are things to remove")
                time.sleep(AGAIN)
            self.waited += time.monotonic() - began


def _later(row: Timing, by: float) -> Timing:
    return Timing(row.step, row.started + by, row.seconds, row.after)


def _lines(on_progress: OnLine | None) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        if on_progress and progress.state == "done":
            on_progress(f"{progress.step} removed after {progress.seconds:.1f} s")
        elif on_progress and progress.state == "started" and progress.step.startswith(GOING):
            on_progress(f"waiting for the {progress.step}")

    return tell


def _delete(remove: Callable[..., Any], id_: str) -> None:
    """Deletes by a call of the SDK, which by itself takes it for done where the cloud answers that there is none."""
    remove(id_, ignore_missing=False)


class _Work:
    """One round: a step for each thing; a step that fails leaves its reason, and the others go on."""

    def __init__(self, cloud: Cloud, mark: Mark, have: Holdings) -> None:
        self.cloud, self.have, self.mark = cloud, have, mark
        self.api = cloud.api
        self.graph = Graph()
        self.guests = Guests(cloud, Mark(mark.run))
        self.reasons: dict[str, str] = {}
        self.began = time.monotonic()
        servers = {server.id: self._server(server) for server in have.servers}
        floating = {f.id: self._floating(f) for f in have.floating_ips}
        ports = {port.id: self._port(port, servers, floating) for port in have.ports}
        for router in have.routers:
            self._router(router.id, ports)
        network_api, compute, images = self.api.network, self.api.compute, self.api.image
        for network in have.networks:
            hanging = [ports[port.id] for port in have.ports if port.network_id == network.id]
            self._thing("network", network, network_api.delete_network, hanging)
        for group in have.security_groups:
            users = [ports[port.id] for port in have.ports if group.id in port.security_groups]
            self._thing("security group", group, network_api.delete_security_group, users)
        for key in have.keypairs:
            self._thing("keypair", key, compute.delete_keypair, [])
        for image in have.images:
            self._thing("image", image, images.delete_image, [])

    def _thing(self, kind: str, item: Any, remove: Callable[..., Any], after: Iterable[str]) -> None:
        self._add(kind, item.name, item.id, lambda: _delete(remove, item.id), after)

    def _add(self, kind: str, name: str, id_: str, action: Callable[[], Any], after: Iterable[str]) -> str:
        def run() -> None:
            try:
                with self.cloud.doing(f"removing {kind} {name}"):
                    action()
            except CloudError as error:
                # somebody else's removal may have come first; if not, it is listed again, and this is told
                said = f"{error.tried}: the cloud says that there is none (HTTP 404), and lists it"
                self.reasons.setdefault(id_, said if error.kind == "missing" else str(error))

        step = f"{kind} {name or id_}"
        if step in self.graph:
            step = f"{step} {id_}"
        return self.graph.add(step, run, after, COST.get(kind, 0.3), waits=kind == GOING)

    def _server(self, server: CloudServer) -> str:
        id_, name = server.id, server.name
        within = BUILDING_SECONDS if server.status == "BUILD" else SERVER_SECONDS

        def gone() -> None:
            # the answer may have been lost, and not the request
            if id_ not in self.reasons or self.guests.going(id_):
                self.guests.wait_gone(name, id_, within)

        asked = self._add("server", name, id_, lambda: _delete(self.api.compute.delete_server, id_), [])
        return self._add(GOING, name, id_, gone, [asked])

    def _floating(self, item: CloudFloatingIP) -> str:
        network = self.api.network

        def away() -> None:
            if Mark(self.mark.run).owns("", item.description, item.tags):
                _delete(network.delete_ip, item.id)
            else:
                # somebody else has led his own to one of the run's ports: it is his to keep
                network.update_ip(item.id, port_id=None)

        return self._add("floating IP", str(item.address), item.id, away, [])

    def _port(self, port: CloudPort, servers: dict[str, str], floating: dict[str, str]) -> str:
        """A server's port after the server; a router's leg after the floating IPs that lead through it.

        A port that is nobody's yet may be that of a server which has just been asked for: taken from under it, the
        server would wait in vain for it to be wired, and could not be removed before it gave up.
        """
        if port.is_leg:
            name = f"{self._router_name(port.device_id)} {', '.join(map(str, port.addresses))}".strip()
            return self._add("leg", name, port.id, lambda: self._detach(port), floating.values())
        leading = [floating[item.id] for item in self.have.floating_ips if item.port_id == port.id]
        users = [step for id_, step in servers.items() if port.device_id in ("", id_)]
        after = [*leading, *users]
        name = port.name or ", ".join(map(str, port.addresses))
        return self._add("port", name, port.id, lambda: self._unplug(port, servers), after)

    def _unplug(self, port: CloudPort, servers: dict[str, str]) -> None:
        if port.of_server and port.device_id not in servers:
            other = self.api.compute.find_server(port.device_id)
            if other is not None:
                raise CloudError(
                    "conflict", f"removing port {port.name or port.id}",
                    f"server {other.name} ({other.id}) is on it, which is not this run's", "remove that first",
                )  # fmt: skip
        _delete(self.api.network.delete_port, port.id)

    def _detach(self, port: CloudPort) -> None:
        router = next((item for item in self.have.routers if item.id == port.device_id), None)
        if router and router.routes:
            self.api.network.update_router(router.id, routes=[])
        self.cloud.remove_leg(port.device_id, port_id=port.id)

    def _router_name(self, id_: str) -> str:
        return next((router.name for router in self.have.routers if router.id == id_), id_)

    def _router(self, id_: str, ports: dict[str, str]) -> str:
        legs = [ports[port.id] for port in self.have.legs(id_)]
        # A floating IP that leads through the router's gateway keeps it from going.
        leading = [step for step in self.graph.names() if step.startswith("floating IP ")]
        name = self._router_name(id_)
        delete = self.api.network.delete_router
        return self._add("router", name, id_, lambda: _delete(delete, id_), [*legs, *leading])
