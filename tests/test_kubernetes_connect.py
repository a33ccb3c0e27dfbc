"""How a cluster's API is connected to: what a kubeconfig gives is used, and lies about nowhere."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from provision.box.cluster_keys import Authority
from provision.kubernetes_api import Api
from provision.kubernetes_errors import KubernetesError
from tests.cluster_tls import HERE, serving


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"gitVersion": "v1.20.2"}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def url(authority: Authority, tmp_path: Path) -> Iterator[str]:
    """A server that talks to the authority's clients alone."""
    with serving(authority, Answering, tmp_path) as port:
        yield f"https://{HERE}:{port}"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_key_of_a_kubeconfig_is_in_no_file_of_ours(
    authority: Authority, url: str, temporary: Path, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(authority.kubeconfig(url, authority.issue("admin"), "admin"))
    api = Api.connect(tmp_path / "config")
    assert list(temporary.iterdir()) == []
    api.close()
    # a new connection, and a second client of the same kubeconfig, which its library reads from what it remembers
    assert api.version() == Api.connect(tmp_path / "config").version() == "v1.20.2"
    assert list(temporary.iterdir()) == []


def test_files_that_a_kubeconfig_names_are_used_where_they_are(
    authority: Authority, url: str, temporary: Path, tmp_path: Path
) -> None:
    written = json.loads(authority.kubeconfig(url, authority.issue("admin"), "admin"))
    pair = authority.issue("admin")
    entry, user = written["clusters"][0]["cluster"], written["users"][0]["user"]
    for place, key, content in (
        (entry, "certificate-authority", authority.certificate),
        (user, "client-certificate", pair.certificate),
        (user, "client-key", pair.key),
    ):
        (tmp_path / key).write_bytes(content)
        place[key] = str(tmp_path / key)
        del place[f"{key}-data"]
    (tmp_path / "config").write_text(json.dumps(written))
    api = Api.connect(tmp_path / "config")
    assert api.configuration.key_file == str(tmp_path / "client-key")
    assert api.version() == "v1.20.2"


def test_a_server_of_another_authority_is_not_believed(
    authority: Authority, url: str, temporary: Path, tmp_path: Path
) -> None:
    other = Authority()
    (tmp_path / "config").write_text(other.kubeconfig(url, authority.issue("admin"), "admin"))
    with pytest.raises(KubernetesError):
        Api.connect(tmp_path / "config")
    assert list(temporary.iterdir()) == []


def test_somebody_else_has_the_servers_certificate_and_not_the_administrators(
    authority: Authority, url: str, temporary: Path, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(authority.kubeconfig(url, authority.issue("admin"), "admin"))
    other = Api.connect(tmp_path / "config").with_token("a-token")
    assert Path(other.configuration.ssl_ca_cert).read_bytes() == authority.certificate
    with pytest.raises(KubernetesError):
        other.version()
