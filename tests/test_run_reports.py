"""What a run of checks writes: its folder, its page, its facts; whatever happens to it, and whatever is in it."""

from __future__ import annotations

import html.parser
import re
import sys

import pytest

from reports.runfile import read
from tests.inner_runs import EVERY_PATH, HEAD, ROOT, Ran, ran


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
