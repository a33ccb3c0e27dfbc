"""A cluster's failures in words: what was tried, what came back, what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import urllib3
from kubernetes import config
from kubernetes.client.rest import ApiException

from provision.failures import FailureError

Kind = Literal[
    "configuration", "authentication", "unreachable", "timeout", "missing", "conflict", "refused", "fault"
]


class KubernetesError(FailureError):
    """The cluster did not do what it was asked to: in one line what was tried, what came back, what to do.

    Attributes:
        kind: ``configuration`` (kubeconfig), ``authentication``, ``unreachable`` (no API there), ``timeout``,
            ``missing`` (no such thing), ``conflict`` (it is there), ``refused`` (not allowed, or wrong), ``fault``
            (the cluster's own).
        status: the HTTP status, if one came back.
    """

    def __init__(
        self, kind: Kind, tried: str, answer: str, advice: str = "", status: int | None = None
    ) -> None:
        super().__init__(tried, answer, advice)
        self.kind: Kind = kind
        self.status = status


@contextmanager
def doing(tried: str) -> Iterator[None]:
    """Turns the errors of the client, of HTTP and of the kubeconfig into a :class:`KubernetesError`."""
    try:
        yield
    except config.ConfigException as error:
        raise KubernetesError(
            "configuration", tried, _line(error), "check the kubeconfig: KUBECONFIG, or kubernetes.kubeconfig"
        ) from error
    except ApiException as error:
        raise _refusal(tried, error) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        # a refused connection is a timeout too to this library
        refused = isinstance(error, urllib3.exceptions.NewConnectionError)
        if isinstance(error, urllib3.exceptions.TimeoutError) and not refused:
            raise KubernetesError("timeout", tried, _line(error), "is the API server up?") from error
        raise KubernetesError(
            "unreachable", tried, _reason(error), "is the address right, and the API server up?"
        ) from error


def _refusal(tried: str, error: ApiException) -> KubernetesError:
    status = int(error.status or 0)
    said = _said(error) + (f" (HTTP {status})" if status else "")
    if status == 401:
        return KubernetesError(
            "authentication", tried, said, "the kubeconfig's user was not accepted", status
        )
    if status == 403:
        return KubernetesError("refused", tried, said, "the user has not the rights for it", status)
    kinds: dict[int, Kind] = {0: "unreachable", 404: "missing", 409: "conflict"}
    usual: Kind = "refused" if 400 <= status < 500 else "fault"
    return KubernetesError(kinds.get(status, usual), tried, said, status=status or None)


def _said(error: ApiException) -> str:
    """The API server's own words (a Status object's message)."""
    try:
        return " ".join(str(json.loads(error.body)["message"]).split())
    except (TypeError, ValueError, KeyError):
        return _line(error.reason or error.body or error)


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None)
    return _line(inner if isinstance(inner, BaseException) else error)


def _line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
