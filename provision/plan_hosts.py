"""Ports, servers and floating IPs: the steps from what is there to what is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from provision.cloud import CloudError
from provision.draft import Draft, take_away
from provision.guests import Guests
from provision.holdings import CloudPort
from provision.topology import Host


def plan_keypair(draft: Draft, key_public: str) -> None:
    """The key that the servers are entered with."""
    if draft.topology.hosts and not draft.have.keypair("key"):
        api = draft.cloud.api.compute
        draft.make("keypair", "key", lambda name: api.create_keypair(name=name, public_key=key_public))


def plan_ports(draft: Draft, network: str) -> None:
    """The ports of a network's hosts; those that are missing in one call, which costs the cloud less."""
    missing: list[Host] = []
    for host in draft.topology.hosts_of(network):
        found = draft.have.host_port(host.name)
        if found is None:
            missing.append(host)
            draft.need("port")
            draft.intend("port", host.name)
        else:
            _check_port(draft, host, found)
    if missing:
        groups = {name for host in missing for name in host.security_groups}
        draft.step(
            f"ports in {network}",
            lambda: _make_ports(draft, missing),
            cost="ports",
            after=[f"subnet {network}", *(f"security group {name}" for name in sorted(groups))],
            change=f"ports of {', '.join(host.name for host in missing)} made",
        )


def _make_ports(draft: Draft, hosts: list[Host]) -> None:
    made = list(draft.cloud.api.network.create_ports([_port_body(draft, host) for host in hosts]))
    if len(made) != len(hosts):
        raise CloudError("fault", f"making {len(hosts)} ports", f"the cloud's answer tells of {len(made)}")
    for host, port in zip(hosts, made, strict=True):
        draft.note("port", host.name, port)


def _port_body(draft: Draft, host: Host) -> dict[str, Any]:
    fixed = {"subnet_id": draft.ids["subnet", host.network]}
    if host.address:
        fixed["ip_address"] = str(host.address)
    body: dict[str, Any] = {
        "name": draft.mark.name(host.name),
        "description": draft.mark.description(),
        "network_id": draft.ids["network", host.network],
        "fixed_ips": [fixed],
    }
    if host.security_groups:
        body["security_group_ids"] = _group_ids(draft, host)
    return body


def _group_ids(draft: Draft, host: Host) -> list[str]:
    return [draft.ids["security group", name] for name in host.security_groups]


def _check_port(draft: Draft, host: Host, found: CloudPort) -> None:
    draft.ids["port", host.name] = found.id
    network = draft.have.network(host.network)
    if network is None or network.id != found.network_id:
        draft.refuse(f"server {host.name}", "a port in another network", host.network)
    fixed = bool(host.address and host.address not in found.addresses)
    known = all(("security group", name) in draft.ids for name in host.security_groups)
    grouped = not host.security_groups or (
        known and set(_group_ids(draft, host)) == set(found.security_groups)
    )
    if fixed or not grouped:
        what = " and ".join([*(["address"] if fixed else []), *([] if grouped else ["security groups"])])
        draft.step(
            f"port of {host.name}",
            lambda: _set_port(draft, host, found.id, fixed=fixed, grouped=grouped),
            cost="ports",
            after=[f"security group {name}" for name in host.security_groups],
            change=f"server {host.name}: {what} set",
        )


def _set_port(draft: Draft, host: Host, id_: str, *, fixed: bool, grouped: bool) -> None:
    change: dict[str, Any] = {} if grouped else {"security_group_ids": _group_ids(draft, host)}
    if fixed:
        subnet = draft.ids["subnet", host.network]
        change["fixed_ips"] = [{"subnet_id": subnet, "ip_address": str(host.address)}]
    draft.cloud.api.network.update_port(id_, **change)


def plan_server(draft: Draft, host: Host, guests: Guests, within: float, after: Iterable[str] = ()) -> None:
    """The server on its port, ACTIVE.

    Args:
        within: seconds that it has for that.
        after: steps that go first although nothing of the server hangs on them.
    """
    found, step = draft.have.server(host.name), f"server {host.name}"
    flavor = draft.cloud.flavor(host.flavor)
    before = [f"ports in {host.network}", f"port of {host.name}", "keypair key", *after]
    if found is None:
        for quota, amount in (("instances", 1), ("cores", flavor.vcpus), ("ram", flavor.ram)):
            draft.need(quota, amount)
        _make_server(draft, host, before)
    else:
        draft.ids["server", host.name] = found.id
        if found.flavor != flavor.name:
            draft.refuse(step, f"flavor {found.flavor}", flavor.name)
        repair = guests.repair(found, draft.have.host_port(host.name))
        if repair is None:
            return
        what, action = repair
        draft.step(step, action, cost="server", after=before, change=f"{step}: {what}")
    draft.step(
        f"{step} ACTIVE",
        lambda: guests.wait_active(host.name, draft.ids["server", host.name], within),
        cost="server",
        after=[step],
        waits=True,
    )


def _make_server(draft: Draft, host: Host, after: Iterable[str]) -> None:
    image, flavor = draft.cloud.image(host.image), draft.cloud.flavor(host.flavor)
    extra: dict[str, Any] = {"config_drive": True} if draft.cloud.lab.config_drive else {}
    draft.make(
        "server",
        host.name,
        lambda name: draft.cloud.api.compute.create_server(
            name=name,
            image_id=image.id,
            flavor_id=flavor.id,
            networks=[{"port": draft.ids["port", host.name]}],
            key_name=draft.mark.name("key"),
            metadata=draft.mark.metadata,
            **extra,
        ),
        after=after,
    )


def plan_floating_ip(draft: Draft, host: Host) -> None:
    """The floating IP that leads to the host, or none."""
    port = draft.have.host_port(host.name)
    found = draft.have.floating_ip(port.id) if port else None
    asked, api = host.floating_ip, draft.cloud.api.network
    if found and asked and (asked is True or asked == found.address):
        return
    removal = f"floating IP of {host.name} to take away"
    mine = draft.mark.description(host.name)
    if found:
        # One that somebody else led here is theirs to keep.
        away = (
            partial(take_away, remove=api.delete_ip, find=api.find_ip)
            if found.description == mine
            else partial(api.update_ip, port_id=None)
        )
        draft.step(
            removal,
            lambda: away(found.id),
            cost="floating IP",
            change=f"server {host.name}: floating IP {found.address} taken away",
        )
    if not asked:
        return
    after = [f"ports in {host.network}", removal, *_way_out(draft, host.network)]
    spare = next((f for f in draft.have.floating_ips if f.description == mine and not f.port_id), None)
    if spare and (asked is True or asked == spare.address):
        draft.step(
            f"floating IP {host.name}",
            lambda: api.update_ip(spare.id, port_id=draft.ids["port", host.name]),
            cost="floating IP",
            after=after,
            change=f"server {host.name}: floating IP {spare.address} given back",
        )
        return
    extra = {} if asked is True else {"floating_ip_address": str(asked)}
    draft.make(
        "floating IP",
        host.name,
        lambda _: api.create_ip(
            floating_network_id=draft.cloud.external_network(),
            port_id=draft.ids["port", host.name],
            description=mine,
            **extra,
        ),
        after=after,
        quota="floatingip",
    )


def _way_out(draft: Draft, network: str) -> Iterator[str]:
    """The steps before a floating IP can lead into a network: a leg there of a router on the external one."""
    for router in draft.topology.routers_of(network):
        if router.external:
            yield f"router {router.name}"
            yield f"leg of {router.name} in {network}"
            yield f"external gateway of {router.name}"
