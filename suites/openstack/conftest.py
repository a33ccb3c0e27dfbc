"""The OpenStack suite's order: what needs no server first, while the servers boot; what takes longest last."""

from __future__ import annotations

from pathlib import Path

import pytest

ORDER = ("test_client_and_api", "test_one_vm", "test_topology", "test_operations", "test_removal")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        return ORDER.index(item.path.stem) if item.path.stem in ORDER else len(ORDER)

    mine = [item for item in items if item.path.parent == here]
    ordered = iter(sorted(mine, key=place))
    items[:] = [next(ordered) if item in mine else item for item in items]
