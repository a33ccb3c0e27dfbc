"""What a cloud is asked again, what counts as its answer, and in which words it is told what did not."""

from __future__ import annotations

import datetime
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision import cloud_session
from provision.cloud import Cloud, CloudError
from provision.lab import Lab
from tests import faulty_cloud
from tests.api_world import Api, serving
from tests.fault_matrix import KINDS
from tests.faulty_cloud import Fault, FaultyCloud, Rule, Trust

NETWORKS = r"GET \d+ /network/v2.0/networks"
MAKE = r"POST \d+ /network/v2.0/networks"


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as there:
        yield there


@pytest.fixture
def proxy(api: Api, tmp_path: Path) -> Iterator[FaultyCloud]:
    with faulty_cloud.faulty_cloud("127.0.0.1", Trust.make(tmp_path)) as faulty:
        yield faulty


def connect(api: Api, proxy: FaultyCloud, folder: Path, cacert: Path | None = None) -> Cloud:
    port = api.url.rpartition(":")[2]
    auth = {
        "auth_url": f"{proxy.url}/{port}/identity/v3", "username": "u", "password": "p", "project_name": "p",
        "user_domain_name": "d", "project_domain_name": "d",
    }  # fmt: skip
    entry = {"auth": auth, "region_name": "r", "cacert": str(cacert or folder / "ca.pem")}
    file = folder / "clouds.yaml"
    file.write_text(json.dumps({"clouds": {"theirs": entry}}))
    return Cloud.connect(Lab(name="x", cloud="theirs", clouds_file=file))


@pytest.fixture
def cloud(api: Api, proxy: FaultyCloud, tmp_path: Path) -> Iterator[Cloud]:
    connected = connect(api, proxy, tmp_path)
    yield connected
    connected.close()


def listed(cloud: Cloud) -> list[str]:
    with cloud.doing("listing the networks"):
        return [each.name for each in cloud.api.network.networks()]


def test_everything_goes_through_the_proxy(cloud: Cloud, proxy: FaultyCloud, api: Api) -> None:
    assert listed(cloud) == ["davanti"]
    assert len(proxy.calls) == len(api.asked)
    assert proxy.calls[-1].endswith("/network/v2.0/networks")


@pytest.mark.parametrize(
    "fault",
    [
        faulty_cloud.refuse(503), faulty_cloud.refuse(502), faulty_cloud.refuse(429), faulty_cloud.reset,
        faulty_cloud.garble, faulty_cloud.refuse(413, "1"), faulty_cloud.refuse(503, "soon"),
    ],
    ids=["503", "502", "429", "reset", "garbled", "413 in 1 s", "503 soon"],
)  # fmt: skip
def test_a_look_that_fails_once_is_made_again(cloud: Cloud, proxy: FaultyCloud, fault: Fault) -> None:
    proxy.rules = [rule := Rule(NETWORKS, fault, times=1)]
    assert listed(cloud) == ["davanti"]
    assert rule.happened == 1


def test_what_was_turned_away_for_a_while_is_sent_again_then(cloud: Cloud, proxy: FaultyCloud) -> None:
    proxy.rules = [rule := Rule(MAKE, faulty_cloud.refuse(429, "1"), times=2)]
    began = time.monotonic()
    assert cloud.api.network.post("/networks", json={}).status_code == 200
    assert rule.happened == 2
    assert 2 <= time.monotonic() - began < 5


def test_a_cloud_that_wants_an_hour_is_not_waited_for(cloud: Cloud, proxy: FaultyCloud) -> None:
    proxy.rules = [rule := Rule(NETWORKS, faulty_cloud.refuse(429, "3600"))]
    began = time.monotonic()
    with pytest.raises(CloudError, match=r"listing the networks: .*HTTP 429.*asked less often") as caught:
        listed(cloud)
    assert rule.happened == 1
    assert time.monotonic() - began < 2
    assert caught.value.kind == "busy"
    assert caught.value.passing


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 500])
def test_a_no_is_a_no(cloud: Cloud, proxy: FaultyCloud, status: int) -> None:
    proxy.rules = [rule := Rule(NETWORKS, faulty_cloud.refuse(status))]
    with pytest.raises(CloudError, match=rf"listing the networks: .*HTTP {status}"):
        listed(cloud)
    assert rule.happened == (2 if status == 401 else 1)  # after 401 once more, with a new token


# what may have made something -> what must be said
ONCE = {
    "reset": (faulty_cloud.reset_after, "no answer from https://127.0.0.1"),
    "garbled": (faulty_cloud.garble, "no answer from https://127.0.0.1"),
    "503": (faulty_cloud.lose(503), "HTTP 503"),
    "half": (faulty_cloud.half, "it broke off in the middle of the answer"),
    "cut": (faulty_cloud.cut, "is cut off, or no JSON (HTTP 200)"),
    "page": (faulty_cloud.page, "is a page (HTTP 200)"),
}


