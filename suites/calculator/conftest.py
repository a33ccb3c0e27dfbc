"""The calculator suite's order: first what stands first, so that VMs boot while the others are checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.calculator import ARRANGEMENTS, OTHERS_MAKING

ORDER = (OTHERS_MAKING, *ARRANGEMENTS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def place(item: pytest.Item) -> tuple[int, bool]:
        call = getattr(item, "callspec", None)
        named = (
            {call.params["app"]} if call and "app" in call.params else set(getattr(item, "fixturenames", ()))
        )
        stage = max((ORDER.index(name) for name in named if name in ORDER), default=0)
        # what changes an arrangement comes after what only looks at it
        return stage, item.get_closest_marker("acts") is not None

    mine = [item for item in items if item.path.parent == here]
    ordered = iter(sorted(mine, key=place))
    items[:] = [next(ordered) if item in mine else item for item in items]
