"""Looks of the OpenStack suite's modules: all that the selected checks need, made at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def looked(request: pytest.FixtureRequest, together: Callable[..., Any]) -> Callable[..., Any]:
    """``looked({check: look, ...})``: the looks of the selected checks, all begun at once, for some must wait."""
    selected = {item.name for item in request.session.items}
    return lambda rows: together({name: look for name, look in rows.items() if name in selected})


@pytest.fixture
def seen(request: pytest.FixtureRequest, looks: Any) -> Callable[[], Any]:
    """What this check saw, of its module's ``looks`` that were made at once."""
    return lambda: looks.result(request.node.name)
