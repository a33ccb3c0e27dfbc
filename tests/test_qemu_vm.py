"""VMs behind NAT in a real QEMU, on networks of their own, with the guest image."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from uuid import uuid4

import pytest

from provision.box import guest
from provision.natvm import Forwarding, NatVm, NatVmError, VmSettings
from provision.qemu import Qemu, last_lines
from provision.qemu_image import set_uuid
from tests.natvm_contract import RunningNatVmContract, appears, boot_disk, refusal
from tests.probes_world import Node, child, keypair, link, needs_root, nodes, until

pytestmark = [pytest.mark.box, needs_root]

ROOT = Path(__file__).parents[1]
LOCAL = IPv4Address("127.0.0.1")
DESKTOP, NEIGHBOUR = IPv4Address("10.1.5.89"), IPv4Address("10.1.5.90")
PING = f"ping -c 1 -W 1 {NEIGHBOUR} >/dev/null && echo answered || echo lost"

CONNECT = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as s:
        s.settimeout(float(sys.argv[3]))
        print(s.recv(200).decode(errors="replace").strip() or "closed")
except OSError as error:
    print(error.strerror or error)
"""


@dataclass
class Room:
    """A desktop with a neighbour, and a pid namespace in which the desktop's QEMUs live and with which they die.

    It is entered as the embedded lab is: QEMU sees the machine's files, and its process ids are other ones.
    """

    desktop: Node
    neighbour: Node
    init: int
    holder: subprocess.Popen[bytes]

    @property
    def prefix(self) -> list[str]:
        return [
            *("nsenter", f"--target={self.init}", "--pid"),
            *(f"--net=/proc/{self.desktop.pid}/ns/net", "--"),
        ]

    def processes(self) -> list[str]:
        """The command lines of what lives in the pid namespace, its first process apart."""
        space = Path(f"/proc/{self.init}/ns/pid").readlink()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if entry.joinpath("ns/pid").readlink() == space and int(entry.name) != self.init:
                    found.append(entry.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return [line for line in found if line]  # a zombie has no command line

    def signal(self, vm: NatVm, number: int, qemu: Qemu) -> None:
        pid = (qemu.folder / "vms" / vm.name / "pid").read_text()
        subprocess.run([*self.prefix, "sh", "-c", f"kill -{number} {pid}"], check=True, timeout=20)


@pytest.fixture
def room() -> Iterator[Room]:
    with nodes("desktop", "neighbour") as (desktop, neighbour):
        link(desktop, f"{DESKTOP}/16", neighbour, f"{NEIGHBOUR}/16")
        with child(["unshare", "--pid", "--fork", "--kill-child", "--", "cat"]) as holder:
            children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
            until(lambda: bool(children.read_text()), "the pid namespace's first process")
            yield Room(desktop, neighbour, int(children.read_text()), holder)


@pytest.fixture
def hypervisor(room: Room, tmp_path: Path) -> Iterator[Qemu]:
    qemu = Qemu(tmp_path / "qemu", prefix=room.prefix)
    yield qemu
    for name in qemu.vms():
        qemu.vm(name).remove()
    assert room.processes() == []
    assert qemu.disks() == [] or all(disk.path.parent == tmp_path for disk in qemu.disks())
    assert list((tmp_path / "qemu/vms").iterdir()) == []


@pytest.fixture
def make_disk(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        raw, path = tmp_path / f"{name}.raw", tmp_path / f"{name}.qcow2"
        raw.write_bytes(boot_disk())
        image("convert", "-f", "raw", "-O", "qcow2", raw, path)
        raw.unlink()
        return path

    return make


class TestContract(RunningNatVmContract):
    pass


def image(*argv: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, argv)], check=True, capture_output=True, timeout=60)


# --- the guest ------------------------------------------------------------------------------------------


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


def connect(node: Node, address: IPv4Address, port: int, within: float = 5) -> str:
    """What the first bytes of a TCP connection are within so many seconds, or why there is none."""
    argv = [*node.prefix, sys.executable, "-c", CONNECT, str(address), str(port), str(within)]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


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


# --- without a guest: a boot sector is enough -----------------------------------------------------------


@pytest.fixture
def vm(hypervisor: Qemu, make_disk: Callable[[str], Path]) -> NatVm:
    return hypervisor.create(VmSettings("vm", make_disk("vm"), memory_mb=32))


