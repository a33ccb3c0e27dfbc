"""VMs behind NAT in a real QEMU, on networks of their own; a boot sector is enough for a guest."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from provision.natvm import Forwarding, NatVm, NatVmError, VmSettings
from provision.qemu import Qemu
from tests.natvm_contract import RunningNatVmContract, appears, boot_disk, refusal
from tests.probes_world import child, needs_root, until
from tests.qemu_world import DESKTOP, LOCAL, Room, connect, image

pytestmark = [pytest.mark.box, needs_root]

ROOT = Path(__file__).parents[1]


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
