"""Nothing is changed by a run that is attached: what would change something never leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.host import HostError
from probes.observation import Unproven
from probes.probe import command
from provision.attach.guard import LockedHost, Tally, WriteRefusedError, watch
from provision.cloud import Cloud
from provision.lab import Lab
from tests.api_world import Api, serving


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as there:
        yield there


@pytest.fixture
def cloud(api: Api, tmp_path: Path) -> Iterator[Cloud]:
    file = tmp_path / "clouds.yaml"
    auth = {"auth_url": f"{api.url}/identity/v3", "username": "u", "password": "p", "project_name": "p"}
    auth |= {"user_domain_name": "d", "project_domain_name": "d"}
    file.write_text(json.dumps({"clouds": {"theirs": {"auth": auth, "region_name": "r"}}}))
    connected = Cloud.connect(Lab(name="x", cloud="theirs", clouds_file=file))
    api.asked.clear()
    yield connected
    connected.close()


def test_looks_go_out_and_are_counted(api: Api, cloud: Cloud) -> None:
    tally = Tally()
    watch(cloud.api, tally)
    assert [each.name for each in cloud.api.network.networks()] == ["davanti"]
    assert api.asked
    assert {method for method, _ in api.asked} == {"GET"}
    assert tally.as_facts() == {
        "reads": len(api.asked),
        "logins": 0,
        "writes": 0,
        "refused": 0,
        "commands": 0,
    }


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
@pytest.mark.parametrize("service", ["network", "compute", "image"])
def test_what_would_change_something_is_refused_before_it_is_sent(
    api: Api, cloud: Cloud, method: str, service: str
) -> None:
    tally = Tally()
    watch(cloud.api, tally)
    with pytest.raises(WriteRefusedError, match=rf"{method.upper()} http://127.* was not sent"):
        getattr(getattr(cloud.api, service), method)("/things/1", json={})
    assert all(asked == "GET" for asked, _ in api.asked)
    assert (tally.refused, tally.writes) == (1, 0)


def test_the_sdks_own_calls_are_refused_too(api: Api, cloud: Cloud) -> None:
    watch(cloud.api, tally := Tally())
    for call in (
        lambda: cloud.api.network.create_network(name="x"),
        lambda: cloud.api.network.delete_network("n1"),
        lambda: cloud.add_leg("r", subnet_id="s"),
        lambda: cloud.api.compute.create_server(name="x", image_id="i", flavor_id="f", networks=[]),
    ):
        with pytest.raises(WriteRefusedError):
            call()
    assert {asked for asked, _ in api.asked} <= {"GET"}
    assert tally.refused == 4


def test_a_token_that_has_expired_is_asked_anew(api: Api, cloud: Cloud) -> None:
    watch(cloud.api, tally := Tally())
    cloud.api.session.invalidate()
    assert list(cloud.api.network.networks())
    assert ("POST", "/identity/v3/auth/tokens") in api.asked
    assert (tally.logins, tally.refused) == (1, 0)


def test_what_only_looks_like_a_login_is_refused(api: Api, cloud: Cloud) -> None:
    watch(cloud.api, tally := Tally())
    with pytest.raises(WriteRefusedError):
        cloud.api.session.post("http://192.0.2.1/v3/auth/tokens", json={}, authenticated=False)
    with pytest.raises(WriteRefusedError):
        cloud.api.session.delete(f"{api.url}/identity/v3/auth/tokens")
    assert tally.refused == 2


def test_a_locked_guest_says_why_and_the_check_is_open() -> None:
    host = LockedHost("vm", "192.0.2.7", "the submission names no key ([guests] key = …)")
    with pytest.raises(HostError, match=r"vm cannot be entered: the submission names no key"):
        host.run("true")
    with pytest.raises(
        Unproven, match=r"vm cannot be entered: the submission names no key \(\[guests\] key = …\)"
    ):
        command(host, "hostname")
