"""Puts a topology onto a cloud, and takes it off again.

What the topology asks for is compared with what is there; only the difference becomes steps, run as
concurrently as they depend on one another. Servers are asked for when the ways that lead to them are there: on
a small cloud their boots would take the processors from everything else. Floating IPs and the rest are made
while they boot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from provision.cloud import Cloud, CloudError
from provision.deployment import (
    DeployedHost,
    DeployedNetwork,
    DeployedRouter,
    DeployedSecurityGroup,
    Deployment,
)
from provision.draft import Draft, Refused
from provision.graph import GraphError, Progress, Timing
from provision.holdings import Holdings, holdings
from provision.journal import Journal
from provision.mark import Mark, Whose
from provision.plan import plan, result
from provision.removal import LeftBehind, LeftBehindError, OnLine, Removal, destroy
from provision.topology import Topology
from provision.waiters import WaitCancelled

__all__ = [
    "Deployment",
    "LeftBehind",
    "LeftBehindError",
    "ProvisionError",
    "Removal",
    "apply",
    "destroy",
    "needs",
    "standing",
]

ACTIVE_SECONDS = 300.0


class ProvisionError(Exception):
    """A topology could not be put onto the cloud; one line says which step failed, and why.

    Attributes:
        cause: the cloud's failure, if it was one.
        made: kind, cloud's name and id of what was made before: for the caller to :func:`destroy`.
    """

    def __init__(
        self, message: str, cause: CloudError | None, made: Iterable[tuple[str, str, str]] = ()
    ) -> None:
        self.cause = cause
        self.made = tuple(made)
        super().__init__(message)


def apply(
    cloud: Cloud,
    topology: Topology,
    run: str,
    *,
    key_public: str,
    on_progress: OnLine | None = None,
    concurrency: int = 8,
    journal: Journal | None = None,
    within: float = ACTIVE_SECONDS,
) -> Deployment:
    """Makes what is missing, mends what is not as asked, and changes nothing else.

    Returns when all is made and every server is ACTIVE; its guest may still be booting.

    Args:
        run: small letters and digits; with the topology's name, it names the things.
        key_public: OpenSSH public key for the guests.
        on_progress: called with a line as steps end.
        concurrency: calls at a time, besides those that wait.
        journal: gets what is about to be made, before it is.
        within: seconds that a server has to become ACTIVE.

    Raises:
        CloudError: something that it needs is not on the cloud, or no quota is: nothing was made.
        ProvisionError: a step failed, or what stands cannot be changed into what is asked.
    """
    mark, began = Mark(run, topology.name), time.monotonic()
    have = holdings(cloud, mark)
    draft = Draft(cloud, topology, mark, have, journal)
    try:
        plan(draft, key_public, within)
    except Refused as error:
        raise ProvisionError(f"topology {topology.name}: {error}", None) from error
    looked = Timing("look at what is there", 0.0, time.monotonic() - began)
    if len(draft.graph):
        cloud.check_quota(draft.needs)
        if journal:
            journal.intend_all(draft.intents)
    ready = time.monotonic() - began
    try:
        draft.graph.run(concurrency, _lines(on_progress))
    except GraphError as error:
        raise _failed(draft, error) from error
    made = standing(topology, mark, result(draft))
    return replace(
        made,
        changes=tuple(draft.changes),
        timings=(looked, *_later(draft.graph.timings, ready)),
        path=(looked, *_later(draft.graph.critical_path(), ready)),
        seconds=time.monotonic() - began,
    )


def needs(cloud: Cloud, topology: Topology, run: str) -> dict[str, int]:
    """What a topology takes of the project's quota when nothing of it is there (see :meth:`Cloud.check_quota`).

    Raises:
        CloudError: something that it needs is not on the cloud.
    """
    mark = Mark(run, topology.name)
    draft = Draft(cloud, topology, mark, Holdings(mark.prefix))
    plan(draft, "", ACTIVE_SECONDS)
    return draft.needs


def standing(topology: Topology, mark: Whose, have: Holdings) -> Deployment:
    """The handles of a topology among what there is.

    Raises:
        ProvisionError: a part of it is not there.
    """
    try:
        return Deployment(
            mark=mark,
            networks={n.name: _network(n.name, have) for n in topology.internal_networks},
            routers={r.name: _router(r.name, have) for r in topology.routers},
            security_groups={g.name: _group(g.name, have) for g in topology.security_groups},
            hosts={h.name: _host(h.name, have) for h in topology.hosts},
            keypair=mark.name("key"),
        )
    except LookupError as error:
        raise ProvisionError(f"topology {topology.name}: {error.args[0]}", None) from error


T = TypeVar("T")


def _there(item: T | None, what: str) -> T:
    if item is None:
        raise LookupError(f"the cloud does not list {what}")
    return item


def _network(name: str, have: Holdings) -> DeployedNetwork:
    found = _there(have.network(name), f"network {name}")
    subnet = _there(next(iter(found.subnets), None), f"the subnet of network {name}")
    return DeployedNetwork(found.id, found.name, subnet.id)


def _router(name: str, have: Holdings) -> DeployedRouter:
    found = _there(have.router(name), f"router {name}")
    names = {network.id: network.name.removeprefix(have.prefix) for network in have.networks}
    legs = {names.get(port.network_id, port.network_id): port for port in have.legs(found.id)}
    return DeployedRouter(
        found.id,
        found.name,
        found.external_address,
        {network: port.addresses[0] for network, port in legs.items() if port.addresses},
        {network: port.id for network, port in legs.items()},
    )


def _group(name: str, have: Holdings) -> DeployedSecurityGroup:
    found = _there(have.security_group(name), f"security group {name}")
    return DeployedSecurityGroup(found.id, found.name)


def _host(name: str, have: Holdings) -> DeployedHost:
    server = _there(have.server(name), f"server {name}")
    port = _there(have.host_port(name), f"the port of server {name}")
    floating = have.floating_ip(port.id)
    return DeployedHost(
        name,
        server.name,
        server.id,
        _there(next(iter(port.addresses), None), f"an address of server {name}"),
        floating.address if floating else None,
        floating.id if floating else None,
        port.id,
        port.mac,
    )


def _lines(on_progress: OnLine | None) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        if on_progress and progress.state == "done":
            on_progress(f"{progress.step} after {progress.seconds:.1f} s")

    return tell


def _later(rows: Iterable[Timing], by: float) -> Iterator[Timing]:
    return (Timing(row.step, row.started + by, row.seconds, row.after) for row in rows)


def _failed(draft: Draft, error: GraphError) -> ProvisionError:
    real = {step: cause for step, cause in error.failures.items() if not isinstance(cause, WaitCancelled)}
    for cause in real.values():
        if not isinstance(cause, CloudError):
            # Not the cloud's doing but ours: the trace is worth more than a line.
            raise cause
    failures = [cause for cause in real.values() if isinstance(cause, CloudError)]
    if not failures:
        return ProvisionError(f"topology {draft.topology.name}: the run is being ended", None, draft.made)
    more = f" (and {len(real) - 1} more steps failed)" if len(real) > 1 else ""
    return ProvisionError(f"topology {draft.topology.name}: {failures[0]}{more}", failures[0], draft.made)
