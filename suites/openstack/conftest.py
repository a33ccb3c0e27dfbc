"""The OpenStack suite's order: what needs no server first, while the servers boot; what takes longest last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ORDER = ("test_client_and_api", "test_one_vm", "test_topology", "test_operations", "test_removal")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        return ORDER.index(item.path.stem) if item.path.stem in ORDER else len(ORDER)

    mine = [item for item in items if item.path.parent == here]
    ordered = iter(sorted(mine, key=place))
    items[:] = [next(ordered) if item in mine else item for item in items]


@pytest.fixture(scope="module")
def looked(request: pytest.FixtureRequest, together: Callable[..., Any]) -> Callable[..., Any]:
    """``looked({check: look, ...})``: the looks of the selected checks, all begun at once, for some must wait."""
    selected = {item.name for item in request.session.items}
    return lambda rows: together({name: look for name, look in rows.items() if name in selected})


@pytest.fixture
def seen(request: pytest.FixtureRequest, looks: Any) -> Callable[[], Any]:
    """What this check saw, of its module's ``looks`` that were made at once."""
    return lambda: looks.result(request.node.name)
