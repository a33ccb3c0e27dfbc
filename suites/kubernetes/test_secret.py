"""Objective 12: the secret with which images are pulled from a registry."""

from __future__ import annotations

import base64
import json

import pytest

from probes.observation import Unproven

TYPE = "kubernetes.io/dockerconfigjson"
KEY = ".dockerconfigjson"
SERVER, USER, PASSWORD = "registry.example.org", "lab", "example"


@pytest.mark.acts
@pytest.mark.claim("K8S-04")
def test_the_secret_is_of_the_registrys_type(repo_secret):
    """repo-secret is of type kubernetes.io/dockerconfigjson."""
    assert repo_secret["type"] == TYPE, (
        f"secret of the wrong type: repo-secret is {repo_secret['type']}, not {TYPE}"
    )


@pytest.mark.acts
@pytest.mark.claim("K8S-04")
def test_the_secret_holds_what_opens_the_registry(repo_secret):
    """Its content is the server with user, password, and both as HTTP's basic authentication has them."""
    assert KEY in repo_secret["data"], f"repo-secret has no {KEY}: {', '.join(repo_secret['data'])}"
    content = json.loads(base64.b64decode(repo_secret["data"][KEY]))
    assert set(content["auths"]) == {SERVER}, f"it is for {', '.join(content['auths'])}"
    entry = content["auths"][SERVER]
    right = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    seen = {name: entry.get(name) for name in ("username", "password", "auth")}
    wrong = [
        name
        for name, value in {"username": USER, "password": PASSWORD, "auth": right}.items()
        if seen[name] != value
    ]
    assert not wrong, f"the entry of {SERVER} has another {' and '.join(wrong)}"


@pytest.mark.acts
@pytest.mark.claim("K8S-04")
def test_another_namespaces_service_account_cannot_read_it(repo_secret, reader, answer_to):
    """Asked by a service account of another namespace the API refuses (403); its own namespace's secret it reads."""
    path = "/api/v1/namespaces/{}/secrets/{}"
    mine = repo_secret["metadata"]["namespace"]
    other = mine.rpartition("-")[0] + "-other"
    own = answer_to(reader, path.format(other, "own-secret"))
    if own != 200:
        raise Unproven(f"the service account cannot even read its own namespace's secret: HTTP {own}")
    foreign = answer_to(reader, path.format(mine, "repo-secret"))
    assert foreign == 403, f"the API answers a foreign service account with HTTP {foreign}"
