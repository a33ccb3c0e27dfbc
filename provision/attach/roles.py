"""Who plays which part in a project that somebody has built: by structure and by what answers, never by name.

Names, CIDRs, and what else is in the project, do not matter. What the submission names is taken as named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, TypeVar

from provision.attach.project import Project, Thing
from provision.attach.role import Arrangement, Place, Role, several
from provision.attach.services import Looks, calculator, micro
from provision.attach.two_networks import Frame, frame
from provision.holdings import CloudNetwork, CloudRouter, CloudServer, Holdings

T = TypeVar("T")

ONE_NETWORK = {"sum": "plus", "sub": "minus", "mul": "times", "div": "divide"}
"""The hosts of labs/topologies/two-tier.json, by the service that they are for."""
LEAST = 5


@dataclass(frozen=True)
class Roles:
    """The topologies' parts."""

    two_networks: Arrangement
    two_tier: Arrangement
    one_vm: Arrangement

    def arrangement(self, topology: str) -> Arrangement:
        """The parts of a topology, by its document's name."""
        return {each.topology: each for each in (self.two_networks, self.two_tier, self.one_vm)}[topology]

    def described(self) -> dict[str, str]:
        """Every part, and what plays it, in words; those of one network where that is there or two are not."""
        told = {"vm": str(self.one_vm.hosts["vm"])}
        told |= {name: str(role) for name, role in self.two_networks.roles()}
        if self.two_tier.there or not self.two_networks.there:
            told |= {f"one network: {each}": str(role) for each, role in _plainly(self.two_tier)}
        return told


def _plainly(arrangement: Arrangement) -> Iterator[tuple[str, Role[Any]]]:
    """Without the word that run files take for a secret's."""
    return ((name.replace("private", "network"), role) for name, role in arrangement.roles())


@dataclass
class _Named:
    """What the submission names, as it is found; a name that means nothing, or several things, is a problem."""

    networks: dict[str, CloudNetwork] = field(default_factory=dict)
    routers: dict[str, CloudRouter] = field(default_factory=dict)
    servers: dict[str, CloudServer] = field(default_factory=dict)
    problems: dict[str, Role[CloudServer]] = field(default_factory=dict)


def find(
    have: Holdings,
    external: str,
    looks: Looks,
    named: Mapping[str, str] | None = None,
    ports: Mapping[str, int] | None = None,
) -> Roles:
    """Finds all parts.

    Args:
        have: everything of the project.
        external: id of the lab's external network.
        looks: asks the lab what answers where.
        named: role -> name or id, by the submission; they override what is found.
        ports: service -> port, by the submission.
    """
    project, ports = Project(have, external), ports or {}
    given = _named(project, named or {})
    between = frame(project, given.networks, given.routers, given.servers)
    two = _two_networks(project, between, looks, given, ports)
    joined = two.there and between.front.thing and between.back.thing
    taken = {between.front.thing.id, between.back.thing.id} if joined else set()  # type: ignore[union-attr]
    one_network = _two_tier(project, taken, looks, given, ports)
    others = [two, one_network]
    return Roles(two, one_network, _one_vm(project, given, others))


def _named(project: Project, names: Mapping[str, str]) -> _Named:
    found, have = _Named(), project.have
    for role, given in names.items():
        network = role in ("front", "back")
        router = role in ("first_router", "second_router")
        things: tuple[Thing, ...] = project.networks if network else have.routers if router else have.servers
        meant = [each for each in things if each.id == given] or [e for e in things if e.name == given]
        kind = "network" if network else "router" if router else "VM"
        if len(meant) == 1:
            (thing,) = meant
            into: dict[str, Thing] = (
                found.networks if network else found.routers if router else found.servers  # type: ignore[assignment]
            )
            into[role] = thing
        elif meant:
            ids = ", ".join(sorted(each.id for each in meant))
            found.problems[role] = Role(
                ambiguous=f"[roles] {role} = {given!r}: {len(meant)} {kind}s are named so; write the id of one: {ids}"
            )
        else:
            found.problems[role] = Role(
                missing=f"[roles] {role} = {given!r}: the project has no {kind} of that name or id; it has "
                f"{project.told_all(things)}"
            )
    return found


