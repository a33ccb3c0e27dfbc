"""Finds two networks and the two routers that join them, by structure: a best fit, so that a broken lab is found too.

The first router has the external gateway and a leg in front; the second has a leg in front and one in back and is meant to
have no gateway. Whichever assignment has most of that, and of what belongs to it, is the one: what is wrong with
it is for the checks to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import TypeVar

from provision.attach.project import Project
from provision.attach.role import Role, several
from provision.holdings import CloudNetwork, CloudRouter, CloudServer

MICRO = ("sum", "sub", "mul", "div")
NAMED = 20


@dataclass(frozen=True)
class Frame:
    """The networks and the routers between them."""

    front: Role[CloudNetwork]
    back: Role[CloudNetwork]
    first: Role[CloudRouter]
    second: Role[CloudRouter]


@dataclass(frozen=True)
class _Fit:
    score: int
    front: CloudNetwork
    back: CloudNetwork
    first: CloudRouter | None
    second: CloudRouter | None


def frame(
    project: Project,
    networks: Mapping[str, CloudNetwork],
    routers: Mapping[str, CloudRouter],
    servers: Mapping[str, CloudServer],
) -> Frame:
    """The best fit; parts that differ among equally good ones are ambiguous.

    Args:
        networks: those that the submission names, by role; ``routers`` and ``servers`` likewise.
    """
    fits = list(_fits(project, networks, routers, servers))
    if not fits:
        return _none(project)
    best = [fit for fit in fits if fit.score == max(each.score for each in fits)]
    front = _agreed(project, "the front network", "front", [fit.front for fit in best])
    back = _agreed(project, "the back network", "back", [fit.back for fit in best])
    between = f"front {project.told(best[0].front)} and back {project.told(best[0].back)}"
    first = _agreed(
        project, "the first router", "first_router", [fit.first for fit in best],
        f"first router: a router with an external gateway and a leg in front {project.told(best[0].front)} was looked "
        f"for; there are {project.told_all(project.have.routers)}",
    )  # fmt: skip
    second = _agreed(
        project, "the second router", "second_router", [fit.second for fit in best],
        f"second router: a router of its own that joins {between} was looked for; there are "
        f"{project.told_all(project.have.routers)}",
    )  # fmt: skip
    return Frame(front, back, first, second)


N = TypeVar("N", CloudNetwork, CloudRouter)


def _agreed(project: Project, what: str, key: str, found: list[N | None], missing: str = "") -> Role[N]:
    things = {each.id: each for each in found if each is not None}
    if not things:
        return Role(missing=missing)
    if len(things) > 1:
        return several(what, map(project.told, things.values()), key)
    (thing,) = things.values()
    return Role(thing, project.told(thing))


def _none(project: Project) -> Frame:
    why = (
        "two networks: a front network with a router to the public one, and a back network that a second router joins "
        f"to it, were looked for; there are the networks {project.told_all(project.networks)} and the routers "
        f"{project.told_all(project.have.routers)}"
    )
    return Frame(Role(missing=why), Role(missing=why), Role(missing=why), Role(missing=why))


def _fits(
    project: Project,
    networks: Mapping[str, CloudNetwork],
    routers: Mapping[str, CloudRouter],
    servers: Mapping[str, CloudServer],
) -> Iterator[_Fit]:
    options: tuple[CloudRouter | None, ...] = (*project.have.routers, None)
    firsts = (routers["first_router"],) if "first_router" in routers else options
    seconds = (routers["second_router"],) if "second_router" in routers else options
    for front, back in permutations(project.networks, 2):
        if networks.get("front", front) is not front or networks.get("back", back) is not back:
            continue
        pair = _Pair(project, front, back)
        beside = pair.score() + NAMED * _named_servers(project, front, back, servers)
        one = {each.id if each else "": pair.first(each) for each in firsts}
        two = {each.id if each else "": pair.second(each) for each in seconds}
        given = {"front", "back"} <= networks.keys()
        for first in firsts:
            for second in seconds:
                if first is second and first is not None:
                    continue
                if second is not None and "second_router" not in routers and not any(pair.legs[second.id]):
                    continue
                if given or pair.joined(first, second):
                    total = beside + one[first.id if first else ""] + two[second.id if second else ""]
                    yield _Fit(total, front, back, first, second)


def _named_servers(
    project: Project, front: CloudNetwork, back: CloudNetwork, servers: Mapping[str, CloudServer]
) -> int:
    """How many of the servers that the submission names are in the network of their part."""
    inside = {"calculator": front, **dict.fromkeys(MICRO, back)}
    return sum(
        bool(project.ports(servers[name], network)) for name, network in inside.items() if name in servers
    )


class _Pair:
    """How well routers fit between two networks; a sign that is hard to get wrong counts for more than a setting."""

    def __init__(self, project: Project, front: CloudNetwork, back: CloudNetwork) -> None:
        self.project = project
        self.front, self.back = front, back
        self.front_gateway = project.subnet(front).gateway
        self.back_gateway = project.subnet(back).gateway
        self.legs = {
            router.id: (set(project.legs(router, front)), set(project.legs(router, back)))
            for router in project.have.routers
        }
        self.elsewhere = {
            router.id
            for router in project.have.routers
            if any(
                project.legs(router, network)
                for network in project.networks
                if network is not front and network is not back
            )
        }
        self.inside = len(project.servers_in(back))
        self.led_in_front = self._is_led_into(front)
        self.led_in_back = self._is_led_into(back)
        self.back_is_apart = not any(back for _, back in self.legs.values())

    def _is_led_into(self, network: CloudNetwork) -> bool:
        servers = self.project.servers_in(network)
        return any(self.project.floating_ips(server, network) for server in servers)

    def score(self) -> int:
        """Of the networks themselves: floating IPs lead to front alone, and the services are in back."""
        return 3 * self.led_in_front + (not self.led_in_back) + min(self.inside, 4)

    def first(self, router: CloudRouter | None) -> int:
        if router is None:
            return -3
        front, back = self.legs[router.id]
        outside = 4 if router.external_id == self.project.external else 3 if router.external_id else 0
        astray = 2 * (not front and router.id in self.elsewhere)
        return outside + 4 * bool(front) + (not back) + (self.front_gateway in front) - astray

    def second(self, router: CloudRouter | None) -> int:
        if router is None:
            return 0
        front, back = self.legs[router.id]
        kept = 2 * (not router.external_id) + (self.front_gateway not in front)
        # a router between other networks is none that lost a leg here
        astray = 2 * (router.id in self.elsewhere and not (front and back))
        return 4 * bool(front) + 4 * bool(back) + kept + (self.back_gateway in back) - astray

    def joined(self, first: CloudRouter | None, second: CloudRouter | None) -> bool:
        """Whether it looks as if somebody meant to join the two: else they are two networks that are there, no more."""
        if second is not None:
            front, back = self.legs[second.id]
            if front and back:
                return True
            if second.external_id:
                return False
            lost = self.back_is_apart or (first is not None and bool(self.legs[first.id][1]))
            return bool(back) or (bool(front) and bool(self.inside) and lost)
        if first is None:
            return False
        front, back = self.legs[first.id]
        return bool(front) and (bool(back) or (bool(self.inside) and self.back_is_apart))
