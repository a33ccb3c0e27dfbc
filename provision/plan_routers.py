"""Routers, their external gateways and their legs: the steps from what is there to what is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Any

from provision.draft import Draft, Refused
from provision.holdings import CloudPort
from provision.topology import Leg, Router


def plan_router(draft: Draft, router: Router) -> None:
    """The router with exactly the legs asked for."""
    found, api = draft.have.router(router.name), draft.cloud.api.network
    outside = {"network_id": draft.cloud.external_network()} if router.external else {}
    if found is None:
        draft.untagged.append(("router", router.name))
        extra: dict[str, Any] = {"external_gateway_info": outside} if outside else {}
        draft.make(
            "router",
            router.name,
            lambda name: api.create_router(name=name, description=draft.mark.description(), **extra),
            quota="router",
        )
    else:
        draft.found("router", router.name, found)
        if found.external_id != outside.get("network_id"):
            draft.step(
                f"external gateway of {router.name}",
                lambda: api.update_router(found.id, external_gateway_info=outside),
                cost="router",
                change=f"router {router.name}: external gateway {'set' if outside else 'removed'}",
            )
    there = draft.have.legs(found.id) if found else ()
    kept = {id_ for leg in router.legs if (id_ := _standing(draft, leg, there))}
    removals = [_remove_leg(draft, router, port) for port in there if port.id not in kept]
    for leg in router.legs:
        if not _standing(draft, leg, there):
            _plan_leg(draft, router, leg, removals)


def _address(draft: Draft, leg: Leg) -> IPv4Address:
    address = leg.address or draft.topology.network(leg.network).gateway
    if address is None:
        raise Refused(f"a router's leg in {leg.network} has no address, and the network no gateway")
    return address


def _standing(draft: Draft, leg: Leg, ports: Iterable[CloudPort]) -> str | None:
    """Id of the port that is the leg already."""
    network, address = draft.have.network(leg.network), _address(draft, leg)
    return next(
        (p.id for p in ports if network and p.network_id == network.id and address in p.addresses), None
    )


def _plan_leg(draft: Draft, router: Router, leg: Leg, removals: Iterable[str]) -> None:
    draft.need("port")
    if not leg.gateway:
        draft.intend("port", f"{router.name}-{leg.network}")
    draft.intend("leg", f"{router.name}-{leg.network}")

    def make() -> None:
        _make_leg(draft, router, leg)
        draft.goes_with("leg", f"{router.name}-{leg.network}", draft.ids["router", router.name])

    draft.step(
        f"leg of {router.name} in {leg.network}",
        make,
        cost="leg",
        # two who take addresses of one subnet at a time cost neutron more than one after the other
        after=[f"router {router.name}", f"subnet {leg.network}", f"ports in {leg.network}", *removals],
        change=f"router {router.name}: leg in {leg.network} at {_address(draft, leg)} made",
    )


def _make_leg(draft: Draft, router: Router, leg: Leg) -> None:
    """A gateway's leg is made from its subnet; any other needs a port of its own, with its address."""
    api, name = draft.cloud.api.network, f"{router.name}-{leg.network}"
    router_id, subnet_id = draft.ids["router", router.name], draft.ids["subnet", leg.network]
    if leg.gateway:
        draft.cloud.add_leg(router_id, subnet_id=subnet_id)
        return
    # A port of that name is left of a leg that was detached.
    left = next((p for p in draft.have.ports if p.name == draft.mark.name(name) and not p.device_id), None)
    if left and _address(draft, leg) in left.addresses:
        draft.cloud.add_leg(router_id, port_id=left.id)
        return
    port = api.create_port(
        name=draft.mark.name(name),
        description=draft.mark.description(),
        network_id=draft.ids["network", leg.network],
        fixed_ips=[{"subnet_id": subnet_id, "ip_address": str(_address(draft, leg))}],
    )
    draft.note("port", name, port)
    draft.cloud.add_leg(router_id, port_id=port.id)


def _remove_leg(draft: Draft, router: Router, port: CloudPort) -> str:
    names = {network.id: network.name.removeprefix(draft.mark.prefix) for network in draft.have.networks}
    where, at = names.get(port.network_id, port.network_id), ", ".join(map(str, port.addresses))
    step = f"leg of {router.name} in {where} at {at} to remove"
    draft.step(
        step,
        lambda: draft.cloud.remove_leg(port.device_id, port_id=port.id),
        cost="leg",
        change=f"router {router.name}: leg in {where} at {at} removed",
    )
    return step