@pytest.mark.parametrize("fault", ONCE)
def test_what_may_have_made_something_is_never_sent_twice(
    cloud: Cloud, proxy: FaultyCloud, api: Api, fault: str
) -> None:
    proxy.rules = [Rule(MAKE, ONCE[fault][0])]
    with pytest.raises(CloudError) as caught, cloud.doing("network front"):
        cloud.api.network.create_network(name="x")
    assert str(caught.value).startswith("network front: ")
    assert ONCE[fault][1] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert api.asked.count(("POST", "/network/v2.0/networks")) <= 1


def test_a_cloud_that_is_silent_is_given_up_in_its_time(
    cloud: Cloud, proxy: FaultyCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.api.session.timeout = (1.0, 1.5)
    proxy.rules = [rule := Rule(NETWORKS, faulty_cloud.stall(30))]
    began = time.monotonic()
    with pytest.raises(CloudError, match=r"no answer from https://127.*timed out") as caught:
        listed(cloud)
    assert caught.value.kind == "timeout"
    assert time.monotonic() - began < 3
    assert rule.happened == 1


def test_a_connection_that_is_always_reset_says_so(cloud: Cloud, proxy: FaultyCloud) -> None:
    proxy.rules = [rule := Rule(NETWORKS, faulty_cloud.reset)]
    with pytest.raises(
        CloudError, match=r"no answer from https://127.0.0.1.*(reset by peer|hung up)"
    ) as caught:
        listed(cloud)
    assert caught.value.kind == "unreachable"
    assert rule.happened == cloud_session.TRIES_AGAIN + 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not KINDS[kind].slow])
def test_a_login_with_a_fault_on_each_of_its_calls(
    api: Api, proxy: FaultyCloud, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the matrix does on the real cloud: each is told with what came back, but for documents that the SDK can guess."""
    monkeypatch.setattr(cloud_session, "PAUSE", 0.01)

    def log_in() -> None:
        cloud = connect(api, proxy, tmp_path)
        try:
            listed(cloud)
        finally:
            cloud.close()

    log_in()
    for call in list(dict.fromkeys(proxy.calls)):
        proxy.rules = [rule := Rule(re.escape(call), KINDS[kind].fault)]
        guessed = re.search(r"/(compute/v2.1|network/v2.0|identity/v3|image)$", call) is not None
        try:
            log_in()
        except CloudError as error:
            said = str(error)
            if re.search(KINDS[kind].told, said) is None or "\n" in said:
                pytest.fail(f"{kind} on {call}: {said}")
        else:
            assert guessed, f"{kind} on {call} was not noticed"
        assert rule.happened


def _expired(folder: Path) -> Trust:
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return Trust.make(folder, "127.0.0.1", not_before=long_ago, not_after=long_ago.replace(year=2021))


def _another_host(folder: Path) -> Trust:
    return Trust.make(folder, "keystone.example")


def _another_authority(folder: Path) -> Trust:
    made = Trust.make(folder)
    (folder / "other").mkdir()
    return Trust(made.server, Trust.make(folder / "other").cacert)


@pytest.mark.parametrize(
    ("trust", "told"),
    [(_expired, "expired"), (_another_host, "IP address mismatch|hostname"), (_another_authority, "unable to get")],
)  # fmt: skip
def test_a_certificate_that_is_not_trusted_is_told_at_once(
    api: Api, tmp_path: Path, trust: object, told: str
) -> None:
    made: Trust = trust(tmp_path)  # type: ignore[operator]
    began = time.monotonic()
    with (
        faulty_cloud.faulty_cloud("127.0.0.1", made) as faulty,
        pytest.raises(
            CloudError, match=rf"the certificate of https://127.* is not trusted.*({told})"
        ) as caught,
    ):
        connect(api, faulty, tmp_path, made.cacert)
    assert caught.value.kind == "configuration"
    assert "cacert" in caught.value.advice
    assert time.monotonic() - began < 5
    assert not api.asked


def test_plain_http_in_the_place_of_tls(api: Api, tmp_path: Path) -> None:
    with faulty_cloud.faulty_cloud("127.0.0.1") as faulty:
        faulty.url = faulty.url.replace("http:", "https:")
        with pytest.raises(CloudError, match=r"no answer from https://127.*\(.+\)") as caught:
            connect(api, faulty, tmp_path, Trust.make(tmp_path).cacert)
    assert "\n" not in str(caught.value)
