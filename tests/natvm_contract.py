"""What every driver of :mod:`provision.natvm` must do, proven on the real hypervisor.

A driver's test module derives its classes from these, and gives two fixtures:

``hypervisor``
    a Hypervisor that has no VM and no disk, and whose VMs and disks are removed after the test;
``make_disk``
    a function from a file's name without ending to a small bootable disk (`boot_disk` is its content, raw),
    in the hypervisor's usual format, readable and writable for it, not registered, in a folder with only such.

`NatVmContract` needs no VM to start; `RunningNatVmContract` does.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from provision.natvm import Forwarding, Hypervisor, Kind, NatVm, NatVmError, VmSettings

MakeDisk = Callable[[str], Path]
GREETING = "natvm-contract: booted"
DISK_MB = 4

# ds = 0; for each byte of the text: wait until COM1 can take it, then give it to it; halt for ever
_PROGRAM = bytes.fromhex(
    "31c0 8ed8 fc be227c ac 84c0 7412 88c4 bafd03 ec a820 74fb baf803 88e0 ee ebe9 f4 ebfd".replace(" ", "")
)


def boot_disk() -> bytes:
    """A raw disk of DISK_MB MiB whose boot sector prints GREETING on the first serial port and halts."""
    sector = (_PROGRAM + GREETING.encode() + b"\r\n\0").ljust(510, b"\0") + b"\x55\xaa"
    return sector.ljust(DISK_MB * 1024 * 1024, b"\0")


def content(image: Path) -> bytes:
    """What a guest sees on a disk."""
    raw = image.with_suffix(".content")
    subprocess.run(["qemu-img", "convert", "-O", "raw", image, raw], check=True)
    try:
        return raw.read_bytes()
    finally:
        raw.unlink()


def refusal(kind: Kind, call: Callable[[], object]) -> NatVmError:
    """The error that `call` ends with; it has the kind and says what was tried and what came back."""
    with pytest.raises(NatVmError) as caught:
        call()
    error = caught.value
    assert error.kind == kind, f"{error.kind}, not {kind}: {error}"
    assert error.tried, "what was tried is not said"
    assert error.answer, "what came back is not said"
    assert "\n" not in str(error), f"not one line: {error}"
    return error


def appears(seen: Callable[[], bool], within: float) -> bool:
    """Whether `seen` becomes true within so many seconds."""
    end = time.monotonic() + within
    while not seen():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def free_port() -> int:
    """A TCP port of this host that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class NatVmContract:
    """Everything about VMs that are off, and about disks."""

    def test_it_says_who_it_is(self, hypervisor: Hypervisor):
        assert hypervisor.name in ("virtualbox", "qemu")
        assert hypervisor.version()[0].isdigit(), hypervisor.version()
        assert hypervisor.vms() == []
        assert hypervisor.disks() == []

    def test_a_vm_is_made_found_and_removed_with_its_disk(self, hypervisor: Hypervisor, make_disk: MakeDisk):
        image = make_disk("boot")
        vm = hypervisor.create(VmSettings("first", image))
        assert (vm.name, vm.disk, vm.state(), vm.forwardings()) == ("first", image, "off", [])
        assert hypervisor.vms() == ["first"]
        found = hypervisor.vm("first")
        assert (found.name, found.disk, found.state()) == ("first", image, "off")
        assert [disk.path for disk in hypervisor.disks()] == [image]
        assert hypervisor.used_by(image) == "first"
        assert vm.console() == ""
        found.remove()
        assert hypervisor.vms() == []
        assert hypervisor.disks() == []
        assert not image.exists()
        refusal("missing", vm.state)
        refusal("missing", vm.remove)

    def test_a_removed_vm_can_leave_its_disk(self, hypervisor: Hypervisor, make_disk: MakeDisk):
        image = make_disk("kept")
        vm = hypervisor.create(VmSettings("first", image))
        vm.remove(disks=False)
        assert hypervisor.vms() == []
        assert content(image) == boot_disk()
        assert hypervisor.used_by(image) == ""
        assert hypervisor.create(VmSettings("second", image)).disk == image

    def test_a_name_is_used_once(self, hypervisor: Hypervisor, make_disk: MakeDisk):
        first, second = make_disk("one"), make_disk("two")
        hypervisor.create(VmSettings("twin", first))
        error = refusal("conflict", lambda: hypervisor.create(VmSettings("twin", second)))
        assert "twin" in str(error)
        assert hypervisor.vms() == ["twin"]
        assert hypervisor.vm("twin").disk == first
        assert first.exists()
        assert second.exists()
        assert hypervisor.used_by(second) == ""

    def test_an_unknown_vm(self, hypervisor: Hypervisor):
        assert "nosuch" in str(refusal("missing", lambda: hypervisor.vm("nosuch")))

    def test_a_vm_without_its_disk_is_not_made(self, hypervisor: Hypervisor, make_disk: MakeDisk):
        absent = make_disk("any").with_stem("absent")
        error = refusal("missing", lambda: hypervisor.create(VmSettings("empty", absent)))
        assert str(absent) in str(error)
        assert hypervisor.vms() == []
        assert hypervisor.disks() == []

    def test_a_disk_serves_one_vm(self, hypervisor: Hypervisor, make_disk: MakeDisk):
        image = make_disk("shared")
        hypervisor.create(VmSettings("owner", image))
        error = refusal("conflict", lambda: hypervisor.create(VmSettings("other", image)))
        assert "owner" in str(error)
        assert hypervisor.vms() == ["owner"]
        assert image.exists()
        refusal("conflict", lambda: hypervisor.remove_disk(image))
        assert hypervisor.used_by(image) == "owner"

    def test_rules_of_a_vm_that_is_off(self, hypervisor: Hypervisor, make_disk: MakeDisk):
        vm = hypervisor.create(VmSettings("nat", make_disk("boot")))
        rules = [
            Forwarding("ssh", 2222, 22),
            Forwarding("dns", 5353, 53, "udp", IPv4Address("127.0.0.1"), IPv4Address("10.0.2.15")),
        ]
        for rule in rules:
            vm.forward(rule)
        assert sorted(vm.forwardings(), key=str) == sorted(rules, key=str)
        refusal("conflict", lambda: vm.forward(Forwarding("ssh", 2223, 22)))
        refusal("conflict", lambda: vm.forward(Forwarding("other", 2222, 23)))
        assert sorted(hypervisor.vm("nat").forwardings(), key=str) == sorted(rules, key=str)
        vm.unforward("ssh")
        assert vm.forwardings() == rules[1:]
        assert "ssh" in str(refusal("missing", lambda: vm.unforward("ssh")))
        vm.forward(rules[0])
        assert sorted(vm.forwardings(), key=str) == sorted(rules, key=str)

    def test_a_plain_copy_is_refused(self, hypervisor: Hypervisor, make_disk: MakeDisk, tmp_path: Path):
        image = make_disk("original")
        registered = hypervisor.register_disk(image)
        assert (registered.path, registered.size_mb) == (image, DISK_MB)
        copy = image.with_stem("copy")
        shutil.copy(image, copy)
        shutil.chown(copy, image.stat().st_uid, image.stat().st_gid)
        error = refusal("conflict", lambda: hypervisor.register_disk(copy))
        assert str(registered.uuid) in error.answer
        assert hypervisor.disks() == [registered]
        # nor can it be brought in by a VM
        refusal("conflict", lambda: hypervisor.create(VmSettings("bad", copy)))
        assert (hypervisor.disks(), hypervisor.vms()) == ([registered], [])
        assert copy.exists()

    def test_a_disk_that_is_not_there(self, hypervisor: Hypervisor, make_disk: MakeDisk):
        absent = make_disk("any").with_stem("absent")
        assert str(absent) in str(refusal("missing", lambda: hypervisor.register_disk(absent)))
        refusal("missing", lambda: hypervisor.remove_disk(absent))

    def test_a_clone_is_a_disk_of_its_own(self, hypervisor: Hypervisor, make_disk: MakeDisk):
        source = make_disk("source")
        original = hypervisor.register_disk(source)
        percent: list[float] = []
        target = source.with_stem("clone")
        clone = hypervisor.clone_disk(source, target, percent.append)
        assert clone.path == target
        assert clone.uuid != original.uuid
        assert (clone.format, clone.size_mb) == (original.format, original.size_mb)
        assert sorted(hypervisor.disks(), key=str) == sorted([original, clone], key=str)
        assert percent == sorted(percent)
        assert percent[-1] == 100
        assert content(target) == boot_disk()
        assert len(percent) > 1, "no progress between the beginning and the end"
        hypervisor.create(VmSettings("first", source))
        hypervisor.create(VmSettings("second", target))
        hypervisor.vm("second").remove()
        assert [disk.path for disk in hypervisor.disks()] == [source]

    def test_a_clone_over_a_file_is_refused(self, hypervisor: Hypervisor, make_disk: MakeDisk):
        source, target = make_disk("source"), make_disk("target")
        hypervisor.register_disk(source)
        before = target.read_bytes()
        error = refusal("conflict", lambda: hypervisor.clone_disk(source, target))
        assert str(target) in str(error)
        assert target.read_bytes() == before
        assert [disk.path for disk in hypervisor.disks()] == [source]

    def test_a_clone_of_nothing_leaves_nothing(self, hypervisor: Hypervisor, make_disk: MakeDisk):
        absent = make_disk("any").with_stem("absent")
        target = absent.with_stem("target")
        assert str(absent) in str(refusal("missing", lambda: hypervisor.clone_disk(absent, target)))
        assert not target.exists()
        assert hypervisor.disks() == []

    def test_a_clone_of_a_directory_leaves_nothing(self, hypervisor: Hypervisor, make_disk: MakeDisk):
        folder = make_disk("any").with_stem("folder")
        folder.mkdir()
        target = folder.with_stem("target")
        with pytest.raises(NatVmError) as caught:
            hypervisor.clone_disk(folder, target)
        assert caught.value.kind in ("access", "refused", "fault")
        assert not target.exists()
        assert hypervisor.disks() == []

    def test_a_disk_is_removed(self, hypervisor: Hypervisor, make_disk: MakeDisk):
        image = make_disk("boot")
        hypervisor.register_disk(image)
        hypervisor.remove_disk(image)
        assert hypervisor.disks() == []
        assert not image.exists()
        refusal("missing", lambda: hypervisor.remove_disk(image))

    def test_a_snapshot_of_a_vm_that_is_off(self, hypervisor: Hypervisor, make_disk: MakeDisk):
        image = make_disk("boot")
        beside = set(image.parent.iterdir())
        vm = hypervisor.create(VmSettings("snapped", image))
        vm.snapshot("clean")
        assert vm.state() == "off"
        assert vm.disk == image, "a snapshot must not change which disk the VM is said to boot from"
        assert hypervisor.used_by(image) == "snapped"
        refusal("missing", lambda: vm.resume("nosuch"))
        vm.remove()
        assert hypervisor.disks() == []
        assert not (set(image.parent.iterdir()) - beside), "something was left beside the disk"
        assert not image.exists()

    def test_what_runs_only(self, hypervisor: Hypervisor, make_disk: MakeDisk):
        """Stopping a VM that is off is done already."""
        vm = hypervisor.create(VmSettings("idle", make_disk("boot")))
        vm.stop(within=0)
        vm.stop(within=5)
        assert vm.state() == "off"


