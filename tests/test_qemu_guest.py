"""VMs of the guest image behind NAT, in a real QEMU, on networks of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from uuid import uuid4

import pytest

from provision.box import guest
from provision.natvm import Forwarding, NatVm, VmSettings
from provision.qemu import Qemu, last_lines
from provision.qemu_image import set_uuid
from tests.natvm_contract import appears, refusal
from tests.probes_world import keypair, needs_root
from tests.qemu_world import DESKTOP, LOCAL, NEIGHBOUR, Room, connect, image

pytestmark = [pytest.mark.box, needs_root]

PING = f"ping -c 1 -W 1 {NEIGHBOUR} >/dev/null && echo answered || echo lost"


@dataclass
class Guests:
    """Makes VMs of the guest image, and talks to them over SSH from the desktop."""

    room: Room
    qemu: Qemu
    folder: Path

    def settings(self, name: str, disk: Path | None = None) -> VmSettings:
        files = guest.ensure(lambda _: None)
        if disk is None:
            disk = self.folder / f"{name}.qcow2"
            image("create", "-q", "-f", "qcow2", "-b", files / "root.qcow2", "-F", "qcow2", disk)
        about = json.loads((files / "guest.json").read_text())
        return VmSettings(
            name,
            disk,
            memory_mb=192,
            seed=self.seed(name),
            kernel=files / "vmlinuz",
            initrd=files / "initrd.img",
            command_line=about["os_command_line"],
        )

    def seed(self, name: str) -> Path:
        """A config drive: a FAT file system, which QEMU makes of a folder."""
        documents = self.folder / f"{name}-seed/openstack/latest"
        documents.mkdir(parents=True)
        about = {
            "uuid": str(uuid4()),
            "hostname": name,
            "public_keys": {"test": keypair(self.folder / "key")},
        }
        (documents / "meta_data.json").write_text(json.dumps(about))
        drive = self.folder / f"{name}-seed.img"
        folder = documents.parents[1]
        image("convert", "--image-opts", f"driver=vvfat,dir={folder},floppy=on,rw=off", "-O", "raw", drive)
        return drive

    def up(self, name: str, port: int, disk: Path | None = None) -> NatVm:
        """A VM that has booted and answers SSH on the desktop's `port`."""
        vm = self.qemu.create(self.settings(name, disk))
        vm.forward(Forwarding("ssh", port, 22))
        began = time.monotonic()
        vm.start()
        booted(vm)
        print(f"{name}: booted in {time.monotonic() - began:.1f} s")
        return vm

    def ssh(self, port: int, command: str) -> str:
        done = subprocess.run(
            [
                *(*self.room.desktop.prefix, "ssh", "-p", str(port), "-i", str(self.folder / "key")),
                *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
                *("-o", "LogLevel=ERROR", "-o", "ConnectTimeout=15", "user@127.0.0.1", command),
            ],
            capture_output=True,
            text=True,
            timeout=40,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()


def booted(vm: NatVm) -> None:
    assert appears(lambda: "labproof-guest: READY" in vm.console(), 60), last_lines(vm.console())


@pytest.fixture
def guests(room: Room, hypervisor: Qemu, tmp_path: Path) -> Guests:
    return Guests(room, hypervisor, tmp_path)


def test_a_guest_behind_nat(guests: Guests, room: Room):
    """Its address, who reaches it before and after a rule, and that a rule is for who it says."""
    vm = guests.up("natvm", 2222)
    assert guests.ssh(2222, "hostname") == "natvm"
    addresses = guests.ssh(2222, "ip -4 -o address show dev eth0")
    assert "inet 10.0.2.15/24" in addresses
    assert "default via 10.0.2.2" in guests.ssh(2222, "ip route")
    guests.ssh(2222, "ping -c 1 -W 3 10.0.2.2")

    for node in (room.desktop, room.neighbour):  # no way to its own address
        assert connect(node, IPv4Address("10.0.2.15"), 22) == "Network is unreachable"
    assert connect(room.desktop, DESKTOP, 80) == "Connection refused"

    # (rule's address, what the desktop's loopback, its LAN address, and the neighbour see)
    refused, answered = "Connection refused", "SSH-2.0-"
    for host_ip, expected in (
        (None, (answered, answered, answered)),
        (LOCAL, (answered, refused, refused)),
        (DESKTOP, (refused, answered, answered)),
    ):
        rule = Forwarding("more", 1234, 22, host_ip=host_ip)
        looks = ((room.desktop, LOCAL), (room.desktop, DESKTOP), (room.neighbour, DESKTOP))
        assert [connect(node, address, 1234) for node, address in looks] == [refused] * 3
        vm.forward(rule)
        assert rule in vm.forwardings()
        for (node, address), seen in zip(looks, expected, strict=True):
            assert connect(node, address, 1234).startswith(seen), (rule, node.name, address)
        vm.unforward("more")
        assert rule not in vm.forwardings()
        assert [connect(node, address, 1234) for node, address in looks] == [refused] * 3
    assert guests.ssh(2222, "echo still there") == "still there"

    assert guests.ssh(2222, PING) == "answered"

    began = time.monotonic()
    vm.stop(within=30)
    assert vm.state() == "off"
    assert "labproof-guest: READY" in vm.console()
    print(f"shut down in {time.monotonic() - began:.1f} s")
    assert connect(room.desktop, LOCAL, 2222) == refused


def test_a_ping_needs_the_kernels_leave_where_qemu_may_not_send_raw_packets(guests: Guests, room: Room):
    rightless = [*room.prefix, "setpriv", "--bounding-set=-net_raw", "--"]
    guests.qemu = Qemu(guests.qemu.folder, prefix=rightless)
    guests.up("natvm", 2222)
    assert guests.ssh(2222, PING) == "lost"
    room.desktop.sh("echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range")
    assert guests.ssh(2222, PING) == "answered"


def test_a_clone_boots_beside_the_first(guests: Guests, hypervisor: Qemu, tmp_path: Path):
    first = guests.up("first", 2222)
    guests.ssh(2222, "echo COUCOU > marker && sync")
    first.stop()
    shutil.copy(first.disk, tmp_path / "copy.qcow2")
    refusal("conflict", lambda: hypervisor.create(guests.settings("copied", tmp_path / "copy.qcow2")))
    began = time.monotonic()
    hypervisor.clone_disk(first.disk, tmp_path / "clone.qcow2")
    print(f"cloned in {time.monotonic() - began:.1f} s")
    first.start()
    guests.up("second", 2223, tmp_path / "clone.qcow2")
    booted(first)
    assert guests.ssh(2222, "hostname; cat marker") == "first\nCOUCOU"
    assert guests.ssh(2223, "hostname; cat marker") == "second\nCOUCOU"
    for port, name in ((2222, "first"), (2223, "second")):
        assert "inet 10.0.2.15/24" in guests.ssh(port, "ip -4 -o address show dev eth0")
        guests.ssh(port, f"echo {name} > /tmp/name")
        serve = "cd /tmp; exec python3 -m http.server 80 >/dev/null 2>&1 </dev/null"
        guests.ssh(port, f"sudo sh -c '{serve}' >/dev/null 2>&1 &")
    for port, name in ((2222, "first"), (2223, "second")):  # whoever asks for 10.0.2.15 gets itself
        fetch = "curl -s --max-time 5 http://10.0.2.15/name || true"
        assert appears(lambda: guests.ssh(port, fetch) == name, 20), name  # noqa: B023
    assert hypervisor.vms() == ["first", "second"]


def test_a_saved_state_goes_on_also_in_a_copy(guests: Guests, hypervisor: Qemu, tmp_path: Path):
    vm = guests.up("saved", 2222)
    guests.ssh(
        2222, "echo before > marker; (while :; do date +%s%N > /tmp/ticks; sleep 0.2; done) >/dev/null 2>&1 &"
    )
    boot = guests.ssh(2222, "cat /proc/sys/kernel/random/boot_id")
    began = time.monotonic()
    vm.snapshot("up")
    print(f"saved in {time.monotonic() - began:.1f} s")
    refusal("conflict", lambda: vm.snapshot("up"))
    guests.ssh(2222, "echo after > marker; sync")
    refusal("refused", lambda: vm.resume("up"))
    vm.stop(within=0)
    refusal("missing", lambda: vm.resume("down"))
    vm.snapshot("cold")
    refusal("refused", lambda: vm.resume("cold"))
    copy = tmp_path / "copy.qcow2"
    shutil.copy(vm.disk, copy)

    began = time.monotonic()
    vm.resume("up")
    resumed = time.monotonic() - began
    assert guests.ssh(2222, "cat marker; cat /proc/sys/kernel/random/boot_id") == f"before\n{boot}"
    print(f"resumed in {resumed:.1f} s, first command {time.monotonic() - began:.1f} s after it began")
    ticks = guests.ssh(2222, "cat /tmp/ticks")
    assert appears(lambda: guests.ssh(2222, "cat /tmp/ticks") != ticks, 10), "what ran does not run on"
    vm.stop(within=0)

    set_uuid(copy)
    other = hypervisor.create(guests.settings("other", copy))
    other.forward(Forwarding("ssh", 2300, 22))
    vm.resume("up")
    other.resume("up")
    guests.ssh(2300, "echo other > marker")
    assert guests.ssh(2300, "cat marker /proc/sys/kernel/random/boot_id") == f"other\n{boot}"
    assert guests.ssh(2222, "cat marker /proc/sys/kernel/random/boot_id") == f"before\n{boot}"
    assert "labproof-guest: READY" not in other.console(), "it has booted"


def test_a_guest_that_shuts_itself_down(guests: Guests):
    vm = guests.up("short", 2222)
    guests.ssh(2222, "sudo poweroff >/dev/null 2>&1 &")
    assert appears(lambda: vm.state() != "running", 20)
    assert vm.state() == "off"
