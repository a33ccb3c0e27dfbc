"""Faults of objective 4: the VM behind NAT and its forwarding rules."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.fault import fault, plugged
from tests.faults.scopes import NAT
from tests.faults.world import World

VM = "10.0.2.15/32"
BY_RULE = "NAT-08 NAT-09 NAT-10 NAT-11 NAT-12"

plugged(
    "wrong-guest-port", "The forwarding rule leads to port 23 of the guest in place of 22", NAT,
    red="NAT-08 NAT-11", open_=BY_RULE, words="is led to the VM's port 23", everyday=True,
)  # fmt: skip
plugged(
    "rules-on-loopback", "The forwarding rule is bound to 127.0.0.1", NAT,
    red="NAT-08 NAT-11", open_=BY_RULE, words="is bound to 127.0.0.1, not to", everyday=True,
)  # fmt: skip
plugged(
    "rule-for-another-host-port", "The forwarding rule has a typo in the host's port: 1243 for 1234", NAT,
    red="NAT-08 NAT-11", open_=BY_RULE, words="no forwarding rule has the host's port 1234",
)  # fmt: skip
plugged(
    "local-rule-on-all-addresses", "A rule meant for the host alone is bound to all of its addresses", NAT,
    red="NAT-11", words="port 1236 is led to the VM's port 22",
)  # fmt: skip
plugged(
    "web-forwarded-too", "Port 80 was forwarded beside SSH", NAT,
    red="NAT-09", words="port 80 is led to the VM's port 80",
)  # fmt: skip
plugged(
    "rule-stays-when-deleted", "The rule was deleted in the settings, and not on the running VM", NAT,
    red="NAT-12", words="port 1234 is led to the VM's port 22",
)  # fmt: skip
plugged(
    "guests-sshd-down", "The guest's SSH server is down", NAT,
    red="NAT-08 NAT-11", open_=f"{BY_RULE} NAT-07", words="nothing listens on the VM's port 22",
    everyday=True, control="greeting",
)  # fmt: skip


@fault(
    "guest-without-default-route", "The guest has no default route", NAT,
    red="NAT-02 NAT-05", open_=f"NAT-06 {BY_RULE}", words="natvm has no default route",
)  # fmt: skip
def guest_without_default_route(world: World) -> Iterator[None]:
    guest = world.machine().host
    route = guest.run("ip -4 route show default").stdout.strip()
    assert route
    world.guest(guest, "sudo ip route del default")
    yield
    world.guest(guest, f"sudo ip route replace {route}")


@fault(
    "guest-drops-its-answers", "A firewall on the desktop drops what the guest sends to the internet", NAT,
    red="NAT-05", open_="NAT-03 NAT-06 NAT-07", words="198.51.100.8",
)  # fmt: skip
def guest_drops_its_answers(world: World) -> Iterator[None]:
    with world.dropped("desktop", "OUTPUT", "-d", str(world.lab.outside), "-p", "icmp"):
        yield


@fault(
    "desktop-has-the-vms-address", "The desktop has an address of the VM's network, and answers at the VM's", NAT,
    red="NAT-01 NAT-03 NAT-12", words="reached that should not be",
)  # fmt: skip
def desktop_has_the_vms_address(world: World) -> Iterator[None]:
    world.inside("ip", "address", "add", VM, "dev", "lo", netns="desktop")
    yield
    world.inside("ip", "address", "del", VM, "dev", "lo", netns="desktop")


@fault(
    "neighbour-reaches-the-address", "On the neighbour's machine somebody answers at the VM's address", NAT,
    red="NAT-04", words="reached that should not be",
)  # fmt: skip
def neighbour_reaches_the_address(world: World) -> Iterator[None]:
    world.inside("ip", "address", "add", VM, "dev", "lo", netns="neighbour")
    yield
    world.inside("ip", "address", "del", VM, "dev", "lo", netns="neighbour")


@fault(
    "disk-full", "The guest's disk is full", NAT, red="NAT-10", words="No space left",
)  # fmt: skip
def disk_full(world: World) -> Iterator[None]:
    fill = "fallocate -l $(df --output=avail -B1 / | tail -n 1) /full; cat /dev/zero > /full2; true"
    guest = world.machine().host
    world.guest(guest, "rm -f ~/Desktop/COUCOU")  # else it is written again into its own block
    with world.changed(guest, f"sudo sh -c '{fill}'", "sudo rm -f /full /full2"):
        yield


@fault(
    "desktop-is-not-writable", "The desktop's folder in the guest belongs to somebody else", NAT,
    red="NAT-10", words="Permission denied",
)  # fmt: skip
def desktop_is_not_writable(world: World) -> Iterator[None]:
    guest = world.machine().host
    world.guest(
        guest,
        "mkdir -p ~/Desktop && rm -f ~/Desktop/COUCOU && sudo chown root ~/Desktop && sudo chmod 755 ~/Desktop",
    )
    yield
    world.guest(guest, "sudo chown $(id -u) ~/Desktop")


# the last: the VM is made anew by who looks next
plugged(
    "vm-killed", "The VM's process was killed", NAT,
    open_=f"{BY_RULE} NAT-03 NAT-04 NAT-05 NAT-06 NAT-07", words="natvm", everyday=True, control="command",
)  # fmt: skip
