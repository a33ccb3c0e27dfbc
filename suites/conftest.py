"""The order of the suites: each system by itself, so that what is made for one does not slow what another looks at."""

from __future__ import annotations

from pathlib import Path

import pytest

ORDER = ("virtualbox", "docker", "comparison", "openstack", "calculator", "kubernetes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def place(item: pytest.Item) -> tuple[bool, int]:
        name = item.path.relative_to(here).parts[0]
        # what removes a part that other suites use comes when they have ended
        return item.get_closest_marker("removes") is not None, ORDER.index(name) if name in ORDER else len(
            ORDER
        )

    mine = [item for item in items if here in item.path.parents]
    ordered = iter(sorted(mine, key=place))
    items[:] = [next(ordered) if here in item.path.parents else item for item in items]
