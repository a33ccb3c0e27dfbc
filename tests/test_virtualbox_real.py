"""The VirtualBox driver against the real VBoxManage: every configuring call, and VirtualBox's own refusals.

A VM can be started only where VirtualBox's kernel driver is. Where it is, the tests of `TestWithKernelDriver` run;
elsewhere those of `TestWithoutKernelDriver`: the ids say which.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from provision.natvm import Forwarding, VmSettings
from provision.vboxmanage import VBoxManage
from provision.virtualbox import VirtualBox
from tests.natvm_contract import MakeDisk, NatVmContract, RunningNatVmContract, boot_disk, content, refusal
from tests.probes_world import alive
from tests.virtualbox_world import World, give, world

pytestmark = pytest.mark.box


@pytest.fixture
def student(tmp_path: Path) -> Iterator[World]:
    """A student's VirtualBox that knows no VM and no disk."""
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def hypervisor(student: World) -> VirtualBox:
    return VirtualBox(student.vboxmanage, student.home / "vms")


@pytest.fixture
def make_disk(student: World) -> MakeDisk:
    def make(name: str, ending: str = "vdi") -> Path:
        return student.disk(f"disks/{name}.{ending}", boot_disk())

    return make


class TestContract(NatVmContract):
    """What any driver must do."""


