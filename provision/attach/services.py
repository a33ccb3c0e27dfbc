"""Which VM is the calculator's, and which of its neighbours is sum, sub, mul or div: by what answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol

from provision.attach.project import Project
from provision.attach.role import Place, Role, several
from provision.holdings import CloudNetwork, CloudServer

PORTS = {"sum": 50001, "sub": 50002, "mul": 50003, "div": 50004}
"""Where the lab has its micro-services listen."""

Asked = tuple[IPv4Address, int]


class Looks(Protocol):
    """What is asked of the lab to tell its VMs apart. None of it raises for what the lab does."""

    def answers(self, floating_ip: IPv4Address) -> Sequence[int]:
        """The ports within 50000-50050 that answer the desktop."""

    def serves(self, door: IPv4Address, places: Collection[Asked]) -> Mapping[Asked, str]:
        """Which micro-service answers at each place, asked from the VM that a floating IP leads to."""


def calculator(
    project: Project, network: CloudNetwork, where: str, looks: Looks, named: CloudServer | None
) -> Role[CloudServer]:
    """The VM with a floating IP; of several, the one that answers as a calculator would.

    Args:
        where: the network, in words.
        named: by the submission.
    """
    if named is not None and project.ports(named, network):
        return Role(named, project.told(named, network))
    servers = project.servers_in(network)
    led = [each for each in servers if project.floating_ips(each, network)]
    if not led:
        return Role(
            missing=f"calculator: a VM of {where} with a floating IP was looked for; its VMs are "
            f"{project.told_all(servers, network)}, and no floating IP leads to any"
        )
    if len(led) > 1:
        answering = [
            each
            for each in led
            if any(looks.answers(ip.address) for ip in project.floating_ips(each, network))
        ]
        led = answering or led
    if len(led) > 1:
        return several("the calculator's VM", (project.told(each, network) for each in led), "calculator")
    return Role(led[0], project.told(led[0], network))


@dataclass(frozen=True)
class Micro:
    """The micro-services' VMs, and where each service is."""

    hosts: dict[str, Role[CloudServer]]
    services: dict[str, Place]


def micro(
    project: Project,
    network: CloudNetwork,
    where: str,
    looks: Looks,
    door: IPv4Address | None,
    *,
    named: Mapping[str, CloudServer],
    ports: Mapping[str, int],
    but: CloudServer | None = None,
) -> Micro:
    """Tells the micro-services' VMs apart by who answers; the last one by elimination; else by their addresses' order.

    Args:
        where: the network, in words.
        door: floating IP of the VM that asks; None where none can be entered.
        named: servers by service, as the submission has them.
        ports: services' ports, as the submission has them.
        but: the calculator's VM, where that is in the network too.
    """
    servers = [each for each in project.servers_in(network) if but is None or each.id != but.id]
    at = {each.id: a for each in servers if (a := project.address(each, network))}
    tried = sorted({*PORTS.values(), *(ports[name] for name in PORTS if name in ports)})
    asked = [(at[each.id], port) for each in servers if each.status == "ACTIVE" for port in tried]
    said = looks.serves(door, asked) if door is not None and asked else {}
    serving = {
        name: [(each, port) for each in servers for port in tried if said.get((at[each.id], port)) == name]
        for name in PORTS
    }
    chosen = {name: each for name, each in named.items() if name in PORTS and each.id in at}
    free = [each for each in servers if each.id not in {one.id for one in chosen.values()}]
    chosen |= _matched(serving, [name for name in PORTS if name not in chosen], free)
    told = set(chosen)
    left = [each for each in free if each.id not in {one.id for one in chosen.values()}]
    open_ = [name for name in PORTS if name not in chosen]
    if len(left) == len(open_) == 1 and not serving[open_[0]]:
        told.add(open_[0])
    chosen |= dict(zip(open_, left, strict=False))
    lacking = [name for name in PORTS if name not in chosen]
    why = (
        f"{', '.join(lacking)}: a VM of its own in {where} was looked for, for each of {', '.join(PORTS)}; there are "
        f"{project.told_all(servers, network)}"
    )
    hosts = {
        name: Role(chosen[name], project.told(chosen[name], network), apart=name in told)
        if name in chosen
        else Role[CloudServer](missing=why)
        for name in PORTS
    }
    return Micro(hosts, dict(_places(chosen, told, serving, ports)))


def _places(
    chosen: Mapping[str, CloudServer],
    told: Collection[str],
    serving: Mapping[str, Sequence[tuple[CloudServer, int]]],
    ports: Mapping[str, int],
) -> Iterable[tuple[str, Place]]:
    """Each service on its VM; on another's where it answers there alone."""
    playing: dict[str, str] = {}
    for name, server in chosen.items():
        playing.setdefault(server.id, name)
    for name, usual in PORTS.items():
        own = chosen.get(name)
        there = [(server, port) for server, port in serving[name] if server.id in playing]
        there.sort(
            key=lambda each: (own is None or each[0].id != own.id, each[1] != ports.get(name), each[1])
        )
        if there and (own is None or there[0][0].id == own.id or name not in told):
            server, port = there[0]
            yield name, Place(playing[server.id] if own is None or server.id != own.id else name, port)
        elif own is not None:
            yield name, Place(name, ports.get(name, usual), apart=name in told)


def _matched(
    serving: Mapping[str, Sequence[tuple[CloudServer, int]]],
    names: Sequence[str],
    free: Sequence[CloudServer],
) -> dict[str, CloudServer]:
    """A VM of its own for as many services as can have one where they answer (augmenting paths)."""
    allowed = {each.id for each in free}
    wanted = {
        name: list({server.id: server for server, _ in serving[name] if server.id in allowed}.values())
        for name in names
    }
    holder: dict[str, str] = {}
    servers = {server.id: server for each in wanted.values() for server in each}

    def place(name: str, tried: set[str]) -> bool:
        for server in wanted[name]:
            if server.id in tried:
                continue
            tried.add(server.id)
            if server.id not in holder or place(holder[server.id], tried):
                holder[server.id] = name
                return True
        return False

    for name in names:
        place(name, set())
    return {name: servers[id_] for id_, name in holder.items()}
