"""Objectives 2 and 3: a VM against a container, and NAT against bridge, as measured on this lab."""

from __future__ import annotations

import re

import pytest

from probes.reach import command, fact, facts, not_reached, ping, reached

VM = "10.0.2.15"
KERNEL = "cat /proc/sys/kernel/random/boot_id; uname -sr"


@pytest.mark.acts
@pytest.mark.claim("CMP-01")
def test_the_container_is_ahead_in_start_up_memory_and_disk(comparison):
    """Start until it is up, memory, disk: measured side by side, the container takes less of each."""
    vm, container = comparison.vm, comparison.container
    assert container.seconds < vm.seconds, (
        f"start: container {container.seconds:.2f} s, VM {vm.seconds:.2f} s"
    )
    assert 0 < container.memory_mb < vm.memory_mb, (
        f"memory: container {container.memory_mb:.1f} MiB, VM {vm.memory_mb:.1f} MiB"
    )
    assert 0 < container.disk_mb < vm.disk_mb, (
        f"disk: container {container.disk_mb:.0f} MiB, VM {vm.disk_mb:.0f} MiB"
    )


@pytest.mark.claim("CMP-02")
def test_a_vm_has_a_kernel_of_its_own_and_a_container_its_hosts(natvm, ct1, desktop):
    """The kernel that a container shows booted when its host's did; the VM's is another boot than the desktop's."""
    host, vm, container = facts(fact(desktop, KERNEL), fact(natvm.host, KERNEL), fact(ct1.host, KERNEL))
    assert vm.output.split()[0] != host.output.split()[0], f"the VM runs the desktop's kernel: {vm}"
    assert container.output == vm.output, f"the container's kernel is not its host's: {container}"


@pytest.mark.claim("CMP-03")
def test_behind_nat_a_machine_is_out_of_reach_and_bridged_it_is_not(
    natvm, desktop, neighbour, lan_address, outside
):
    """From the LAN, the NAT VM's address does not answer; a host that is bridged into the LAN does, by its own."""
    route = command(neighbour, "ip -4 route get %s", lan_address)
    found = re.search(r"src (\S+)", route.output)
    assert found, f"the neighbour has no way to the desktop: {route}"
    reached(ping(desktop, found[1]))
    not_reached(
        ping(neighbour, VM),
        alive=[ping(neighbour, lan_address), fact(natvm.host, f"ip -4 -o address show | grep -F ' {VM}/'")],
    )