class TestVirtualBox:
    """What is VirtualBox's own."""

    def test_the_texts_are_virtualboxs_own(self, hypervisor, make_disk, student):
        """Each refusal carries what VirtualBox said, without codes and contexts."""
        image, other = make_disk("one"), make_disk("two")
        vm = hypervisor.create(VmSettings("first", image))
        vm.forward(Forwarding("ssh", 2222, 22))
        said = {
            "Could not find a registered machine named 'nosuch'": refusal(
                "missing", lambda: hypervisor.vm("nosuch")
            ),
            "A NAT rule of this name already exists": refusal(
                "conflict", lambda: vm.forward(Forwarding("ssh", 2223, 22))
            ),
            "A NAT rule for this host port and this host IP already exists": refusal(
                "conflict", lambda: vm.forward(Forwarding("other", 2222, 22))
            ),
            "(VERR_ALREADY_EXISTS)": refusal("conflict", lambda: hypervisor.clone_disk(image, other)),
            "(VERR_FILE_NOT_FOUND)": refusal(
                "missing", lambda: hypervisor.clone_disk(student.home / "no.vdi", student.home / "x.vdi")
            ),
            "is still attached to": refusal("conflict", lambda: hypervisor.remove_disk(image)),
        }
        for text, error in said.items():
            assert text in error.answer
            assert "Details:" not in error.answer
            assert "Context:" not in error.answer
            assert "VBoxManage: error" not in error.answer

    def test_a_plain_copys_refusal_names_both(self, hypervisor, make_disk):
        image = make_disk("original")
        uuid = hypervisor.register_disk(image).uuid
        copy = Path(shutil.copy(image, image.with_stem("copy")))
        give(copy)
        error = refusal("conflict", lambda: hypervisor.register_disk(copy))
        assert error.answer == (
            f"Cannot register the hard disk '{copy}' {{{uuid}}} because a hard disk '{image}' with UUID "
            f"{{{uuid}}} already exists"
        )

    def test_a_source_that_may_not_be_read(self, hypervisor, make_disk, student):
        """VirtualBox runs as a user who is not root, and the file is not theirs to read."""
        image = make_disk("secret")
        image.chmod(0)
        target = student.home / "clone.vdi"
        error = refusal("access", lambda: hypervisor.clone_disk(image, target))
        assert "VERR_ACCESS_DENIED" in error.answer
        assert not target.exists()
        assert hypervisor.disks() == []
        refusal("access", lambda: hypervisor.register_disk(image))
        refusal("access", lambda: hypervisor.create(VmSettings("blind", image)))
        assert hypervisor.vms() == []

    def test_a_target_that_may_not_be_written(self, hypervisor, make_disk, student):
        image = make_disk("source")
        folder = student.home / "closed"
        folder.mkdir()  # root's
        error = refusal("access", lambda: hypervisor.clone_disk(image, folder / "clone.vdi"))
        assert "VERR_ACCESS_DENIED" in error.answer
        refusal("missing", lambda: hypervisor.clone_disk(image, folder / "no" / "clone.vdi"))
        assert list(folder.iterdir()) == []
        assert hypervisor.disks() == []

    def test_a_clone_that_breaks_off_leaves_nothing(self, hypervisor, make_disk, student):
        """The file system of the target is full in the middle."""
        image = student.disk("source.vdi", os.urandom(6 << 20))
        folder = student.small_folder("3m")
        target = folder / "clone.vdi"
        percent: list[float] = []
        error = refusal("fault", lambda: hypervisor.clone_disk(image, target, percent.append))
        assert "VERR_DISK_FULL" in error.answer
        assert student.names_in(folder) == []
        assert hypervisor.disks() == []
        assert percent[0] == 0
        assert percent[-1] < 100

    @pytest.mark.parametrize("reached", [10, 100])
    def test_a_clone_that_is_given_up_leaves_nothing(self, hypervisor, student, reached):
        """VirtualBox's server does the copying; it must not go on with it, nor keep it if it is complete."""
        image, target = student.disk("big.vdi", os.urandom(1 << 20) * 200), student.home / "clone.vdi"

        def give_up(percentage: float) -> None:
            if percentage >= reached:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            hypervisor.clone_disk(image, target, give_up)
        assert student.server_ends()
        assert not target.exists()
        assert hypervisor.disks() == []

    def test_a_name_is_used_once_whatever_the_folder(self, hypervisor, make_disk, student):
        """VirtualBox itself takes it a second time, and finds the first by it from then on."""
        image = make_disk("one")
        hypervisor.create(VmSettings("twin", image))
        elsewhere = VirtualBox(student.vboxmanage, student.home / "elsewhere")
        refusal("conflict", lambda: elsewhere.create(VmSettings("twin", make_disk("two"))))
        assert hypervisor.vms() == ["twin"]
        assert hypervisor.vm("twin").disk == image

    def test_paths_from_where_one_is(self, hypervisor, make_disk, monkeypatch):
        """VirtualBox's server has another working directory than its callers."""
        image = make_disk("boot")
        monkeypatch.chdir(image.parent)
        assert hypervisor.register_disk(Path("boot.vdi")).path == image
        assert hypervisor.clone_disk(Path("boot.vdi"), Path("clone.vdi")).path == image.with_stem("clone")
        hypervisor.create(VmSettings("vm", Path("boot.vdi")))
        assert hypervisor.used_by(Path("boot.vdi")) == "vm"
        hypervisor.remove_disk(Path("clone.vdi"))
        assert [disk.path for disk in hypervisor.disks()] == [image]

    def test_what_is_no_disk(self, hypervisor, student):
        junk = student.home / "junk.vdi"
        junk.write_text("junk")
        give(junk)
        refusal("refused", lambda: hypervisor.register_disk(junk))
        refusal("refused", lambda: hypervisor.create(VmSettings("bad", junk)))
        assert (hypervisor.vms(), hypervisor.disks()) == ([], [])

    def test_a_vm_that_cannot_be_equipped_is_taken_back(self, hypervisor, make_disk, student):
        image, junk = make_disk("boot"), student.home / "seed.iso"
        junk.write_text("junk")
        give(junk)
        refusal("refused", lambda: hypervisor.create(VmSettings("bad", image, seed=junk)))
        assert (hypervisor.vms(), hypervisor.disks()) == ([], [])
        assert image.exists()
        assert list((student.home / "vms").iterdir()) == []

    def test_a_seed_is_a_disc(self, hypervisor, make_disk, student):
        seed = student.home / "seed.iso"
        (student.home / "meta-data").write_text("x")
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "raw", seed, "1M"], check=True
        )  # an empty disc: VirtualBox looks at its size only
        give(seed)
        hypervisor.create(VmSettings("seeded", make_disk("boot"), seed=seed))
        assert hypervisor.vm("seeded").disk == student.home / "disks/boot.vdi"
        hypervisor.vm("seeded").remove()
        assert seed.exists()

    def test_other_formats(self, hypervisor, make_disk, student):
        """A clone has its source's format, whatever its name."""
        image = make_disk("source", "vmdk")
        clone = hypervisor.clone_disk(image, student.home / "clone.vdi")
        assert clone.format == "VMDK"
        assert [disk.path for disk in hypervisor.disks()] == [clone.path], "the source was not registered"

    def test_the_registry_outlives_the_server(self, hypervisor, make_disk, student):
        """VirtualBox's server ends when nobody has called it for some seconds."""
        image = make_disk("kept")
        registered = hypervisor.register_disk(image)
        clone = hypervisor.clone_disk(image, student.home / "clone.vdi")
        assert student.server_ends()
        assert hypervisor.disks() == [registered, clone]

    def test_a_disk_that_went_behind_its_back(self, hypervisor, make_disk):
        image = make_disk("gone")
        hypervisor.register_disk(image)
        image.unlink()
        refusal("missing", lambda: hypervisor.create(VmSettings("empty", image)))
        hypervisor.remove_disk(image)
        assert hypervisor.disks() == []

    def test_a_rule_for_all_addresses_has_the_port(self, hypervisor, make_disk):
        vm = hypervisor.create(VmSettings("nat", make_disk("boot")))
        vm.forward(Forwarding("all", 2222, 22))
        one = Forwarding("one", 2222, 22, host_ip=IPv4Address("127.0.0.1"))
        assert "all" in str(refusal("conflict", lambda: vm.forward(one)))
        vm.forward(Forwarding("udp", 2222, 22, "udp"))
        assert len(vm.forwardings()) == 2

    def test_a_rule_that_somebody_else_made_badly(self, hypervisor, make_disk, student):
        """VirtualBox takes a port that is none."""
        vm = hypervisor.create(VmSettings("nat", make_disk("boot")))
        student.run("modifyvm", "nat", "--natpf1", "bad,tcp,,notaport,,22")
        assert "bad" in str(refusal("refused", vm.forwardings))

    def test_no_kernel_by_itself(self, hypervisor, make_disk):
        image = make_disk("boot")
        refusal("refused", lambda: hypervisor.create(VmSettings("direct", image, kernel=image)))
        assert hypervisor.vms() == []

    def test_snapshots(self, hypervisor, make_disk, student):
        """Their names; that one of a VM that was off is not resumed; and that a disk that is kept has all of it."""
        image = make_disk("boot")
        vm = hypervisor.create(VmSettings("snapped", image))
        vm.snapshot("one")
        vm.snapshot("two")
        refusal("conflict", lambda: vm.snapshot("one"))
        refusal("refused", lambda: vm.snapshot("-not a name"))
        refusal("refused", lambda: vm.resume("one"))
        found = hypervisor.vm("snapped")
        assert found.disk == image
        assert [disk.path for disk in hypervisor.disks()] == [image]
        found.remove(disks=False)
        assert content(image) == boot_disk()
        assert [disk.path for disk in hypervisor.disks()] == [image]
        assert list((student.home / "vms").iterdir()) == []

    def test_the_console_goes_with_the_vm(self, hypervisor, make_disk, student):
        """The console's file is read where VirtualBox was told to write it, and is not what keeps the folder."""
        vm = hypervisor.create(VmSettings("talker", make_disk("boot")))
        assert vm.console() == ""
        answer = student.run("showvminfo", "talker", "--machinereadable")
        mode = next(line for line in answer.splitlines() if line.startswith("uartmode1="))
        assert mode == f'uartmode1="file,{student.home}/vms/talker/console.log"'
        console = student.home / "vms/talker/console.log"
        console.write_bytes(b"Linux version\r\n\xff")
        assert vm.console() == "Linux version\r\n\ufffd"
        vm.remove()
        assert not console.parent.exists()

    def test_debians_wrapper_is_coped_with(self, student, make_disk):
        """It puts a warning before the answers where the kernel driver is missing."""
        wrapped = VirtualBox([*student.vboxmanage[:-1], "/usr/bin/VBoxManage"], student.home / "vms")
        assert wrapped.version()[0].isdigit()
        image = make_disk("boot")
        vm = wrapped.create(VmSettings("wrapped", image))
        assert wrapped.vms() == ["wrapped"]
        assert (vm.state(), wrapped.vm("wrapped").disk) == ("off", image)
        assert len(wrapped.disks()) == 1
        vm.remove()
        assert wrapped.vms() == []

    def test_a_call_ends_in_time(self, student):
        """Startvm-like calls that hang are ended; what they said is in the error."""
        shell = VBoxManage(
            [*student.vboxmanage[:-1], "sh", "-c", "echo 0%...10%... >&2; exec sleep 600", "sh"]
        )
        percent: list[float] = []
        error = refusal("timeout", lambda: shell("waiting", "list", limit=0.5, on_progress=percent.append))
        assert percent == [0, 10]
        assert "within" in error.answer
        assert not student.processes("sleep 600")

    def test_no_such_program(self):
        missing = VirtualBox(["/nonexistent/VBoxManage"])
        assert "install VirtualBox" in str(refusal("configuration", missing.version))


