"""Plugins of the project's own, for suites/ and tests/ alike."""

from __future__ import annotations

import sys

import pytest

pytest_plugins = [
    "pytester",
    "fixtures.verdicts",
    "fixtures.attach",
    "fixtures.interrupts",
    "fixtures.lab",
    "fixtures.run",
    "fixtures.explanations",
    "fixtures.openstack",
    "fixtures.cloud_looks",
    "fixtures.cloud_acts",
    "fixtures.natvm",
    "fixtures.docker",
    "fixtures.comparison",
    "fixtures.kubernetes",
    "fixtures.kubernetes_looks",
    "fixtures.calculator_cloud",
    "fixtures.calculator",
]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Hypothesis's plugin imports all of it in the end, to say that no check used it: a second of each run."""
    plugin = session.config.pluginmanager.get_plugin("hypothesispytest")
    if plugin and "hypothesis" not in sys.modules:
        session.config.pluginmanager.unregister(plugin)
