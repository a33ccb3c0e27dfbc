"""Runs of checks in a folder of their own, and what they leave."""

from __future__ import annotations

import html.parser
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from reports.runfile import read

ROOT = str(Path(__file__).resolve().parent.parent)

HEAD = """
import time
import pytest
from probes.observation import Observation, Outcome, Unproven, evidence

def look(source="desktop", command="ping -c3 10.1.0.5", output="3 received", outcome=Outcome.REACHABLE):
    return evidence.add(Observation("ping", source, "vm", command, outcome, output, {}, time.time(), 0.1))

claim = pytest.mark.claim
"""

EVERY_PATH = """
@pytest.fixture
def unproven_fixture():
    raise Unproven("the API was down")

@pytest.fixture
def broken_fixture():
    raise RuntimeError("no image ubuntu on this cloud: name another one in the lab file")

@pytest.fixture
def skipping_fixture():
    pytest.skip("this lab has no Docker")

@pytest.fixture
def leaking_fixture():
    yield
    raise RuntimeError("port 5c2f is still there")

@claim("OS-07")
def test_passes():
    look()

@claim("OS-05")
def test_fails():
    look()
    raise AssertionError("10.1.0.5 answers the desktop\\nrouter: the rule is missing")

@claim("OS-06")
def test_unproven_in_call():
    raise Unproven("the positive control was not reached")

@claim("OS-08")
def test_unproven_in_fixture(unproven_fixture):
    pass

@claim("TOP-05")
def test_breaks():
    {}["ttl"]

@claim("OP-01")
def test_not_set_up(broken_fixture):
    pass

@claim("CT-01")
def test_skips(skipping_fixture):
    pass

@claim("CT-02")
def test_skips_itself():
    pytest.skip("no second user")

@claim("OP-02")
def test_leaves_something(leaking_fixture):
    pass

@claim("OP-03")
def test_fails_and_leaves_something(leaking_fixture):
    assert 1 == 2, "smaller than before"

@claim("OP-04")
def test_unproven_and_leaves_something(leaking_fixture):
    raise Unproven("resize never came to an end")
"""
"""Every way that a check can end."""


class Ran:
    """An inner run, and what it left in its report folder."""

    def __init__(self, pytester: pytest.Pytester, result: pytest.RunResult) -> None:
        self.result = result
        self.out = pytester.path / "reports" / "out"
        self.terminal = result.stdout.str()

    @property
    def folder(self) -> Path:
        return self.out / "latest"

    @property
    def run(self) -> dict[str, Any]:
        return read(self.folder / "run.json")

    @property
    def checks(self) -> dict[str, dict[str, Any]]:
        return {each["id"].rpartition("::")[2]: each for each in self.run["checks"]}

    @property
    def html(self) -> str:
        return (self.folder / "report.html").read_text(encoding="utf-8")

    @property
    def shown(self) -> list[str]:
        """The verdicts of the checks that the report tells, one for each."""
        return re.findall(r'<details class="lp-check" id="lp-check-\d+" data-v="(\w+)"', self.html)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """pytest-html's own table: tests that prove no claim."""
        blob = re.search(r'data-jsonblob="([^"]*)"', self.html)
        assert blob is not None
        tests: dict[str, list[dict[str, Any]]] = json.loads(html.unescape(blob[1]))["tests"]
        return [each for rows in tests.values() for each in rows]

    @property
    def cases(self) -> list[ET.Element]:
        return list(ET.parse(self.folder / "junit.xml").iter("testcase"))


def ran(pytester: pytest.Pytester, source: str, *arguments: str) -> Ran:
    pytester.makeconftest('pytest_plugins = ["fixtures.verdicts"]')
    suites = pytester.path / "suites"
    suites.mkdir(exist_ok=True)
    (suites / "test_inner.py").write_text(HEAD + source, encoding="utf-8")
    return Ran(
        pytester,
        pytester.runpytest_inprocess(
            "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *(arguments or ("suites",))
        ),
    )
