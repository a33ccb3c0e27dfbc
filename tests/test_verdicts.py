"""The verdicts plugin, by running small suites of its own and reading all that they leave."""

from __future__ import annotations

import html.parser
import re
import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from reports.claims import load
from tests.inner_runs import EVERY_PATH, ran

EXPECTED = {
    "test_passes": "pass",
    "test_fails": "fail",
    "test_unproven_in_call": "unproven",
    "test_unproven_in_fixture": "unproven",
    "test_breaks": "unproven",
    "test_not_set_up": "unproven",
    "test_skips": "skip",
    "test_skips_itself": "skip",
    "test_leaves_something": "pass",
    "test_fails_and_leaves_something": "fail",
    "test_unproven_and_leaves_something": "unproven",
}
COUNTS = Counter(EXPECTED.values())


def test_every_path_to_a_verdict_is_told_alike_in_all_four_outputs(pytester: pytest.Pytester) -> None:
    inner = ran(pytester, EVERY_PATH)

    assert {name: check["verdict"] for name, check in inner.checks.items()} == EXPECTED
    assert inner.run["summary"]["verdicts"] == {v: COUNTS[v] for v in ("pass", "fail", "unproven", "skip")}

    assert Counter(inner.shown) == COUNTS
    tiles = re.findall(r'<li class="lp-tile lp-(\w+)"><b>(\d+)</b>', inner.html)
    assert {verdict: int(count) for verdict, count in tiles} == COUNTS
    assert inner.rows == []

    kinds = Counter(
        each.get("type", each.tag) for case in inner.cases for each in case if each.tag != "properties"
    )
    assert kinds == {"fail": 2, "unproven": 5, "left behind": 3, "pytest.skip": 2}
    suite = ET.parse(inner.folder / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("2", "8", "2")

    last = inner.result.parseoutcomes()
    assert last == {"failed": 2, "passed": 2, "skipped": 2, "errors": 3, "unproven": 5}
    assert inner.result.ret == pytest.ExitCode.TESTS_FAILED == inner.run["exit_status"]
    assert inner.terminal.rstrip().splitlines()[-1].startswith("report: ")
    assert "suites/test_inner.py .FUUUUss.EFEUE" in inner.terminal


def test_each_verdict_comes_with_its_reason(pytester: pytest.Pytester) -> None:
    checks = ran(pytester, EVERY_PATH).checks

    assert checks["test_fails"]["reason"] == "10.1.0.5 answers the desktop"
    assert checks["test_fails"]["diagnosis"] == [
        "10.1.0.5 answers the desktop",
        "router: the rule is missing",
    ]
    assert checks["test_unproven_in_call"]["reason"] == "the positive control was not reached"
    assert checks["test_unproven_in_fixture"]["reason"] == "the API was down"
    assert checks["test_breaks"]["reason"] == "the check itself broke: KeyError: 'ttl'"
    assert checks["test_not_set_up"]["reason"].startswith("no image ubuntu on this cloud")
    assert "RuntimeError" in checks["test_not_set_up"]["traceback"]
    assert checks["test_skips"]["reason"] == "this lab has no Docker"
    assert checks["test_leaves_something"]["left_behind"] == "port 5c2f is still there"
    assert not checks["test_passes"]["left_behind"]


def test_all_that_several_tear_downs_left_behind_is_named(pytester: pytest.Pytester) -> None:
    inner = ran(
        pytester,
        """
@pytest.fixture
def leaks_port():
    yield
    raise RuntimeError("port 5c2f is still there")

@pytest.fixture(scope="session")
def leaks_network():
    yield
    raise RuntimeError("network front is still there")

@claim("OS-07")
def test_it(leaks_network, leaks_port): look()
""",
    )
    left = set(inner.checks["test_it"]["left_behind"].splitlines())
    assert left == {"port 5c2f is still there", "network front is still there"}
    assert all(inner.terminal.count(f"test_it: {each}") == 1 for each in left)
    assert inner.checks["test_it"]["verdict"] == "pass"
    assert inner.result.ret == pytest.ExitCode.TESTS_FAILED
    assert "left something behind" in html.unescape(inner.html)


def test_the_terminal_tells_the_unproven_without_their_tracebacks(pytester: pytest.Pytester) -> None:
    inner = ran(pytester, EVERY_PATH)

    inner.result.stdout.fnmatch_lines(
        [
            "*objective*pass*fail*unproven*skip*",
            "*6 OpenStack, one VM *1 *1 *2 *-",
            "*unproven*",
            "OS-06 *test_unproven_in_call",
            "*because: the positive control was not reached",
            "*failed*",
            "OS-05 *test_fails",
            "*expected: Desktop -> the VM's private address: ping fails",
            "*seen: 10.1.0.5 answers the desktop",
            "*left behind*",
            "*port 5c2f is still there",
        ]
    )
    assert "def unproven_fixture" not in inner.terminal


def test_an_unproven_check_alone_makes_the_run_fail(pytester: pytest.Pytester) -> None:
    inner = ran(pytester, "@claim('OS-05')\ndef test_it():\n    raise Unproven('no shell')")
    assert inner.result.ret == pytest.ExitCode.TESTS_FAILED
    assert inner.result.parseoutcomes() == {"unproven": 1}
    assert inner.run["claims"]["OS-05"]["verdict"] == "unproven"


def test_verbose_spells_the_verdict(pytester: pytest.Pytester) -> None:
    inner = ran(pytester, "@claim('OS-05')\ndef test_it():\n    raise Unproven('x y z')", "-v", "suites")
    inner.result.stdout.fnmatch_lines(["*::test_it UNPROVEN*"])


def test_all_passed_is_green_and_exits_with_zero(pytester: pytest.Pytester) -> None:
    inner = ran(pytester, "@claim('OS-07')\ndef test_it():\n    look()")
    assert inner.result.ret == inner.run["exit_status"] == 0
    assert inner.run["not_proven"] == []
    assert inner.run["claims"] == {
        "OS-07": {
            "objective": 6,
            "text": load()["OS-07"].text,
            "verdict": "pass",
        }
    }


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("pytest.fail('it answers')", "fail"),
        ("with pytest.raises(ValueError): pass", "fail"),
        ("raise ExceptionGroup('all', [Unproven('no shell'), AssertionError('it answers')])", "fail"),
        ("raise ExceptionGroup('all', [Unproven('no shell'), Unproven('no route')])", "unproven"),
        ("raise ExceptionGroup('all', [Unproven('no shell'), OSError('broken pipe')])", "unproven"),
        ("pytest.xfail('not today')", "unproven"),
        ("raise TimeoutError", "unproven"),
        ("raise SystemError(chr(10) * 3)", "unproven"),
        ("assert not 'empty'", "fail"),
        ("raise AssertionError", "fail"),
    ],
)
def test_whose_fault_it_is(pytester: pytest.Pytester, body: str, verdict: str) -> None:
    inner = ran(pytester, f"@claim('OS-05')\ndef test_it():\n    {body}")
    check = inner.checks["test_it"]
    assert check["verdict"] == verdict
    assert check["reason"]
    assert inner.result.ret == pytest.ExitCode.TESTS_FAILED
    assert inner.result.parseoutcomes() == {"failed" if verdict == "fail" else "unproven": 1}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("@claim('OS-99')\ndef test_it(): pass", "suites/test_inner.py: test_it: unknown claim 'OS-99'"),
        ("@claim()\ndef test_it(): pass", "suites/test_inner.py: test_it: claim mark without an id"),
        ("@claim('OS-05', 7)\ndef test_it(): pass", "test_it: unknown claim 7"),
        ("@pytest.mark.xfail\n@claim('OS-05')\ndef test_it(): pass", "cannot be expected to fail"),
    ],
)
def test_a_wrong_mark_is_refused_at_collection(pytester: pytest.Pytester, source: str, said: str) -> None:
    inner = ran(pytester, source)
    assert inner.result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in inner.result.stderr.str()
    assert not inner.out.exists()
