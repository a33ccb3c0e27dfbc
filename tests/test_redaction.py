"""No secret of a run is told, in whatever form it stands in a text; what is no secret is left as it is."""

from __future__ import annotations

import base64
import html
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.runs import make_key
from reports import redaction
from reports.redaction import REDACTED, Secrets, forms
from tests.inner_runs import ran

PASSWORD = "Käse & 'Brot' <7>/+?"
FUZZ = settings(max_examples=150, deadline=None, database=None)
ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "URL": lambda s: f"http://u:{quote(s, safe='')}@x/",
    "form": lambda s: f"a=1&b={quote_plus(s)}",
    "JSON": lambda s: json.dumps({"a": s}),
    "HTML": lambda s: f"<td>{html.escape(s)}</td>",
    "shell": lambda s: f"echo {shlex.quote(s)}",
    "hexadecimal": lambda s: s.encode().hex(),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 behind a name": lambda s: base64.b64encode(f"student:{s}".encode()).decode(),
    "base64 behind another": lambda s: base64.b64encode(f"admin:{s}\nmore".encode()).decode(),
    "base64 for URLs": lambda s: base64.urlsafe_b64encode(b"a" + s.encode()).decode(),
    "among text": lambda s: f"the password is {s}, isn't it",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("secret", [PASSWORD, "3f9c0a1be2d4", "correct horse battery staple"])
def test_a_known_secret_is_found_in_whatever_form(secret: str, encoding: str) -> None:
    secrets = Secrets()
    secrets.add(secret)
    text = f"before {ENCODINGS[encoding](secret)} behind"
    clean = secrets.clean(text)
    assert REDACTED in clean
    assert not [form for form in forms(secret) if form in clean]
    assert clean.startswith("before ")
    assert clean.endswith(" behind")


@FUZZ
@given(st.text(min_size=6, max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_nothing_of_any_secret_is_left(secret: str, before: str, behind: str) -> None:
    secrets = Secrets()
    secrets.add(secret)
    assert secret not in secrets.clean(before + secret + behind).replace(REDACTED, "")


@pytest.mark.parametrize(
    "text",
    [
        "X-Auth-Token: 0123456789abcdef",
        "{'X-Subject-Token': '0123456789abcdef'}",
        "Authorization: Bearer 0123456789abcdef",
        "Cookie: 0123456789abcdef",
        "Set-Cookie: sessionid=0123456789abcdef; Path=/",
        "export OS_PASSWORD=0123456789abcdef",
        "OS_PASSWORD='0123456789abcdef'",
        '{"auth": {"password": "0123456789abcdef"}}',
        '{"server": {"adminPass": "0123456789abcdef"}}',
        "rabbit://openstack:0123456789abcdef@127.0.0.1",
        "gAAAAABn" + "0123456789abcdef" * 8,
        "-----BEGIN RSA PRIVATE KEY-----\n0123456789abcdef",
    ],
)
def test_what_looks_like_a_secret_is_left_out(text: str) -> None:
    clean = Secrets().clean(f"log: {text} end")
    assert "0123456789abcdef" not in clean
    assert REDACTED in clean


@pytest.mark.parametrize(
    "text",
    [
        "the credentials were not accepted (HTTP 401); check user, password, project and domains",
        "password: tried when there is no key",
        "no more tokens; the secret is out",
        "AssertionError: 10.1.0.5 does not answer the desktop",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBXtmrcQ1rMTx3HgPJhhnxVXMMxbT5RtBbCSsXHmjSq8 labproof",
        "http://192.168.37.5:5000/v3",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    secrets = Secrets()
    secrets.add("a", "", None, "short")
    assert secrets.clean(text) == text


def test_a_private_key_is_known_line_by_line(tmp_path: Path) -> None:
    secrets, key = Secrets(), make_key(tmp_path / "id")
    secrets.add_key(key.file)
    lines = key.file.read_text().splitlines()[2:-1]
    assert lines
    for line in lines:
        assert secrets.clean(f"> {line}") == f"> {REDACTED}"
    assert secrets.clean(key.public) == key.public
    secrets.add_key(tmp_path / "none")


def test_no_secret_of_a_run_gets_into_its_reports(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put into everything that a check can tell: what it prints, raises, sees, leaves, logs and skips for."""
    monkeypatch.setattr(redaction, "known", secrets := Secrets())
    for module in ("fixtures.verdicts", "reports.runfile"):
        monkeypatch.setattr(f"{module}.known", secrets)
    secrets.add(PASSWORD)
    inner = ran(
        pytester,
        f"PASSWORD = {PASSWORD!r}\n"
        """
import base64, logging, pytest
B64 = base64.b64encode(("student:" + PASSWORD).encode()).decode()

@pytest.fixture
def leaking():
    yield
    raise RuntimeError("left: " + PASSWORD)

@claim("OS-07")
def test_fails(leaking, diagnose, add_timing, add_drawing, run_facts):
    secret = PASSWORD
    print("out", PASSWORD)
    logging.getLogger("x").warning("Authorization: Basic %s", B64)
    look("desktop", "openstack --os-password " + PASSWORD, PASSWORD)
    diagnose("it said " + PASSWORD)
    add_timing("step " + PASSWORD, 1.0)
    add_drawing("topology " + PASSWORD, "<svg xmlns='http://www.w3.org/2000/svg'><text>x</text></svg>")
    run_facts["said"] = B64
    assert secret == "x", f"it is {secret}"

@claim("OS-06")
def test_breaks():
    raise ValueError(PASSWORD)

@claim("OS-05")
def test_skips():
    pytest.skip("for " + PASSWORD)

def test_of_no_claim():
    assert PASSWORD == B64
""",
    )
    texts = {name: (inner.folder / name).read_text() for name in ("run.json", "report.html", "junit.xml")}
    texts["terminal"] = inner.terminal
    for name, text in texts.items():
        told = [form for form in forms(PASSWORD) if form in text]
        assert not told, f"{name} tells {told}"
        assert REDACTED in text, name
