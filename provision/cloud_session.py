"""How a cloud's API is asked: how long an answer may take, when it is asked again, and what counts as an answer.

A night's run asks some thousand times. A load balancer that drops one look, or a service that says when to come back,
must not end it; but nothing that may have made something is sent twice.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Self

import requests
import urllib3.exceptions
from keystoneauth1.session import TCPKeepAliveAdapter
from urllib3.connectionpool import ConnectionPool
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
CONNECTIONS = 32
READS = frozenset({"GET", "HEAD"})
TRIES_AGAIN = 3
PAUSE = 0.5
# A cloud that wants to be left alone for longer is not waited for: its word is the reason then.
LONGEST_PAUSE = 20.0
# RFC 9110, 15.6: bad gateway, service unavailable, gateway timeout; RFC 6585, 4: too many requests
PASSING = frozenset({429, 502, 503, 504})

# Without a handler of their own, their warnings would be printed beside the one line that says what is wrong.
for _name in ("keystoneauth", "urllib3"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class HalfAnswerError(requests.RequestException):
    """What came back as a success is not what was asked for: it is cut off, or somebody else's page."""


class Patience(Retry):
    """When a request is sent again.

    - It was turned away with a time to come back (``Retry-After`` with 413, 429, 503; RFC 9110, 10.2.3): any, for it
      was not carried out; after that time, if that is not too long.
    - It only looks: also after 429, 502, 503 and 504, and after a connection that broke off. Not after one that was
      silent for all of its time, nor after a certificate that is not trusted: these will be so again.
    """

    RETRY_AFTER_STATUS_CODES = frozenset({413, 429, 503})

    @classmethod
    def new_patience(cls) -> Patience:
        return cls(
            total=TRIES_AGAIN,
            allowed_methods=READS,
            status_forcelist=PASSING,
            backoff_factor=PAUSE,
            raise_on_status=False,
        )

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        turned_away = has_retry_after and status_code in self.RETRY_AFTER_STATUS_CODES
        return bool(self.total) and (turned_away or super().is_retry(method, status_code, has_retry_after))

    def parse_retry_after(self, retry_after: str) -> float:
        try:
            return super().parse_retry_after(retry_after)
        except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
            return 0.0

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        if error is not None and not _worth_another(method, error):
            if isinstance(error, urllib3.exceptions.ReadTimeoutError | urllib3.exceptions.ProtocolError):
                raise error
            raise urllib3.exceptions.MaxRetryError(_pool, url or "", error)  # type: ignore[arg-type]
        if response is not None and (self.get_retry_after(response) or 0.0) > LONGEST_PAUSE:
            raise urllib3.exceptions.MaxRetryError(_pool, url or "")  # type: ignore[arg-type]
        return super().increment(method, url, response, error, _pool, _stacktrace)


def _worth_another(method: str | None, error: Exception) -> bool:
    if (method or "").upper() not in READS:
        return False
    silent = (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ConnectTimeoutError)
    untrusted = "CERTIFICATE_VERIFY_FAILED" in str(error)
    return not isinstance(error, silent) and not untrusted


def settle(session: Any, auth_url: str) -> None:
    """Has a keystoneauth session ask as this module says.

    Args:
        auth_url: of the identity API.
    """

    def open_to_all(response: requests.Response, **_: Any) -> requests.Response:
        # To a version document that asks for a login keystoneauth answers with one, in the middle of the login, for
        # which it waits then for ever (5.18: BaseIdentityPlugin.get_access holds its lock).
        asked = response.request
        anonymous = asked.method == "GET" and "X-Auth-Token" not in asked.headers
        if response.status_code == 401 and anonymous and (asked.url or "").startswith(auth_url.rstrip("/")):
            raise HalfAnswerError(f"GET {asked.url} asks for a login before the login (HTTP 401)")
        return response

    # One float would be both limits: a dead host is to be noticed sooner than a slow answer.
    session.timeout = (CONNECT_SECONDS, ANSWER_SECONDS)
    for scheme in ("http://", "https://"):
        adapter = TCPKeepAliveAdapter(pool_maxsize=CONNECTIONS, max_retries=Patience.new_patience())
        session.session.mount(scheme, adapter)
    session.session.hooks["response"] += [whole, open_to_all]


def whole(response: requests.Response, **_: Any) -> requests.Response:
    """A hook of requests: refuses an answer of success that is none.

    The SDK takes half a record for a whole one whose id is None, and goes on with that.

    Raises:
        HalfAnswerError: says which request it was, and what came.
    """
    asked = response.request
    if response.status_code not in (200, 201, 202, 203, 300) or asked.method == "HEAD":
        return response
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if "json" not in kind and kind not in ("", "text/html"):
        return response
    where = f"{asked.method} {(asked.url or '').partition('?')[0]}"
    if not response.content.strip():
        if response.status_code == 200 and asked.method == "GET":
            raise HalfAnswerError(f"the answer to {where} is empty (HTTP 200)")
        return response
    try:
        response.json()
    except ValueError as error:
        said = "a page" if kind == "text/html" else "cut off, or no JSON"
        raise HalfAnswerError(f"the answer to {where} is {said} (HTTP {response.status_code})") from error
    return response
