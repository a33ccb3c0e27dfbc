"""Which of a cloud's things a journal speaks of: what a sweeper may remove, and what it must leave alone.

A name alone proves nothing: somebody may have called his own network so. What goes stands in the journal and
carries the run's tag; a keypair, which a cloud lets nobody tag, is known by its name in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

from provision.holdings import CloudFloatingIP, CloudServer, Holdings
from provision.journal import Entry
from provision.mark import MARK, Mark


def claimed(
    have: Holdings, mark: Mark, entries: Iterable[Entry], gone: Callable[[str], bool] = lambda _: False
) -> Holdings:
    """Of what carries a run's name, that which carries its tag and stands in its journal.

    With it go the ports that the cloud makes by itself: those of its servers, its routers' legs, and what is in
    its networks and belongs to nobody. No other's floating IP is among it, though it may lead to one of its ports.

    Args:
        gone: whether there is no longer a server of that id.
    """
    entries = tuple(entries)
    named = {(entry.kind, entry.name) for entry in entries}
    ids = {entry.id for entry in entries if entry.id}

    def ours(kind: str, item: Any) -> bool:
        written = (kind, item.name) in named or item.id in ids
        return written and tagged(mark, item.description, item.tags)

    networks = tuple(item for item in have.networks if ours("network", item))
    routers = tuple(item for item in have.routers if ours("router", item))
    servers = tuple(item for item in have.servers if _server(item, mark, named, ids))
    devices = {item.id for item in routers} | {item.id for item in servers}
    inside = {item.id for item in networks}
    return replace(
        have,
        networks=networks,
        routers=routers,
        servers=servers,
        ports=tuple(
            port
            for port in have.ports
            if ours("port", port)
            or port.device_id in devices
            or (
                port.network_id in inside
                and (not port.device_id or (port.of_server and gone(port.device_id)))
            )
        ),
        floating_ips=tuple(item for item in have.floating_ips if _floating(item, mark, named, ids)),
        security_groups=tuple(item for item in have.security_groups if ours("security group", item)),
        keypairs=tuple(item for item in have.keypairs if ("keypair", item.name) in named),
        images=tuple(
            item
            for item in have.images
            if (("image", item.name) in named or item.id in ids) and item.run == mark.run
        ),
    )


def tagged(mark: Mark, description: str, tags: Collection[str]) -> bool:
    """Whether the run is written on something, besides its name."""
    own = f"{MARK}:{mark.run}"
    return own in tags or description.split()[:1] == [own] or description.startswith(mark.prefix)


def beside(have: Holdings, ours: Holdings) -> list[tuple[str, str, str]]:
    """Kind, name and id of what is in the one and not in the other."""
    known = {id_ for _, _, id_ in ours.things()}
    return [thing for thing in have.things() if thing[2] not in known]


def _server(item: CloudServer, mark: Mark, named: set[tuple[str, str]], ids: set[str]) -> bool:
    written = ("server", item.name) in named or item.id in ids
    return written and item.metadata.get(f"{MARK}_run") == mark.run


def _floating(item: CloudFloatingIP, mark: Mark, named: set[tuple[str, str]], ids: set[str]) -> bool:
    """One has no name: what it was made for is written on it."""
    words = item.description.split()
    name = mark.name("-".join(words[1:])) if words[:1] == [f"{MARK}:{mark.run}"] else item.description
    return (("floating IP", name) in named or item.id in ids) and tagged(mark, item.description, item.tags)
