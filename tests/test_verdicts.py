"""The verdicts plugin, by running small suites of its own and reading all that they leave."""

from __future__ import annotations

import html.parser
import json
import re
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from reports.claims import load
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


def test_no_folder_without_checks_that_run(pytester: pytest.Pytester) -> None:
    source = "@claim('OS-05')\ndef test_it(): pass\n\ndef test_plain(): pass"
    for arguments in (["--collect-only"], ["-k", "plain"], ["--setup-plan"]):
        assert not ran(pytester, source, *arguments, "suites").out.exists()


def test_tests_without_claims_keep_pytests_outcomes(pytester: pytest.Pytester) -> None:
    source = """
@pytest.fixture
def broken(): raise RuntimeError("x")
def test_error(broken): pass
def test_raises(): raise Unproven("not a check")
"""
    inner = ran(pytester, source)
    assert inner.result.parseoutcomes() == {"errors": 1, "failed": 1}
    assert not inner.out.exists()


def test_files_that_the_user_names_are_respected(pytester: pytest.Pytester) -> None:
    inner = ran(pytester, EVERY_PATH, "--html=mine.html", "--junitxml=mine.xml", "suites")
    assert sorted(each.name for each in inner.folder.iterdir()) == ["run.json"]
    mine = (pytester.path / "mine.html").read_text()
    assert "lp-badge lp-unproven" in mine
    assert 'class="lp-claim" id="OS-05" data-v="fail"' in mine
    assert 'type="unproven"' in (pytester.path / "mine.xml").read_text()


def test_report_dir_and_latest(pytester: pytest.Pytester) -> None:
    source = "@claim('OS-07')\ndef test_it(run_id, run_name):\n    assert run_name.endswith('-' + run_id)"
    for _ in range(2):
        assert ran(pytester, source, "--report-dir=elsewhere", "suites").result.ret == 0
    folders = sorted(each for each in (pytester.path / "elsewhere").iterdir() if not each.is_symlink())
    assert len(folders) == 2
    latest = pytester.path / "elsewhere" / "latest"
    assert not latest.readlink().is_absolute()
    assert latest.resolve() in folders
    assert re.fullmatch(r"\d{8}-\d{6}-[a-z2-7]{5}", latest.resolve().name)
    assert sorted(each.name for each in latest.iterdir()) == ["junit.xml", "report.html", "run.json"]


def test_a_report_dir_that_cannot_be_is_said(pytester: pytest.Pytester) -> None:
    (pytester.path / "taken").write_text("")
    inner = ran(pytester, "@claim('OS-07')\ndef test_it(): pass", "--report-dir=taken", "suites")
    assert inner.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "the run's folder cannot be made" in inner.result.stderr.str()


def test_evidence_facts_drawings_and_timings_are_kept(pytester: pytest.Pytester) -> None:
    inner = ran(
        pytester,
        """
@pytest.fixture(scope="session")
def cloud(run_facts, add_drawing, add_timing):
    run_facts.update(lab="box", os_password="hunter2", auth="https://me:hunter2@cloud/")
    run_facts["versions"] = {"nova": 26}
    add_drawing("topology", '<svg xmlns="http://www.w3.org/2000/svg"><text>old</text></svg>')
    add_drawing("topology", '<svg xmlns="http://www.w3.org/2000/svg"><text>calculator</text></svg>')
    add_timing("networks", 1.25)
    look("api", "openstack server list")
    yield
    look("api", "openstack server delete")

@pytest.mark.acts
@claim("OS-07", "OS-05")
def test_it(cloud, diagnose):
    '''The desktop looks.

    And more.'''
    look("desktop", "second")
    look("desktop", "third")
    diagnose("RT1: no rule for ICMP")
    assert False, "it does not answer"

@claim("OS-06")
def test_other(cloud):
    look("vm", "fourth")
""",
    )
    check = inner.checks["test_it"]
    assert [each["command"] for each in check["observations"]] == ["openstack server list", "second", "third"]
    assert [each["command"] for each in inner.checks["test_other"]["observations"]] == ["fourth"]
    assert check["where"] == ["api", "desktop"]
    assert check["claims"] == ["OS-05", "OS-07"]
    assert check["objectives"] == ["6"]
    assert check["title"] == "The desktop looks."
    assert check["acts"] is True
    assert check["diagnosis"][0] == "RT1: no rule for ICMP"
    assert set(check["phases"]) == {"setup", "call", "teardown"}
    assert inner.run["lab"] == "box"
    assert inner.run["timings"] == [{"step": "networks", "seconds": 1.25}]
    assert [each["title"] for each in inner.run["drawings"]] == ["topology"]
    assert inner.run["facts"]["versions"] == {"nova": 26}
    assert "calculator</text>" in inner.html
    for name in ("run.json", "report.html", "junit.xml"):
        assert "hunter2" not in (inner.folder / name).read_text()