def test_a_killed_vm_is_aborted(room: Room, hypervisor: Qemu, vm: NatVm):
    vm.start()
    room.signal(vm, 9, hypervisor)
    assert appears(lambda: vm.state() != "running", 10)
    assert vm.state() == "aborted"
    vm.start()
    assert vm.state() == "running"
    room.signal(vm, 9, hypervisor)
    assert appears(lambda: vm.state() == "aborted", 10)
    folder = hypervisor.folder / "vms/vm"
    vm.remove()
    assert not folder.exists()
    assert not vm.disk.exists()
    assert room.processes() == []


def test_a_stuck_vm_is_ended_all_the_same(room: Room, hypervisor: Qemu, vm: NatVm):
    vm.start()
    room.signal(vm, 19, hypervisor)
    assert vm.state() == "running"
    began = time.monotonic()
    vm.stop(within=0)
    assert vm.state() == "off"
    assert time.monotonic() - began < 15
    assert room.processes() == []


def test_vms_end_with_the_namespace_that_they_are_in(room: Room, hypervisor: Qemu, vm: NatVm):
    vm.start()
    assert appears(lambda: "booted" in vm.console(), 30)
    room.holder.kill()
    assert appears(lambda: vm.state() == "aborted", 10)
    error = refusal("boot", vm.start)
    assert "nsenter" in error.answer
    assert vm.state() == "off"
    assert vm.console() == "", "what an earlier start printed is taken for this one's"
    vm.remove()


def test_vms_outlive_their_process_and_are_found_by_another(room: Room, hypervisor: Qemu, vm: NatVm):
    script = (
        "import sys; from pathlib import Path; from provision.qemu import Qemu; "
        "from provision.natvm import Forwarding\n"
        "vm = Qemu(Path(sys.argv[1]), prefix=sys.argv[2:]).vm('vm'); vm.start(); "
        "vm.forward(Forwarding('late', 1234, 22))"
    )
    argv = [sys.executable, "-c", script, str(hypervisor.folder), *room.prefix]
    subprocess.run(argv, cwd=ROOT, check=True, timeout=60)
    assert vm.state() == "running"
    assert vm.forwardings() == [Forwarding("late", 1234, 22)]
    assert connect(room.desktop, LOCAL, 1234, 0.2) == "timed out"  # nobody in the guest answers
    vm.unforward("late")
    assert connect(room.desktop, LOCAL, 1234) == "Connection refused"


def test_a_rule_whose_port_is_taken(
    room: Room, hypervisor: Qemu, vm: NatVm, make_disk: Callable[[str], Path]
):
    taken = (
        "import socket, sys\n"
        "t = socket.socket(); t.bind(('10.1.5.89', 1234)); t.listen()\n"
        "u = socket.socket(type=socket.SOCK_DGRAM); u.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        "u.bind(('', 1234)); sys.stdin.read()"
    )
    rules = [Forwarding("tcp", 1234, 22), Forwarding("udp", 1234, 53, "udp")]
    with child([*room.desktop.prefix, sys.executable, "-c", taken]):
        until(lambda: room.desktop.sh("ss -Hltun").count(":1234") == 2, "somebody on port 1234")
        for rule in rules:
            vm.forward(rule)  # it is off: who has the port when it starts is not known
            error = refusal("conflict", vm.start)
            assert "Address already in use" in error.answer
            assert (vm.state(), room.processes()) == ("off", [])
            vm.unforward(rule.name)
        vm.start()
        for rule in rules:
            assert "Address already in use" in refusal("conflict", lambda rule=rule: vm.forward(rule)).answer
        assert vm.forwardings() == []
    for rule in rules:
        vm.forward(rule)
    assert room.desktop.sh("ss -Hltun").count(":1234") == 2
    other = hypervisor.create(VmSettings("other", make_disk("other"), memory_mb=32))
    other.start()
    for rule in rules:
        refusal("conflict", lambda rule=rule: other.forward(rule))
    refusal("refused", lambda: other.forward(replace(rules[0], host_ip=IPv4Address("192.0.2.1"))))
    assert other.forwardings() == []


