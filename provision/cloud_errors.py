"""A cloud's failures in words: what was tried, what came back, what to do.

Every error of the SDK, of the HTTP library and of the services becomes a :class:`CloudError` here, only here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import openstack.exceptions
import requests
from keystoneauth1 import exceptions as auth_errors

from provision.cloud_session import PASSING, HalfAnswerError
from provision.failures import FailureError

Kind = Literal[
    "configuration",
    "authentication",
    "unreachable",
    "timeout",
    "missing",
    "quota",
    "pool",
    "refused",
    "conflict",
    "busy",
    "fault",
]


class CloudError(FailureError):
    """The cloud did not do what it was asked to: in one line what was tried, what came back, what to do.

    Attributes:
        kind: ``configuration`` (clouds.yaml, environment), ``authentication``, ``unreachable`` (no API
            there), ``timeout``, ``missing`` (no such thing), ``quota``, ``pool`` (no address left),
            ``refused`` (not allowed, or wrong), ``conflict`` (in use, or there), ``busy`` (asked too often),
            ``fault`` (the cloud's own).
        status: the HTTP status, if one came back.
    """

    def __init__(
        self, kind: Kind, tried: str, answer: str, advice: str = "", status: int | None = None
    ) -> None:
        super().__init__(tried, answer, advice)
        self.kind: Kind = kind
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether it may be over in a moment: nobody answered, or a proxy said that nobody does."""
        return self.kind in ("unreachable", "timeout") or self.status in PASSING


@contextmanager
def doing(tried: str) -> Iterator[None]:
    """Turns the errors of the SDK and of HTTP into a :class:`CloudError` that says what was tried."""
    try:
        yield
    except (
        openstack.exceptions.SDKException,
        auth_errors.ClientException,
        requests.RequestException,
    ) as error:
        raise explain(error, tried) from error


def explain(error: Exception, tried: str) -> CloudError:
    """The error in words; see :class:`CloudError` for the kinds."""
    status = getattr(error, "status_code", None) or getattr(error, "http_status", None)
    if status is None and isinstance(error, auth_errors.DiscoveryFailure):
        # of the identity API's versions; what kept them away is beneath it
        status = getattr(error.__cause__ or error.__context__, "http_status", None)
    text = _answer(error)
    if isinstance(error, auth_errors.Unauthorized) or status == 401:
        return CloudError(
            "authentication", tried, "the credentials were not accepted (HTTP 401)",
            "check user, password, project and domains", 401,
        )  # fmt: skip
    if isinstance(error, openstack.exceptions.ConfigException | auth_errors.MissingRequiredOptions):
        return CloudError("configuration", tried, text, "check clouds.yaml or the OS_* variables")
    if on_the_way := _on_the_way(error, tried, text):
        return on_the_way
    if isinstance(error, auth_errors.EndpointNotFound | auth_errors.CatalogException):
        return CloudError("configuration", tried, text, "the cloud has no such service in this region")
    return _refusal(tried, text, int(status) if status else None)


def _on_the_way(error: Exception, tried: str, text: str) -> CloudError | None:
    """What kept a whole answer from coming; None if one came."""
    if half := _half(error):
        return CloudError("fault", tried, half, "the fault is on the cloud's side, or a proxy's before it")
    if untrusted := _untrusted(str(error)):
        return CloudError(
            "configuration", tried, untrusted,
            "is `cacert` in clouds.yaml this cloud's, and the name in its URL the certificate's?",
        )  # fmt: skip
    unreachable = _unreachable(str(error))
    if isinstance(error, auth_errors.ConnectTimeout | requests.Timeout):
        return CloudError("timeout", tried, unreachable or text, "is the address right, and the API up?")
    if isinstance(error, auth_errors.ConnectionError | requests.ConnectionError) or unreachable:
        return CloudError("unreachable", tried, unreachable or text, "is the address right, and the API up?")
    return None


def _refusal(tried: str, text: str, status: int | None) -> CloudError:
    """What a service said, by its status and its own words (compute and networking API references)."""
    said = text if not status or f"HTTP {status}" in text else f"{text} (HTTP {status})"
    low = text.lower()
    if "quota" in low and status in {403, 409, 413}:
        return CloudError("quota", tried, said, "remove what is not needed, or have the quota raised", status)
    if "no more ip addresses" in low or "ipaddressgeneration" in low:
        return CloudError("pool", tried, said, "release addresses that are not needed", status)
    if status in {413, 429}:
        return CloudError("busy", tried, said, "the cloud is to be asked less often: try again later", status)
    if status is not None and 400 <= status < 500:
        kinds: dict[int, Kind] = {404: "missing", 409: "conflict"}
        advice = "the user has not the rights for it" if status == 403 else ""
        return CloudError(kinds.get(status, "refused"), tried, said, advice, status)
    return CloudError("fault", tried, said, "the fault is on the cloud's side: look into its logs", status)


def _answer(error: Exception) -> str:
    """The service's own words, without the SDK's around them, on one line."""
    details = getattr(error, "details", None)
    text = str(details or getattr(error, "message", None) or error)
    return " ".join(text.split()) or type(error).__name__


def _half(error: Exception) -> str:
    """What is said of an answer that is none, however deep the libraries have wrapped it."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, HalfAnswerError):
        seen = seen.__cause__ or seen.__context__
    return str(seen) if seen else ""


def _untrusted(text: str) -> str:
    """``the certificate of URL is not trusted (reason)``; empty for anything else."""
    reason = re.search(r"certificate verify failed: ([^(\"']+)", text, re.I)
    if not reason:
        return ""
    return f"the certificate of {_url(text)} is not trusted ({reason[1].strip().rstrip('.')})"


def _url(text: str) -> str:
    url = re.search(r"https?://[^\s'\",]+", text)
    return url[0].rstrip(":") if url else "the API"


# what the libraries' nested texts hold of the reason, the most telling first
_REASONS = (
    r"\[Errno -?\d+\] ([\w ]+)",
    r"Error\(\d+, '([\w ]+)'\)",
    r"(IncompleteRead)",
    r"\[SSL: ?\w*\] ([\w ]+)",
    r"(EOF occurred in violation of protocol)",
    r"(timed out)",
    r"(RemoteDisconnected)",
    r"(Connection aborted)",
)
_PLAIN = {
    "IncompleteRead": "it broke off in the middle of the answer",
    "RemoteDisconnected": "it hung up without an answer",
}


def _unreachable(text: str) -> str:
    """``no answer from URL (reason)``, of the nested texts of keystoneauth, requests, urllib3; else empty."""
    if not re.search(
        r"unable to establish connection|max retries exceeded|timed out|connection aborted|connection broken"
        r"|SSL exception",
        text, re.I,
    ):  # fmt: skip
        return ""
    found = next(filter(None, (re.search(pattern, text, re.I) for pattern in _REASONS)), None)
    why = _PLAIN.get(found[1], found[1].strip().lower()) if found else ""
    return f"no answer from {_url(text)}" + (f" ({why})" if why else "")