def _two_networks(
    project: Project, between: Frame, looks: Looks, given: _Named, ports: Mapping[str, int]
) -> Arrangement:
    networks = {"front": between.front, "back": between.back}
    routers = {"RT1": between.first, "RT2": between.second}
    for key, role in {"front": "front", "back": "back"}.items():
        networks[key] = _or_problem(given, role, networks[key])
    for key, role in {"RT1": "first_router", "RT2": "second_router"}.items():
        routers[key] = _or_problem(given, role, routers[key])
    front, back = networks["front"].thing, networks["back"].thing
    hosts: dict[str, Role[CloudServer]] = {}
    services: dict[str, Place] = {}
    if front is not None:
        where = f"the front network {project.told(front)}"
        hosts["calculator"] = calculator(project, front, where, looks, given.servers.get("calculator"))
    else:
        hosts["calculator"] = _without(networks["front"])
    door = _door(project, hosts["calculator"], front)
    if back is not None:
        where = f"the back network {project.told(back)}"
        made = micro(project, back, where, looks, door, named=given.servers, ports=ports)
        hosts |= made.hosts
        services |= made.services
    else:
        hosts |= dict.fromkeys(ONE_NETWORK, _without(networks["back"]))
    hosts = {name: _or_problem(given, name, role) for name, role in hosts.items()}
    services |= _calculators_place(project, hosts["calculator"], front, looks, ports)
    return Arrangement("two-networks", networks, routers, hosts, services)


def _two_tier(
    project: Project, taken: set[str], looks: Looks, given: _Named, ports: Mapping[str, int]
) -> Arrangement:
    fitting = [
        each
        for each in project.networks
        if each.id not in taken
        and project.gateway_router(each)
        and len(project.servers_in(each)) >= LEAST
        and any(project.floating_ips(server, each) for server in project.servers_in(each))
    ]
    fitting = [each for each in fitting if _holds(project, each, given, "calculator")] or fitting
    network: Role[CloudNetwork]
    if not fitting:
        others = [each for each in project.networks if each.id not in taken]
        counts = ", ".join(
            sorted(f"{project.told(each)}: {len(project.servers_in(each))} VMs" for each in others)
        )
        network = Role(
            missing=f"five VMs on one network: a network with a router to the public one, {LEAST} VMs and a floating "
            f"IP was looked for; there are {counts or 'no networks'}"
        )
    elif len(fitting) > 1:
        network = several("the network of five VMs", map(project.told, fitting), "calculator")
    else:
        network = Role(fitting[0], project.told(fitting[0]))
    hosts: dict[str, Role[CloudServer]]
    services: dict[str, Place] = {}
    if network.thing is None:
        hosts = dict.fromkeys(("calculator", *ONE_NETWORK.values()), _without(network))
        router: Role[CloudRouter] = Role(missing=network.missing, ambiguous=network.ambiguous)
        return Arrangement("two-tier", {"private": network}, {"router": router}, hosts, {})
    at = network.thing
    where = f"network {project.told(at)}"
    head = calculator(project, at, where, looks, given.servers.get("calculator"))
    made = micro(
        project, at, where, looks, _door(project, head, at), named=given.servers, ports=ports, but=head.thing
    )
    hosts = {"calculator": head} | {ONE_NETWORK[name]: role for name, role in made.hosts.items()}
    services = {
        name: Place(ONE_NETWORK[each.host], each.port, each.apart) for name, each in made.services.items()
    }
    services |= _calculators_place(project, head, at, looks, ports)
    gateway = project.gateway_router(at)
    router = Role(gateway, project.told(gateway)) if gateway else Role(missing=f"router of {where}")
    return Arrangement("two-tier", {"private": network}, {"router": router}, hosts, services)