def test_the_environment_does_not_leak(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITLAB_CI", "leaked-value")
    monkeypatch.setenv("CI_SERVER_NAME", "leaked-value")
    inner = ran(
        pytester, "@claim('OS-07')\ndef test_it(): pass", "--metadata", "token", "leaked-value", "suites"
    )
    assert "leaked-value" not in inner.html
    assert "Python" in inner.html


def test_hostile_output_is_harmless(pytester: pytest.Pytester) -> None:
    inner = ran(
        pytester,
        r"""
EVIL = "\x1b[31m<script>alert(1)</script>\x1b]0;title\x07\x00\u202e\udc80"
EVIL += " ]]> </pre><img src=x onerror=alert(2)>"

@claim("OS-07")
def test_prints(run_facts):
    run_facts[EVIL] = {EVIL: EVIL}
    look(EVIL, EVIL, EVIL + "A" * 5_000_000 + "the end")
    print(EVIL + "C" * 5_000_000)
    raise AssertionError(EVIL + "\n" + "B" * 5_000_000)

@claim("OS-06")
@pytest.mark.parametrize("name", ["<script>alert(3)</script>"])
def test_unproven(name):
    raise Unproven(EVIL + "\x1b[" * 100_000)
""",
    )
    assert {check["verdict"] for check in inner.checks.values()} == {"fail", "unproven"}
    page = _Page(inner)
    assert page.scripts == 2  # pytest-html's and the report's own
    assert not page.loads
    assert not page.handlers
    assert "\x1b" not in page.text + page.html
    assert "\x00" not in page.text + page.html
    assert "the end" in page.text
    assert len(inner.html) < 1_000_000
    assert (inner.folder / "run.json").stat().st_size < 1_000_000
    assert (inner.folder / "junit.xml").stat().st_size < 1_000_000
    assert len(inner.cases) == 2
    assert "\x1b" not in inner.terminal
    assert "\x00" not in inner.terminal
    assert len(inner.terminal) < 1_000_000


class _Page(html.parser.HTMLParser):
    """A report as a browser comes to see it: the page, and the rows that its script puts in."""

    def __init__(self, inner: Ran) -> None:
        super().__init__()
        self.scripts = 0
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.html = inner.html
        self.feed(self.html)
        rows = "".join(
            "".join(row["resultsTableRow"]) + "".join(each["content"] for each in row["extras"]) + row["log"]
            for row in inner.rows
        )
        self.html += rows
        self.feed(rows)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            if name.startswith("on") and value != "location.reload()":
                self.handlers.append(f"{tag} {name}")
            if name in ("src", "href") and value and tag != "a":
                self.loads.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_killed_run_leaves_a_readable_file(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeconftest('pytest_plugins = ["fixtures.verdicts"]')
    suites = pytester.mkdir("suites")
    (suites / "test_inner.py").write_text(
        HEAD
        + """
@claim("OS-07")
def test_first(): look()

@claim("OS-05")
def test_killed():
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)

@claim("OS-06")
def test_never(): pass
"""
    )
    monkeypatch.setenv("PYTHONPATH", ROOT)
    result = pytester.runpytest_subprocess("suites")
    assert result.ret == -9
    run = read(pytester.path / "reports" / "out" / "latest" / "run.json")
    assert run["exit_status"] is None
    assert run["planned"] == 3
    assert [each["verdict"] for each in run["checks"]] == ["pass"]
    assert run["not_proven"] == ["OS-05", "OS-06"]
    assert run["claims"]["OS-06"]["verdict"] is None


def test_an_interrupted_run_says_what_did_not_run(pytester: pytest.Pytester) -> None:
    source = """
@claim("OS-05")
def test_it(): raise Unproven("no shell there")
@claim("OS-06")
def test_never(): pass
"""
    inner = ran(pytester, source, "-x", "suites")
    assert "1 of 2 checks did not run" in inner.terminal
    assert "1 of 2 checks did not run" in inner.html


def test_without_pytest_html_the_rest_is_written(pytester: pytest.Pytester) -> None:
    inner = ran(pytester, "@claim('OS-07')\ndef test_it(): pass", "-p", "no:html", "suites")
    assert inner.result.ret == 0
    assert sorted(each.name for each in inner.folder.iterdir()) == ["junit.xml", "run.json"]
    assert inner.terminal.rstrip().endswith("run.json")


def test_the_plugin_is_light(pytester: pytest.Pytester) -> None:
    code = f"import sys; sys.path.insert(0, {ROOT!r}); import fixtures.verdicts; print(*sys.modules)"
    loaded = set(pytester.run(sys.executable, "-c", code).stdout.str().split())
    assert "reports.runfile" in loaded
    assert not loaded & {"openstack", "paramiko", "jsonschema"}


def test_a_class_of_checks_fits_one_run(pytester: pytest.Pytester) -> None:
    inner = ran(
        pytester, "@claim('OS-07')\n@pytest.mark.parametrize('n', range(200))\ndef test_it(n): look()"
    )
    assert len(inner.checks) == inner.run["planned"] == 200
    assert len(inner.shown) == 200
    assert len(inner.html) < 2_000_000


def test_tests_without_claims_stay_in_pytest_htmls_table(pytester: pytest.Pytester) -> None:
    source = "@claim('OS-07')\ndef test_it(): look()\n\ndef test_plain(): assert 0, '<b>'"
    inner = ran(pytester, source)
    assert inner.shown == ["pass"]
    assert [row["resultsTableRow"][1] for row in inner.rows] == [
        '<td class="col-testId">suites/test_inner.py::test_plain</td>'
    ]
    assert "lp-no-others" not in inner.html.partition("</style>")[2].rpartition("<script>")[2]


def test_one_body_in_both_pages(pytester: pytest.Pytester) -> None:
    from reports import html as report

    inner = ran(pytester, EVERY_PATH)
    body = report.body(inner.run)
    told = body.partition("lp-score")[2].partition("lp-about")[0]
    assert told in inner.html
    assert told in report.page(inner.run)
