"""The cluster's API as its starter needs it: asked over one connection, from the control plane's own network."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from provision.box.cluster_nodes import ClusterError
from provision.box.namespaces import enter_network

PORT = 6443
ANSWER_LIMIT = 10.0
AGAIN = 0.05


class ApiError(Exception):
    """The API did not answer, or refused: with the status, or what the connection ended with."""


class Api:
    """``with Api(...) as api: api.get("/api/v1/nodes")``: from a network of the box, whatever network the caller is on.

    Args:
        network: the network namespace to ask from.
        address: the control plane's.
        keys: a folder with ``ca.crt``, ``admin.crt`` and ``admin.key``.
    """

    def __init__(self, network: Path, address: IPv4Address, keys: Path) -> None:
        self._address = address
        self._keys = keys
        self._connection: http.client.HTTPSConnection | None = None
        # a thread that has gone into another network stays there: it is not the caller's
        self._pool = ThreadPoolExecutor(1, "cluster-api", lambda: enter_network(network))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.submit(self._close).result()
        self._pool.shutdown()

    def get(self, path: str) -> Any:
        """What the API has at `path`: a document, or text where it is none.

        Raises:
            ApiError: it did not answer, or with another status than 200.
        """
        return self._pool.submit(self._ask, "GET", path, None, "").result()

    def patch(self, path: str, change: dict[str, Any]) -> Any:
        """Changes an object (RFC 7386, JSON merge patch).

        Raises:
            ApiError: it did not answer, or refused.
        """
        kind = "application/merge-patch+json"
        return self._pool.submit(self._ask, "PATCH", path, json.dumps(change), kind).result()

    def until(self, what: str, holds: Callable[[], bool], within: float) -> None:
        """Waits until `holds`, asked again and again; an API that does not answer yet is asked again too.

        Raises:
            ClusterError: it did not within so many seconds; with what the API said last.
        """
        end, last = time.monotonic() + within, ""
        while True:
            try:
                if holds():
                    return
                last = ""
            except ApiError as error:
                last = f" ({error})"
            if time.monotonic() > end:
                raise ClusterError(f"the cluster: {what}: not within {within:.0f} s{last}")
            time.sleep(AGAIN)

    def _ask(self, method: str, path: str, body: str | None, kind: str) -> Any:
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._connection.request(method, path, body, {"Content-Type": kind} if kind else {})
            answer = self._connection.getresponse()
            said = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            self._close()
            raise ApiError(f"the API does not answer: {error or type(error).__name__}") from None
        if answer.status != http.client.OK:
            raise ApiError(f"the API answered {answer.status}: {said.strip()[:300]}")
        return json.loads(said) if said.startswith("{") else said

    def _connect(self) -> http.client.HTTPSConnection:
        trusted = ssl.create_default_context(cafile=str(self._keys / "ca.crt"))
        trusted.load_cert_chain(self._keys / "admin.crt", self._keys / "admin.key")
        return http.client.HTTPSConnection(str(self._address), PORT, context=trusted, timeout=ANSWER_LIMIT)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def ready(node: dict[str, Any]) -> bool:
    """Whether a node of the API is Ready."""
    return condition(node, "Ready") == "True"


def condition(thing: dict[str, Any], kind: str) -> str:
    """A condition's status: ``True``, ``False`` or ``Unknown``; empty where it is not told."""
    told = thing.get("status", {}).get("conditions", [])
    return next((str(each["status"]) for each in told if each["type"] == kind), "")