def _one_vm(project: Project, given: _Named, others: Iterable[Arrangement]) -> Arrangement:
    """One VM with a floating IP behind a router: one that has no other part, else a calculator's."""
    entered = [
        (server, network)
        for network in project.networks
        if project.gateway_router(network)
        for server in project.servers_in(network)
        if project.floating_ips(server, network)
    ]
    calculators = [each.hosts["calculator"].thing for each in others if each.hosts["calculator"].thing]
    busy = {role.thing.id for each in others for role in each.hosts.values() if role.thing}
    named = given.servers.get("vm")
    if named is not None:
        entered = [each for each in entered if each[0].id == named.id] or [
            (named, network) for network in project.networks if project.ports(named, network)
        ][:1]
    else:
        idle = [each for each in entered if each[0].id not in busy]
        of_calculators = [each for head in calculators for each in entered if head and each[0].id == head.id][
            :1
        ]
        entered = idle or of_calculators or entered
    opened = [
        (server, network)
        for server, network in entered
        if project.lets_in(server, network, "icmp") and project.lets_in(server, network, "tcp", 22)
    ]
    entered = opened if len(entered) > 1 and opened else entered
    vm: Role[CloudServer]
    if not entered:
        vm = Role(
            missing="vm: a VM with a floating IP, on a network with a router to the public one, was looked for; the "
            f"project's VMs are {project.told_all(project.have.servers)}"
        )
    elif len({server.id for server, _ in entered}) > 1:
        vm = several("the one VM", {project.told(server, network) for server, network in entered}, "vm")
    else:
        vm = Role(entered[0][0], project.told(*entered[0]))
    vm = _or_problem(given, "vm", vm)
    at = entered[0][1] if vm.thing and entered else None
    gateway = project.gateway_router(at) if at else None
    why = f"router: one with an external gateway and a leg in {project.told(at)} was looked for" if at else ""
    private: Role[CloudNetwork] = (
        Role(at, project.told(at)) if at else Role(missing=vm.missing, ambiguous=vm.ambiguous)
    )
    router: Role[CloudRouter] = (
        Role(gateway, project.told(gateway))
        if gateway
        else Role(missing=why or vm.missing, ambiguous="" if why else vm.ambiguous)
    )
    return Arrangement("operations", {"private": private}, {"RT1": router}, {"vm": vm}, {})


def _or_problem(given: _Named, role: str, found: Role[T]) -> Role[T]:
    problem = given.problems.get(role)
    return Role(missing=problem.missing, ambiguous=problem.ambiguous) if problem else found


def _without(network: Role[CloudNetwork]) -> Role[CloudServer]:
    """A VM of a network that is not there, or cannot be told."""
    return Role(missing=network.missing, ambiguous=network.ambiguous)


def _holds(project: Project, network: CloudNetwork, given: _Named, role: str) -> bool:
    return role in given.servers and bool(project.ports(given.servers[role], network))


def _door(project: Project, head: Role[CloudServer], network: CloudNetwork | None) -> IPv4Address | None:
    if head.thing is None or network is None:
        return None
    ips = project.floating_ips(head.thing, network)
    return ips[0].address if ips else None


def _calculators_place(
    project: Project,
    head: Role[CloudServer],
    network: CloudNetwork | None,
    looks: Looks,
    ports: Mapping[str, int],
) -> dict[str, Place]:
    """The calculator's port: as the submission has it, else the first that answers the desktop."""
    if head.thing is None or network is None:
        return {}
    if "calculator" in ports:
        return {"calculator": Place("calculator", ports["calculator"])}
    ips = project.floating_ips(head.thing, network)
    answering = next((port for ip in ips for port in looks.answers(ip.address)), 50000)
    return {"calculator": Place("calculator", answering)}
