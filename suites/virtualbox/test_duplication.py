"""Objective 4, the duplication: what a copied and a cloned disk are to the hypervisor, and two VMs to each other."""

from __future__ import annotations

import shutil

import pytest

from probes.reach import command, fact, facts
from provision.natvm import NatVmError

VM = "10.0.2.15"
BOOT = "cat /proc/sys/kernel/random/boot_id"


@pytest.mark.acts
@pytest.mark.claim("DUP-01")
def test_a_disk_that_is_merely_copied_is_refused(hypervisor, original, scratch, noted_call):
    """Its UUID is registered already: the hypervisor says so, and does not register it a second time."""
    copy = scratch / f"copy{original.vm.disk.suffix}"
    shutil.copyfile(original.vm.disk, copy)
    with pytest.raises(NatVmError) as refused:
        noted_call(
            f"register {copy.name}, a copy of {original.vm.disk.name}", lambda: hypervisor.register_disk(copy)
        )
    assert refused.value.kind == "conflict", f"refused otherwise: {refused.value}"
    assert "UUID" in refused.value.answer, f"the refusal does not name the UUID: {refused.value.answer}"
    known = {disk.path: disk.uuid for disk in hypervisor.disks()}
    assert copy not in known, "the copy is registered"
    assert original.vm.disk in known, "the disk it is a copy of is no longer registered"
    assert list(known.values()).count(known[original.vm.disk]) == 1, f"a UUID is there twice: {known}"


@pytest.mark.acts
@pytest.mark.claim("DUP-02")
def test_a_clone_has_a_uuid_of_its_own_in_the_same_format(cloned):
    """clonemedium: another UUID, the same format and size; its progress goes up to 100 percent."""
    assert cloned.disk.uuid != cloned.source.uuid, f"the clone has the source's UUID {cloned.disk.uuid}"
    assert cloned.disk.format == cloned.source.format
    assert cloned.disk.size_mb == cloned.source.size_mb
    assert cloned.disk.path.is_file()
    assert cloned.progress, "no progress was shown"
    assert cloned.progress == sorted(cloned.progress), f"the progress went back: {cloned.progress}"
    assert cloned.progress[-1] == 100, f"the progress ended at {cloned.progress[-1]}"


@pytest.mark.acts
@pytest.mark.claim("DUP-03")
def test_a_vm_on_the_cloned_disk_boots_beside_the_first_and_has_its_contents(original_vm, twin, mark_on_disk):
    """What was written on the first VM's disk before the cloning is on the clone's; both run at the same time."""
    boots = facts(*(fact(each.host, BOOT) for each in (original_vm, twin)))
    assert all(each.numbers.get("status") == 0 for each in boots), f"not both answer: {boots}"
    assert boots[0].output != boots[1].output, "both sessions are in one machine"
    seen = command(twin.host, "cat %s", mark_on_disk.file)
    assert seen.output.strip() == mark_on_disk.text, f"the clone does not have the first's file: {seen}"


@pytest.mark.claim("NAT-06")
def test_two_nat_vms_have_the_same_address_and_do_not_reach_each_other(natvm, twin, twins_apart):
    """Both have 10.0.2.15 and are two machines; what listens on one's port is not there for the other."""
    seen = facts(*(fact(each.host, f"{BOOT}; ip -4 -o address show scope global") for each in (natvm, twin)))
    for each in seen:
        assert f" {VM}/24 " in each.output, f"{each.source} does not have {VM}: {each}"
    boots = {each.output.split()[0] for each in seen}
    assert len(boots) == 2, "both sessions are in one machine"
    twins_apart()


@pytest.mark.acts
@pytest.mark.claim("DUP-04")
def test_cloning_a_disk_that_cannot_be_read_fails_and_leaves_nothing(
    hypervisor, unreadable, scratch, noted_call
):
    """The hypervisor's own error says so, and neither a file nor a registered disk of the clone is there."""
    target = scratch / f"never{unreadable.suffix}"
    with pytest.raises(NatVmError) as failed:
        noted_call(f"clone {unreadable.name}", lambda: hypervisor.clone_disk(unreadable, target))
    assert failed.value.kind == "access", f"it failed otherwise: {failed.value}"
    said = failed.value.answer
    assert "VERR_ACCESS_DENIED" in said or "Permission denied" in said, f"the error does not say why: {said}"
    assert not target.exists(), "the clone's file is left"
    assert target not in {disk.path for disk in hypervisor.disks()}, "a disk was registered"
