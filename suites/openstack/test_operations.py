"""Objective 7: snapshot, restore and resize; and the floating IP that moves (objective 6), since it needs two VMs."""

from __future__ import annotations

import pytest

from fixtures.operations import AFTER, BEFORE, PROGRAM
from probes.observation import Unproven
from probes.reach import command, fact, facts, not_reached, ping, reached, wait_until
from provision.servers import Refusal

TAKES_EFFECT = 30


@pytest.mark.acts
@pytest.mark.claim("OP-01")
def test_the_snapshot_is_an_active_private_image(restored, operations, cloud):
    """The snapshot is active and private, and no smaller than the image that the VM was made from."""
    image, source = restored.image, cloud.api.image.get_image(cloud.image().id)
    assert image.status == "active", f"the snapshot is {image.status}"
    assert image.visibility == "private", f"the snapshot is {image.visibility}, so others see it"
    assert image.size >= source.size, f"the snapshot has {image.size} bytes, its source {source.size}"
    vm_id = operations.deployment.hosts["vm"].server_id
    assert image.properties.get("instance_uuid", image.instance_uuid) == vm_id, (
        "it is not a snapshot of that VM"
    )


@pytest.mark.acts
@pytest.mark.claim("OP-02")
def test_the_restored_vm_is_as_the_snapshot_was(restored, vm):
    """What was there before the snapshot is there, software included; what came after it is not."""
    old, program, new = facts(
        fact(restored.made.host, "cat %s", BEFORE),
        fact(restored.made.host, "%s", PROGRAM),
        fact(restored.made.host, "ls %s", AFTER),
    )
    original = command(vm, "cat %s", AFTER)
    assert "after the snapshot" in original.output, f"the change after the snapshot was not made: {original}"
    assert "before the snapshot" in old.output, f"the file made before the snapshot is not there: {old}"
    assert program.output.strip() == "hello", (
        f"the software installed before the snapshot does not run: {program}"
    )
    assert new.numbers["status"] != 0, f"a change made after the snapshot is in the restored VM: {new}"
    assert "No such file" in new.output, f"it cannot be told whether the later change is there: {new}"


@pytest.mark.acts
@pytest.mark.claim("OP-03")
def test_restoring_accepts_a_larger_flavor(restored, cloud, memory_of):
    """The VM restored from the snapshot has the larger flavor that was asked for, and its guest sees the memory."""
    larger, smaller = cloud.flavor(restored.flavor), cloud.flavor(restored.source_flavor)
    assert larger.ram > smaller.ram, "the lab's flavors do not grow"
    seen = memory_of(restored.made.host)
    assert seen.memory_mb > smaller.ram, (
        f"the guest has {seen.memory_mb} MiB, as much as {smaller.name} gives"
    )
    assert seen.memory_mb <= larger.ram, f"the guest has {seen.memory_mb} MiB, more than {larger.name} gives"


@pytest.mark.acts
@pytest.mark.claim("OP-04")
@pytest.mark.parametrize("change", ["resized_running", "resized_stopped"])
def test_resize_to_a_larger_flavor(change, request, cloud):
    """On a running VM and on a stopped one: the guest sees more memory and a larger disk afterwards."""
    done = request.getfixturevalue(change)
    assert not isinstance(done.outcome, Refusal), (
        f"the resize to {done.flavor} was refused: {done.outcome.text}"
    )
    flavor = cloud.flavor(done.flavor)
    assert done.after.boot != done.before.boot, "the guest was not started anew: it cannot have another size"
    assert done.before.memory_mb < done.after.memory_mb <= flavor.ram, (
        f"memory was {done.before.memory_mb} MiB and is {done.after.memory_mb} MiB; {flavor.name} has {flavor.ram}"
    )
    assert done.after.cpus == flavor.vcpus, (
        f"the guest has {done.after.cpus} processors; {flavor.name} {flavor.vcpus}"
    )
    assert done.before.disk_gb < done.after.disk_gb == flavor.disk, (
        f"the disk was {done.before.disk_gb:g} GiB and is {done.after.disk_gb:g}; {flavor.name} has {flavor.disk}"
    )


