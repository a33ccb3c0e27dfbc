"""Faults of objective 7: snapshot, restore, resize."""

from __future__ import annotations

from collections.abc import Iterator

from fixtures.operations import AFTER
from tests.faults.fault import fault
from tests.faults.scopes import GROWING, RESTORED
from tests.faults.world import World


@fault(
    "no-quota-to-resize", "The project's quota of memory leaves no room for a larger flavor", GROWING,
    red="OP-04", words="uota",
)  # fmt: skip
def no_quota_to_resize(world: World) -> Iterator[None]:
    project, compute = world.cloud.project, world.admin.compute
    used = world.cloud.api.compute.get_limits().absolute.total_ram_used
    flavor = world.cloud.flavor("nano").ram
    granted = compute.get_quota_set(project).ram
    compute.update_quota_set(project, ram=used + flavor + 16)
    try:
        yield
    finally:
        compute.update_quota_set(project, ram=granted)


@fault(
    "snapshot-too-late", "The snapshot was taken after the change that it should not have", RESTORED,
    red="OP-02", words="a change made after the snapshot is in the restored VM",
)  # fmt: skip
def snapshot_too_late(world: World) -> Iterator[None]:
    vm = world.standing("operations").hosts["vm"]
    with world.changed(vm, "echo too early | sudo tee %s && sync", "sudo rm -f %s", AFTER):
        yield