class RunningNatVmContract:
    """What a VM does while it runs."""

    @pytest.fixture
    def vm(self, hypervisor: Hypervisor, make_disk: MakeDisk) -> NatVm:
        """A VM that has started and whose boot sector has run."""
        assert hypervisor.cannot_start() == ""
        vm = hypervisor.create(VmSettings("runner", make_disk("boot"), memory_mb=64))
        vm.start()
        assert appears(lambda: GREETING in vm.console(), 60), f"console: {vm.console()!r}"
        return vm

    def test_it_starts_and_stops(self, hypervisor: Hypervisor, vm: NatVm):
        assert vm.state() == "running"
        refusal("refused", vm.start)
        assert vm.state() == "running"
        vm.stop(within=1)  # nobody in the guest hears the button
        assert vm.state() == "off"
        vm.start()
        assert vm.state() == "running"
        vm.stop(within=0)
        assert vm.state() == "off"

    def test_its_disk_is_in_use(self, hypervisor: Hypervisor, vm: NatVm):
        target = vm.disk.with_stem("target")
        refusal("conflict", lambda: hypervisor.clone_disk(vm.disk, target))
        assert not target.exists()
        refusal("conflict", lambda: hypervisor.remove_disk(vm.disk))
        assert [disk.path for disk in hypervisor.disks()] == [vm.disk]

    def test_rules_take_effect_while_it_runs(self, vm: NatVm):
        rule = Forwarding("late", free_port(), 22, host_ip=IPv4Address("127.0.0.1"))
        vm.forward(rule)
        assert vm.forwardings() == [rule]
        refusal("conflict", lambda: vm.forward(Forwarding("late", free_port(), 22)))
        refusal("conflict", lambda: vm.forward(Forwarding("other", rule.host_port, 22, host_ip=rule.host_ip)))
        assert vm.forwardings() == [rule]
        vm.unforward("late")
        assert vm.forwardings() == []
        refusal("missing", lambda: vm.unforward("late"))

    def test_it_resumes_without_a_boot(self, vm: NatVm):
        vm.forward(Forwarding("kept", free_port(), 22))
        rules = vm.forwardings()
        vm.snapshot("up")
        assert vm.state() == "running"
        vm.stop(within=0)
        vm.resume("up")
        assert vm.state() == "running"
        assert vm.forwardings() == rules
        assert not appears(lambda: GREETING in vm.console(), 3), "it has booted again"

    def test_a_running_vm_is_removed(self, hypervisor: Hypervisor, vm: NatVm):
        vm.remove()
        assert hypervisor.vms() == []
        assert not vm.disk.exists()
