"""Waits until the cloud itself says that its parts work: each compute service up, each agent alive.

A service that listens is not one that works: it also has to have reported since this start.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime

from secrets_file import secrets

COMPUTE = {"nova-scheduler", "nova-conductor", "nova-compute"}
AGENTS = {"neutron-linuxbridge-agent", "neutron-l3-agent", "neutron-dhcp-agent", "neutron-metadata-agent"}


def wait(given_up: Callable[[], bool], seconds: float, began: float, reported: Callable[[str], None]) -> None:
    """Returns when all is reported working; calls `reported` with each part's name as it does.

    Raises:
        TimeoutError: when that did not come within `seconds`, or `given_up()` said that it never will.
    """
    since = datetime.now(UTC).timestamp() - (time.monotonic() - began)
    end, token, trouble, missing = time.monotonic() + seconds, "", "", COMPUTE | AGENTS
    while time.monotonic() < end and not given_up():
        try:
            token = token or _token()
            working = _compute(token, since) | _agents(token, since)
            for name in missing & working:
                reported(name)
            missing = missing - working
            if not missing:
                return
        except (OSError, urllib.error.URLError, ValueError) as error:
            trouble = f" ({error})"
        time.sleep(0.1)
    raise TimeoutError(f"the cloud did not report: {', '.join(sorted(missing))}{trouble}")


def _request(url: str, token: str = "", body: object = None) -> tuple[object, dict[str, str]]:
    data = None if body is None else json.dumps(body).encode()
    headers = {
        "Content-Type": "application/json",
        "X-Auth-Token": token,
        "OpenStack-API-Version": "compute 2.53",
    }
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - our own loopback
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer), dict(answer.headers)


def _token() -> str:
    user = {"name": "admin", "domain": {"id": "default"}, "password": secrets()["ADMIN_PASSWORD"]}
    scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
    _, headers = _request("http://127.0.0.1:5000/v3/auth/tokens", body=body)
    return headers["X-Subject-Token"]


def _fresh(when: str | None, since: float) -> bool:
    if not when:
        return False
    return datetime.fromisoformat(when.rstrip("Z")).replace(tzinfo=UTC).timestamp() >= since - 1


def _compute(token: str, since: float) -> set[str]:
    answer, _ = _request("http://127.0.0.1:8774/v2.1/os-services", token)
    services = answer["services"]  # type: ignore[index]
    return {s["binary"] for s in services if s["state"] == "up" and _fresh(s["updated_at"], since)}


def _agents(token: str, since: float) -> set[str]:
    answer, _ = _request("http://127.0.0.1:9696/v2.0/agents", token)
    agents = answer["agents"]  # type: ignore[index]
    return {a["binary"] for a in agents if a["alive"] and _fresh(a["heartbeat_timestamp"], since)}
