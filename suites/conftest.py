"""The order of the suites: each system by itself, so that what is made for one does not slow what another looks at.

In a suite, what needs no machine comes first, while the machines boot; what takes longest comes last.
"""

from __future__ import annotations

from pathlib import Path

import pytest

ORDER = (
    # the twins boot when Docker's VM has made its containers
    "virtualbox/test_nat", "docker", "virtualbox", "comparison",
    "openstack/test_client_and_api", "openstack/test_one_vm", "openstack/test_topology",
    "openstack/test_operations", "openstack/test_removal", "openstack",
    "calculator", "kubernetes",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def place(item: pytest.Item) -> tuple[bool, int]:
        module = item.path.relative_to(here).with_suffix("").as_posix()
        # what removes a part that other suites use comes when they have ended
        removes = item.get_closest_marker("removes") is not None
        named = (module, module.partition("/")[0])
        return removes, next((index for index, name in enumerate(ORDER) if name in named), len(ORDER))

    mine = [item for item in items if here in item.path.parents]
    ordered = iter(sorted(mine, key=place))
    items[:] = [next(ordered) if here in item.path.parents else item for item in items]
