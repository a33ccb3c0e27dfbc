"""Objective 8: the openstack client and the API, as a plain user."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from probes.observation import Observation, Unproven
from probes.reach import fact, facts

LISTINGS = (
    "user list",
    "service list",
    "compute service list",
    "hypervisor list",
    "server list --all-projects",
)
CLIENT = Path(sys.executable).with_name("openstack")


# the client's words for an API that could not be asked
AWAY = re.compile(
    r"HTTP 50[0234]|\b50[0234](: | )(Server Error|Internal|Bad Gateway|Service|Gateway)"
    r"|Unable to establish connection|timed out",
    re.IGNORECASE,
)


def answered(seen: Observation) -> Observation:
    """The look, where the cloud was asked and said something; from a cloud that is away nothing follows.

    Raises:
        Unproven: it is away.
    """
    if seen.numbers["status"] != 0 and AWAY.search(seen.output):
        raise Unproven(f"the cloud could not be asked: {seen.last_words}")
    return seen


@pytest.fixture(scope="module")
def client(desktop, tmp_path_factory) -> Callable[..., Observation]:
    """``client("router list", rc=FILE)`` runs the openstack client on the desktop, with that RC file or none."""
    home = tmp_path_factory.mktemp("home")
    program = CLIENT if CLIENT.exists() else shutil.which("openstack")
    assert program, "the openstack client is not installed: `make setup` installs it"

    def run(arguments: str, rc: Path | None = None) -> Observation:
        # an empty home and no OS_ variable: what the client knows it knows from the RC file
        inner = f"{'. ' + shlex.quote(str(rc)) + ' && ' if rc else ''}{program} {arguments}"
        (seen,) = facts(
            fact(
                desktop,
                "cd %s && env -i HOME=%s PATH=/usr/bin:/bin sh -c %s",
                home,
                home,
                inner,
                target="the cloud's API",
                timeout=60,
            )
        )
        return seen

    return run


@pytest.fixture(scope="module")
def looks(looked, client, rc_file, wrong_rc_file):
    """What the client answers to commands that need nothing to stand."""
    rows = {
        "test_without_the_rc_file_the_client_says_what_is_missing": lambda: (
            client("token issue -f value -c expires", rc=rc_file),
            client("router list"),
        ),
        "test_a_wrong_password_is_told_as_such": lambda: client("router list", rc=wrong_rc_file),
    }
    for listing in LISTINGS:
        rows[f"test_a_plain_user_is_refused_the_admins_listings[{listing}]"] = partial(
            client, listing, rc=rc_file
        )
    return looked(rows)


@pytest.fixture(scope="module")
def wrong_rc_file(rc_file, tmp_path_factory):
    """The RC file with another password."""
    wrong = tmp_path_factory.mktemp("wrong") / "openrc"
    wrong.touch(mode=0o600)
    wrong.write_text(rc_file.read_text() + "export OS_PASSWORD=not-the-password\n")
    return wrong


@pytest.mark.claim("API-02")
def test_without_the_rc_file_the_client_says_what_is_missing(seen):
    """Without the RC file the same command names the missing value, auth-url."""
    works, fails = seen()
    if works.numbers["status"] != 0:
        raise Unproven(f"the client does not work with the RC file either: {works.last_words}")
    assert fails.numbers["status"] != 0, f"the client worked without any credentials: {fails}"
    assert "auth-url" in fails.output, f"the client does not say that auth-url is missing: {fails}"


@pytest.mark.claim("API-03")
@pytest.mark.parametrize("listing", LISTINGS)
def test_a_plain_user_is_refused_the_admins_listings(seen, listing):
    """The admin's listings are refused to a plain user, and the refusal is one of rights (HTTP 403)."""
    answer = answered(seen())
    assert answer.numbers["status"] != 0, f"a plain user was shown the admin's listing: {answer}"
    assert "403" in answer.output or "Forbidden" in answer.output or "not authorized" in answer.output, (
        f"refused, but not for want of rights: {answer}"
    )


@pytest.mark.claim("API-01")
def test_a_wrong_password_is_told_as_such(seen):
    """The same RC file with another password is refused as unauthorised: authentication is really made."""
    answer = answered(seen())
    assert answer.numbers["status"] != 0, f"the client worked with a wrong password: {answer}"
    assert "401" in answer.output, f"refused, but not as unauthorised: {answer}"


@pytest.mark.claim("API-01")
def test_the_client_lists_the_projects_routers_with_the_rc_file_loaded(client, rc_file, operations):
    """With the RC file loaded the client authenticates and lists the routers, which are ACTIVE."""
    seen = answered(client("router list -f json", rc=rc_file))
    assert seen.numbers["status"] == 0, f"the client failed: {seen}"
    routers = {
        router["Name"]: router["Status"] for router in json.loads(seen.output[seen.output.index("[") :])
    }
    mine = operations.deployment.routers["RT1"].name
    assert mine in routers, f"{mine} is not among the routers listed: {routers}"
    assert routers[mine] == "ACTIVE", f"{mine} is {routers[mine]}, not ACTIVE"


@pytest.mark.claim("API-03")
def test_a_plain_user_sees_its_own_project_alone(cloud, operations, api):
    """Servers, networks, routers and floating IPs listed are the project's own, or shared by the admin."""
    project = cloud.project
    for what, listed in {
        "servers": lambda: cloud.api.compute.servers(),
        "networks": lambda: cloud.api.network.networks(),
        "routers": lambda: cloud.api.network.routers(),
        "floating IPs": lambda: cloud.api.network.ips(),
    }.items():
        things = api(f"list {what}", listed)
        foreign = [
            thing.name or thing.id
            for thing in things
            if thing.project_id != project
            and not getattr(thing, "is_shared", False)
            and not getattr(thing, "is_router_external", False)
        ]
        assert not foreign, f"{what} of other projects are shown to a plain user: {', '.join(foreign)}"
    assert operations.deployment.hosts["vm"].server_id in {s.id for s in cloud.api.compute.servers()}, (
        "the project's own server is not in its listing"
    )
