"""The fixtures of all modules are in one place for pytest: two of one name, and one of them is never used."""

from __future__ import annotations

import importlib
from collections import Counter

from _pytest.fixtures import FixtureFunctionDefinition

import conftest


def test_no_two_modules_have_a_fixture_of_one_name() -> None:
    names = Counter(
        value.name or name
        for plugin in conftest.pytest_plugins
        if plugin.startswith("fixtures.")
        for name, value in vars(importlib.import_module(plugin)).items()
        if isinstance(value, FixtureFunctionDefinition) and value.__module__ == plugin
    )
    assert len(names) > 50
    assert [name for name, count in names.items() if count > 1] == []