def test_rules_hold_over_stop_and_start(room: Room, vm: NatVm):
    rules = [Forwarding("a", 1234, 22), Forwarding("b", 1235, 53, "udp", DESKTOP, IPv4Address("10.0.2.20"))]
    vm.forward(rules[0])
    vm.start()
    vm.forward(rules[1])
    listens = sorted(line.split()[4] for line in room.desktop.sh("ss -Hltun").splitlines())
    assert listens == ["0.0.0.0:1234", f"{DESKTOP}:1235"]
    vm.stop(within=0)
    assert room.desktop.sh("ss -Hltun") == ""
    vm.start()
    assert vm.forwardings() == rules
    assert sorted(line.split()[4] for line in room.desktop.sh("ss -Hltun").splitlines()) == listens


def test_a_vm_that_cannot_start_says_why(room: Room, hypervisor: Qemu, vm: NatVm, tmp_path: Path):
    user = subprocess.Popen(["qemu-io", vm.disk], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert user.stdin
    assert user.stdout
    try:
        user.stdin.write("length\n")
        user.stdin.flush()
        user.stdout.readline()
        assert 'Failed to get "write" lock' in refusal("conflict", vm.start).answer
    finally:
        user.kill()
        user.communicate()
    content = vm.disk.read_bytes()
    vm.disk.write_bytes(b"no image at all")
    assert "not in qcow2 format" in refusal("boot", vm.start).answer
    vm.disk.unlink()
    assert str(vm.disk) in refusal("missing", vm.start).answer
    assert vm.state() == "off"
    assert room.processes() == []
    vm.disk.write_bytes(content)
    vm.start()
    assert vm.state() == "running"
    vm.stop(within=0)
    kvm = Qemu(
        hypervisor.folder, prefix=room.prefix, accelerator="kvm", qemu=["unshare", "-m", "sh", "-c", HIDE_KVM]
    )
    assert "KVM" in refusal("configuration", kvm.vm("vm").start).answer


HIDE_KVM = 'mount -t tmpfs none /dev; exec qemu-system-x86_64 "$0" "$@"'


def test_a_raw_disk_runs_and_has_no_snapshots(hypervisor: Qemu, tmp_path: Path):
    disk = tmp_path / "disk.raw"
    disk.write_bytes(boot_disk())
    vm = hypervisor.create(VmSettings("raw", disk, memory_mb=32))
    refusal("refused", lambda: vm.snapshot("off"))
    vm.start()
    assert appears(lambda: "booted" in vm.console(), 30)
    assert "snapshot" in refusal("refused", lambda: vm.snapshot("on")).answer
    with pytest.raises(NatVmError):
        vm.resume("on")
    vm.remove(disks=False)
    assert disk.read_bytes() == boot_disk()
    hypervisor.remove_disk(disk)


def test_who_only_looks_is_in_nobodys_way(vm: NatVm, hypervisor: Qemu):
    vm.start()
    vm.stop(within=0)
    look = subprocess.Popen(["flock", "-s", hypervisor.folder / "vms/vm/alive", "sleep", "0.5"])
    time.sleep(0.1)
    assert vm.state() == "off"
    vm.start()
    assert look.wait() == 0
    assert vm.state() == "running"


def test_a_vm_whose_registry_was_lost_does_not_run_on(room: Room, hypervisor: Qemu, vm: NatVm):
    vm.start()
    (hypervisor.folder / "registry.json").unlink()
    assert hypervisor.vms() == []
    again = hypervisor.create(VmSettings("vm", vm.disk, memory_mb=32))
    assert (again.state(), room.processes()) == ("off", [])


def test_a_long_path_and_a_comma(room: Room, tmp_path: Path, make_disk: Callable[[str], Path]):
    folder = tmp_path / ("a, long: way" * 12)
    folder.mkdir()
    disk = make_disk("x").rename(folder / "disk, of: it.qcow2")
    vm = Qemu(folder / "qemu", prefix=room.prefix).create(VmSettings("vm", disk, memory_mb=32))
    vm.start()
    assert appears(lambda: "booted" in vm.console(), 30)
    vm.forward(Forwarding("x", 1234, 22))
    vm.snapshot("up")
    vm.stop(within=0)
    vm.resume("up")
    assert connect(room.desktop, LOCAL, 1234, 0.2) == "timed out"  # nobody in the guest answers
    vm.remove()
    assert (list((folder / "qemu/vms").iterdir()), disk.exists()) == ([], False)