if Path("/dev/vboxdrv").exists():

    class TestWithKernelDriver(RunningNatVmContract):
        """VMs are started here."""

else:

    class TestWithoutKernelDriver:
        """VMs are refused here, and VirtualBox is left as it was."""

        def test_the_machine_is_said_to_be_unable(self, hypervisor, student):
            reason = hypervisor.cannot_start()
            assert "has terminated unexpectedly during startup" in reason
            assert "kernel driver" in reason
            assert "\n" not in reason
            # which is what the program that VirtualBox starts for a VM says where a person would see it
            assert "Kernel driver not installed" in student.vboxheadless()
            assert (hypervisor.vms(), hypervisor.disks()) == ([], [])
            assert list((student.home / "vms").iterdir()) == []

        def test_a_start_is_refused(self, hypervisor, make_disk):
            image = make_disk("boot")
            vm = hypervisor.create(VmSettings("stuck", image))
            error = refusal("configuration", vm.start)
            assert "The virtual machine 'stuck' has terminated unexpectedly during startup" in error.answer
            assert "kernel driver" in error.advice
            assert vm.state() in ("off", "aborted")
            vm.remove()
            assert (hypervisor.vms(), image.exists()) == ([], False)

        def test_a_resume_does_all_but_the_start(self, hypervisor, make_disk, student):
            """VirtualBox is given a saved state to keep; the rules of today hold, not those of the snapshot."""
            vm = hypervisor.create(VmSettings("saved", make_disk("boot")))
            old, new = Forwarding("old", 2222, 22), Forwarding("new", 2223, 22)
            vm.forward(old)
            state = student.home / "state.sav"
            state.write_text("state")
            give(state)
            student.run("adoptstate", "saved", str(state))
            assert vm.state() == "saved"
            vm.snapshot("up")
            student.run("discardstate", "saved")
            assert vm.state() == "off"
            vm.unforward("old")
            vm.forward(new)
            refusal("configuration", lambda: vm.resume("up"))
            assert vm.state() == "saved"
            assert vm.forwardings() == [new]
            vm.remove()
            assert hypervisor.vms() == []
            assert not state.exists()

        def test_what_only_a_running_vm_does(self, hypervisor, make_disk, student):
            """VirtualBox's own words, by which the driver tells such a refusal."""
            hypervisor.create(VmSettings("idle", make_disk("boot")))
            manage = VBoxManage(student.vboxmanage)
            for words in (("acpipowerbutton",), ("poweroff",), ("natpf1", "late,tcp,,2222,,22")):
                error = refusal("refused", lambda words=words: manage("trying", "controlvm", "idle", *words))
                assert error.answer == "Machine 'idle' is not currently running."


def test_a_port_in_use_is_said_before_the_start(hypervisor, make_disk, port_in_use):
    """VirtualBox would start the VM, and write into its log only that the rule is not carried out."""
    vm = hypervisor.create(VmSettings("nat", make_disk("boot")))
    vm.forward(Forwarding("taken", port_in_use, 22))
    error = refusal("conflict", vm.start)
    assert str(port_in_use) in error.answer
    assert vm.state() == "off"


@pytest.fixture
def port_in_use() -> Iterator[int]:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_nothing_outlives_the_namespaces(tmp_path):
    """No process and no mount is left when VirtualBox's namespaces end."""
    with world(tmp_path) as student:
        VirtualBox(student.vboxmanage, student.home / "vms").vms()
        assert student.processes("VBoxSVC")
        init = student.init
    deadline = time.monotonic() + 5
    while alive(init) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(init)
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