@pytest.mark.acts
@pytest.mark.claim("OP-05")
def test_resize_to_too_small_a_disk_is_refused_and_does_no_harm(resize_refused):
    """The refusal names the disk; the VM goes on as it was, not even started anew."""
    done = resize_refused
    assert isinstance(done.outcome, Refusal), f"the resize to the smaller {done.flavor} was carried out"
    if done.outcome.text == "resize: Error":
        raise Unproven("the resize was given up, but the cloud does not tell its users why")
    assert "disk" in done.outcome.text.lower(), f"refused, but not because of the disk: {done.outcome.text}"
    before, after = done.before, done.after
    assert (after.memory_mb, after.disk_gb, after.cpus) == (before.memory_mb, before.disk_gb, before.cpus), (
        f"the guest's size changed: {before} -> {after}"
    )
    assert after.boot == before.boot, "the guest was started anew by a resize that was refused"


@pytest.mark.acts
@pytest.mark.claim("OP-06")
@pytest.mark.parametrize("lack", ["quota", "right"])
def test_a_resize_without_quota_or_right_is_refused_as_that(lack, resize_without):
    """The refusal says that quota or rights are missing: the cloud is not broken, and the server is as it was."""
    refusal, before, after = resize_without(lack)
    assert refusal.status == 403, (
        f"refused with HTTP {refusal.status}, which does not say forbidden: {refusal.text}"
    )
    words = {"quota": ("quota",), "right": ("policy", "not allowed", "forbidden")}[lack]
    assert any(word in refusal.text.lower() for word in words), (
        f"the refusal does not name the {lack}: {refusal.text}"
    )
    assert (after.status, after.flavor.name) == (before.status, before.flavor.name), (
        "the refused resize changed the server"
    )


@pytest.mark.acts
@pytest.mark.claim("OS-09")
def test_a_floating_ip_is_down_until_associated_and_moves(
    spare_ip, operations, growing, restored, resize_refused, desktop, vm
):
    """Not associated it is DOWN and unreachable; associated it is ACTIVE and leads to that VM, and then to another."""
    way = ping(desktop, operations.floating_ip("vm"))
    assert spare_ip.status() == "DOWN", f"not associated, the floating IP is {spare_ip.status()}"
    not_reached(ping(desktop, spare_ip.address), alive=[way])
    for to in (restored.made, growing):
        spare_ip.associate(to.server.id)
        reached(ping(vm, to.address))
        wait_until(ping(desktop, spare_ip.address), reached=True, within=TAKES_EFFECT)
        assert spare_ip.status() == "ACTIVE", f"associated, the floating IP is {spare_ip.status()}"
        boot = "cat /proc/sys/kernel/random/boot_id"
        there, here = facts(fact(spare_ip.enter(to.host.name), boot), fact(to.host, boot))
        assert there.output == here.output, (
            f"the floating IP leads to another VM than {to.host.name}: {there}"
        )
    spare_ip.associate(None)
    assert spare_ip.status() == "DOWN", f"taken away, the floating IP is {spare_ip.status()}"
    wait_until(
        ping(desktop, spare_ip.address),
        reached=False,
        within=TAKES_EFFECT,
        alive=[way, ping(vm, growing.address)],
    )


@pytest.mark.acts
@pytest.mark.claim("API-04")
def test_all_of_it_was_done_through_the_api(operations, growing, restored, resize_refused, servers, cloud):
    """The cloud's own log of actions shows every operation of objectives 6 and 7, made by this user over the API."""
    user = cloud.api.current_user_id
    wanted = {
        growing.server.id: {"create", "resize", "confirmResize", "stop", "start"},
        operations.deployment.hosts["vm"].server_id: {"create", "createImage"},
        restored.made.server.id: {"create"},
    }
    for server_id, kinds in wanted.items():
        actions = servers.actions(servers.compute.get_server(server_id))
        missing = kinds - {action["action"] for action in actions}
        assert not missing, f"the cloud's log of server {server_id} has no {', '.join(sorted(missing))}"
        strangers = {action["user_id"] for action in actions} - {user}
        assert not strangers, f"somebody else acted on server {server_id}: {', '.join(strangers)}"
