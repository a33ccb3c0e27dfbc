"""Faults of objective 6 and 8: one VM, its router, floating IP and security group; the client and the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from probes.host import Host
from probes.reach import Probe, ping, tcp
from tests.faults.fault import fault
from tests.faults.scopes import API, ONE_VM, RULES
from tests.faults.world import World

SSH = 22
INSIDE = "OS-02 OS-04 OS-08"
IGNORE = "sudo sysctl -qw net.ipv4.icmp_echo_ignore_all"


def _door(world: World) -> tuple[Probe, Probe]:
    """Ping and SSH at the floating IP of `vm`."""
    address = world.standing("operations").floating_ip("vm")
    return ping(world.desktop, address), tcp(world.desktop, address, SSH)


def _vm(world: World) -> Host:
    return world.standing("operations").hosts["vm"]


def _group(world: World, topology: str, group: str) -> str:
    return str(world.standing(topology).deployment.security_groups[group].id)


@contextmanager
def rule_removed(world: World, topology: str, group: str, which: Callable[[Any], bool]) -> Iterator[Any]:
    """Takes a rule out of a security group, and puts it back."""
    group_id = _group(world, topology, group)
    rules = world.network.security_group_rules(security_group_id=group_id, direction="ingress")
    rule = next(each for each in rules if which(each))
    world.network.delete_security_group_rule(rule.id)
    try:
        yield rule
    finally:
        remote = {"remote_group_id": rule.remote_group_id} if rule.remote_group_id else {}
        remote |= {"remote_ip_prefix": rule.remote_ip_prefix} if rule.remote_ip_prefix else {}
        world.network.create_security_group_rule(
            security_group_id=group_id, direction="ingress", ether_type=rule.ether_type, protocol=rule.protocol,
            port_range_min=rule.port_range_min, port_range_max=rule.port_range_max, **remote,
        )  # fmt: skip


@contextmanager
def rule_added(world: World, topology: str, group: str, **rule: Any) -> Iterator[None]:
    """Puts a rule into a security group, and takes it out again."""
    asked: dict[str, Any] = {"direction": "ingress", "ether_type": "IPv4", **rule}
    made = world.network.create_security_group_rule(security_group_id=_group(world, topology, group), **asked)
    try:
        yield
    finally:
        world.network.delete_security_group_rule(made.id)


def of_protocol(protocol: str) -> Callable[[Any], bool]:
    return lambda rule: rule.protocol == protocol


def for_ssh(rule: Any) -> bool:
    return bool(rule.protocol == "tcp" and rule.port_range_min == SSH)


@fault(
    "vm-stopped", "The VM was stopped and nobody started it again", ONE_VM,
    red="OS-07 OS-11", open_=f"{INSIDE} OS-05", words="SHUTOFF", everyday=True,
)  # fmt: skip
def vm_stopped(world: World) -> Iterator[None]:
    with world.stopped("operations", "vm"):
        yield


@fault(
    "icmp-rule-missing", "The security group's rule for ICMP was forgotten", ONE_VM,
    red="OS-07 OS-10 OS-11", open_="OS-05", words="icmp", everyday=True, control="ping",
)  # fmt: skip
def icmp_rule_missing(world: World) -> Iterator[None]:
    pinged, _ = _door(world)
    with rule_removed(world, "operations", "lab", of_protocol("icmp")):
        world.has_effect(pinged, reached=False)
        yield
    world.has_effect(pinged, reached=True)


@fault(
    "ssh-rule-missing", "The security group's rule for SSH was forgotten", ONE_VM,
    red="OS-10 OS-11", open_=f"{INSIDE} OS-05", words="tcp",
)  # fmt: skip
def ssh_rule_missing(world: World) -> Iterator[None]:
    _, ssh = _door(world)
    with rule_removed(world, "operations", "lab", for_ssh):
        world.has_effect(ssh, reached=False)
        yield
    world.has_effect(ssh, reached=True)


@fault(
    "icmp-rule-for-output", "The rule for ICMP was made for output in place of input", ONE_VM,
    red="OS-07 OS-10 OS-11", open_="OS-05", words="egress",
)  # fmt: skip
def icmp_rule_for_output(world: World) -> Iterator[None]:
    pinged, _ = _door(world)
    with (
        rule_added(world, "operations", "lab", direction="egress", protocol="icmp"),
        rule_removed(world, "operations", "lab", of_protocol("icmp")),
    ):
        world.has_effect(pinged, reached=False)
        yield
    world.has_effect(pinged, reached=True)


@fault(
    "ssh-rule-typo", "The rule for SSH has a typo in the port: 2222 for 22", ONE_VM,
    red="OS-10 OS-11", open_=f"{INSIDE} OS-05", words="2222",
)  # fmt: skip
def ssh_rule_typo(world: World) -> Iterator[None]:
    _, ssh = _door(world)
    with (
        rule_added(world, "operations", "lab", protocol="tcp", port_range_min=2222, port_range_max=2222),
        rule_removed(world, "operations", "lab", for_ssh),
    ):
        world.has_effect(ssh, reached=False)
        yield
    world.has_effect(ssh, reached=True)


@fault(
    "everything-let-in", "A rule lets every TCP port in, to have peace", ONE_VM,
    red="OS-10 OS-11", words="ingress IPv4 tcp from anywhere",
)  # fmt: skip
def everything_let_in(world: World) -> Iterator[None]:
    with rule_added(world, "operations", "lab", protocol="tcp", port_range_min=1, port_range_max=65535):
        yield


@fault(
    "no-group-on-the-port", "The VM was launched without the lab's security group", ONE_VM,
    red="OS-07", open_=f"{INSIDE} OS-05 OS-11", words="security group",
)  # fmt: skip
def no_group_on_the_port(world: World) -> Iterator[None]:
    pinged, ssh = _door(world)
    standing = world.standing("operations")
    port = standing.deployment.hosts["vm"].port_id
    groups = world.network.get_port(port).security_group_ids
    world.network.update_port(port, security_groups=[_group(world, "operations", "closed")])
    try:
        world.has_effect(pinged, reached=False)
        yield
    finally:
        world.network.update_port(port, security_groups=groups)
    world.has_effect(ssh, reached=True)


@fault(
    "floating-ip-disassociated", "The floating IP was allocated, but not associated", ONE_VM,
    red="OS-07 OS-11", open_=f"{INSIDE} OS-05", words="floating IP", everyday=True,
)  # fmt: skip
def floating_ip_disassociated(world: World) -> Iterator[None]:
    pinged, _ = _door(world)
    host = world.standing("operations").deployment.hosts["vm"]
    world.network.update_ip(host.floating_ip_id, port_id=None)
    yield
    world.network.update_ip(host.floating_ip_id, port_id=host.port_id)
    world.has_effect(pinged, reached=True)


@fault(
    "floating-ip-on-the-wrong-vm", "The floating IP was associated with another VM", ONE_VM,
    red="OS-07 OS-11", open_=f"{INSIDE} OS-05", words="guarded",
)  # fmt: skip
def floating_ip_on_the_wrong_vm(world: World) -> Iterator[None]:
    pinged, _ = _door(world)
    hosts = world.standing("operations").deployment.hosts
    vm, other = hosts["vm"], hosts["guarded"]
    world.network.update_ip(other.floating_ip_id, port_id=None)
    world.network.update_ip(vm.floating_ip_id, port_id=other.port_id)
    world.has_effect(pinged, reached=False)
    yield
    world.network.update_ip(vm.floating_ip_id, port_id=vm.port_id)
    world.network.update_ip(other.floating_ip_id, port_id=other.port_id)
    world.has_effect(pinged, reached=True)


@fault(
    "sshd-stopped", "The VM's SSH server is not running", ONE_VM,
    open_=f"{INSIDE} OS-05", words="Connection refused", everyday=True, control="tcp",
)  # fmt: skip
def sshd_stopped(world: World) -> Iterator[None]:
    with world.changed(_vm(world), "sudo service ssh stop", "sudo service ssh start"):
        yield


@fault(
    "key-not-accepted", "The VM does not accept the key: authorized_keys is not the owner's", ONE_VM,
    open_=INSIDE, words="Authentication failed",
)  # fmt: skip
def key_not_accepted(world: World) -> Iterator[None]:
    keys = "~/.ssh/authorized_keys"
    with world.changed(_vm(world), f"mv {keys} {keys}.away", f"mv {keys}.away {keys}"):
        yield


@fault(
    "router-down", "The router was set administratively down", ONE_VM,
    red="OS-07", open_=f"{INSIDE} OS-05", words="router",
)  # fmt: skip
def router_down(world: World) -> Iterator[None]:
    router = world.standing("operations").deployment.routers["RT1"].id
    with world.switched_off(world.network.update_router, router, _door(world)[0]):
        yield


@fault(
    "port-down", "The VM's port was set administratively down", ONE_VM,
    red="OS-07", open_=f"{INSIDE} OS-05", words="port",
)  # fmt: skip
def port_down(world: World) -> Iterator[None]:
    port = world.standing("operations").deployment.hosts["vm"].port_id
    with world.switched_off(world.network.update_port, port, _door(world)[0]):
        yield


@fault(
    "guest-drops-ping", "A firewall in the VM drops ping without an answer", ONE_VM,
    red="OS-07", open_="OS-05", words="was seen at vm's side of private",
)  # fmt: skip
def guest_drops_ping(world: World) -> Iterator[None]:
    with world.changed(_vm(world), f"{IGNORE}=1", f"{IGNORE}=0"):
        yield


@fault(
    "mtu-too-small", "The VM's link carries packets of 600 bytes and says nothing of the larger ones", ONE_VM,
    open_=INSIDE, words="broke off",
)  # fmt: skip
def mtu_too_small(world: World) -> Iterator[None]:
    link = f"tap{world.standing('operations').deployment.hosts['vm'].port_id[:11]}"
    world.inside("ip", "link", "set", link, "mtu", "600")
    yield
    world.inside("ip", "link", "set", link, "mtu", "1450")


@fault(
    "outbound-dropped", "Something on the way out drops what the VM sends to the internet", ONE_VM,
    red="OS-04", words="198.51.100.8",
)  # fmt: skip
def outbound_dropped(world: World) -> Iterator[None]:
    router = f"qrouter-{world.standing('operations').deployment.routers['RT1'].id}"
    with world.dropped(router, "FORWARD", "-s", "10.5.7.0/24", "-d", str(world.lab.outside)):
        yield


@fault(
    "wrong-hostname", "The session is in a VM of another name", ONE_VM, red="OS-08", words="the host is called",
)  # fmt: skip
def wrong_hostname(world: World) -> Iterator[None]:
    vm = _vm(world)
    name = vm.run("hostname").stdout.strip()
    world.guest(vm, "sudo hostname somebody-elses")
    yield
    world.guest(vm, "sudo hostname %s", name)


def _service_stopped(world: World, name: str) -> Iterator[None]:
    world.box.service("stop", name)
    yield
    world.box.service("start", name)


EVERYTHING = "API-01 API-03 OS-02 OS-04 OS-05 OS-07 OS-08 OS-10 OS-11"


@fault(
    "identity-api-down", "The cloud's identity service is down", API,
    open_=f"{EVERYTHING} API-02", words="5000",
)  # fmt: skip
def identity_api_down(world: World) -> Iterator[None]:
    yield from _service_stopped(world, "keystone")


@fault(
    "network-api-down", "The cloud's network service is down", API,
    open_=EVERYTHING, words="9696",
)  # fmt: skip
def network_api_down(world: World) -> Iterator[None]:
    yield from _service_stopped(world, "neutron-server")


@fault(
    "compute-api-down", "The cloud's compute service is down", API,
    open_=EVERYTHING, words="8774",
)  # fmt: skip
def compute_api_down(world: World) -> Iterator[None]:
    yield from _service_stopped(world, "nova-api")


@fault(
    "agent-dead", "The network agent of the hypervisor is dead: rules are accepted and not carried out", RULES,
    red="OS-06", words="was not reached within",
)  # fmt: skip
def agent_dead(world: World) -> Iterator[None]:
    yield from _service_stopped(world, "linuxbridge-agent")


@fault(
    "rule-quota-used-up", "The project's quota of security group rules is used up", RULES,
    open_="OS-06", words="uota exceeded",
)  # fmt: skip
def rule_quota_used_up(world: World) -> Iterator[None]:
    project, network = world.cloud.project, world.admin.network
    network.update_quota(project, security_group_rules=1)
    yield
    network.delete_quota(project)


@fault(
    "user-has-the-admins-rights", "The student's user was given the administrator's role", API,
    red="API-03", words=("was shown the admin's listing", "are shown to a plain user"),
)  # fmt: skip
def user_has_the_admins_rights(world: World) -> Iterator[None]:
    identity, project = world.admin.identity, world.cloud.project
    role, user = identity.find_role("admin"), world.cloud.api.current_user_id
    identity.assign_project_role_to_user(project, user, role)
    yield
    identity.unassign_project_role_from_user(project, user, role)
