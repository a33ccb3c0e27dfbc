"""Plugins of the project's own, for suites/ and tests/ alike."""

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
