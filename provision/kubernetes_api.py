"""A cluster's API through the official client: objects as the manifests have them.

Objects are plain dictionaries, as YAML and ``kubectl get -o json`` show them: the client's classes follow one version of
the API, and a cluster may be of another.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubernetes import client, config

from provision.kubernetes_errors import KubernetesError, doing

ANSWER_SECONDS = (5, 30)
"""For a connection, and for an answer."""
MERGE = "application/merge-patch+json"
NAMELESS = hasattr(os, "memfd_create")
"""Whether files in memory can be had that have a path all the same (Linux)."""
Object = dict[str, Any]


@dataclass(frozen=True)
class Resource:
    """Where a kind of object is in the API (Kubernetes API reference)."""

    plural: str
    group: str = "api/v1"
    namespaced: bool = True


RESOURCES: Mapping[str, Resource] = {
    "Namespace": Resource("namespaces", namespaced=False),
    "Node": Resource("nodes", namespaced=False),
    "Pod": Resource("pods"),
    "Service": Resource("services"),
    "Endpoints": Resource("endpoints"),
    "Event": Resource("events"),
    "Secret": Resource("secrets"),
    "ConfigMap": Resource("configmaps"),
    "ServiceAccount": Resource("serviceaccounts"),
    "Deployment": Resource("deployments", "apis/apps/v1"),
    "ReplicaSet": Resource("replicasets", "apis/apps/v1"),
    "DaemonSet": Resource("daemonsets", "apis/apps/v1"),
    "Lease": Resource("leases", "apis/coordination.k8s.io/v1"),
    "Role": Resource("roles", "apis/rbac.authorization.k8s.io/v1"),
    "RoleBinding": Resource("rolebindings", "apis/rbac.authorization.k8s.io/v1"),
}


class Api:
    """A cluster's API, as one user.

    Args:
        configuration: the client's: server, certificates, token.
        files: what its paths lead to, and must be there for as long as this is.
    """

    def __init__(self, configuration: Any, files: Sequence[_Nameless] = ()) -> None:
        self.configuration, self._files = configuration, files
        # a pod that does not answer is asked again by us, who know for how long
        configuration.retries = False
        self._client = client.ApiClient(configuration)
        self._lock = threading.Lock()

    @classmethod
    def connect(cls, kubeconfig: Path | None = None, context: str | None = None) -> Api:
        """The cluster of a kubeconfig; for None that of ``KUBECONFIG``, or of ``~/.kube/config``.

        Raises:
            KubernetesError: ``configuration``, ``unreachable``, ``authentication``.
        """
        place = str(kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config")
        configuration = client.Configuration()
        # the client writes certificates and key to files, which a run that is killed would leave to whoever reads them
        with (
            doing(f"reading the kubeconfig {place}"),
            tempfile.TemporaryDirectory(prefix="labproof-") as folder,
        ):
            config.load_kube_config(
                # the client reads KUBECONFIG when it is imported; who has set it since means it too
                config_file=str(Path(place).expanduser()) if os.pathsep not in place else place,
                context=context,
                client_configuration=configuration,
                persist_config=False,
                temp_file_path=folder if NAMELESS else None,
            )
            files = _taken_in(configuration, Path(folder))
        api = cls(configuration, files)
        api.version()
        return api

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self.configuration.host)

    @property
    def address(self) -> str:
        """The API server's address or name."""
        return urlsplit(self.server).hostname or self.server

    def with_token(self, token: str) -> Api:
        """The same API as somebody else."""
        other = deepcopy(self.configuration)
        other.cert_file = other.key_file = None
        other.refresh_api_key_hook = None
        other.api_key = {"authorization": f"Bearer {token}"}
        other.api_key_prefix = {}
        return Api(other, self._files)

    def version(self) -> str:
        """Kubernetes' version, ``v1.28.1``."""
        return str(self.request("GET", "/version")["gitVersion"])

    def objects(self, kind: str, namespace: str = "", *, labels: str = "") -> list[Object]:
        """Objects of a kind, of one namespace or of all; ``labels`` is a label selector."""
        query = [("labelSelector", labels)] if labels else []
        items = self.request("GET", _path(kind, namespace), query=query).get("items") or []
        # a list's items do not repeat what they are
        return [{"kind": kind, **item} for item in items]

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """An object; None where there is none."""
        try:
            found: Object = self.request("GET", _path(kind, namespace, name))
        except KubernetesError as error:
            if error.kind != "missing":
                raise
            return None
        return found

    def apply(self, thing: Object) -> Object:
        """Makes an object, or changes the one of its name to what is said of it.

        Returns:
            the object as the cluster has it.
        """
        kind, metadata = thing["kind"], thing["metadata"]
        namespace = metadata.get("namespace", "")
        try:
            made: Object = self.request("POST", _path(kind, namespace), thing)
        except KubernetesError as error:
            if error.kind != "conflict":
                raise
        else:
            return made
        return self.patch(kind, metadata["name"], namespace, thing)

    def patch(self, kind: str, name: str, namespace: str, change: Object) -> Object:
        """Changes an object: what is said replaces what is there, None removes it (RFC 7396)."""
        changed: Object = self.request("PATCH", _path(kind, namespace, name), change, content=MERGE)
        return changed

    def delete(
        self,
        kind: str,
        name: str,
        namespace: str = "",
        *,
        policy: str = "Background",
        grace: int | None = None,
    ) -> bool:
        """Begins an object's removal; says whether there was one.

        Args:
            policy: what becomes of what it owns: removed after it (``Background``), before it (``Foreground``).
            grace: seconds given to a pod in place of its own.
        """
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            self.request("DELETE", _path(kind, namespace, name), options)
        except KubernetesError as error:
            if error.kind != "missing":
                raise
            return False
        return True

    def token(self, account: str, namespace: str) -> str:
        """A token of a service account, as its pods have one (TokenRequest API).

        Raises:
            KubernetesError: the cluster gives none.
        """
        path = f"{_path('ServiceAccount', namespace, account)}/token"
        wanted = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "spec": {"expirationSeconds": 600},
        }
        return str(self.request("POST", path, wanted)["status"]["token"])

    def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: list[tuple[str, str]] | None = None,
        content: str = "application/json",
    ) -> Any:
        """One request; the answer's JSON."""
        with doing(f"{method} {self.server}{path}"):
            return self._client.call_api(
                path,
                method,
                query_params=query or [],
                header_params={"Accept": "application/json", "Content-Type": content},
                body=body,
                response_type="object",
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=ANSWER_SECONDS,
            )

    def open_exec(self, namespace: str, pod: str, container: str, command: list[str]) -> Any:
        """A command in a container, its streams on one WebSocket; the client's object for it, in bytes.

        Raises:
            KubernetesError: it could not be started.
        """
        from kubernetes.stream import stream

        # the client's stream() changes the object that it is given while it connects
        apart = client.CoreV1Api(client.ApiClient(self.configuration))
        with doing(f"exec {' '.join(command)} in pod {pod}"):
            return stream(
                apart.connect_get_namespaced_pod_exec,
                pod, namespace, container=container, command=command,
                stdin=True, stdout=True, stderr=True, tty=False, binary=True, _preload_content=False,
            )  # fmt: skip

    def close(self) -> None:
        """Ends its connections."""
        with self._lock:
            self._client.rest_client.pool_manager.clear()
            self._client.close()


class _Nameless:
    """A file in memory: it ends with the process, however that ends (memfd_create(2))."""

    def __init__(self, content: bytes) -> None:
        number = os.memfd_create("labproof")
        weakref.finalize(self, os.close, number)
        with open(number, "wb", closefd=False) as file:
            file.write(content)
        self.path = f"/proc/self/fd/{number}"


def _taken_in(configuration: Any, folder: Path) -> list[_Nameless]:
    """Has a configuration's paths into the folder lead to copies in memory."""
    files = []
    for name in ("ssl_ca_cert", "cert_file", "key_file"):
        path = getattr(configuration, name)
        if path and Path(path).parent == folder:
            files.append(_Nameless(Path(path).read_bytes()))
            setattr(configuration, name, files[-1].path)
    return files


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """The results of several requests made at the same time."""
    with ThreadPoolExecutor(max(1, len(calls)), thread_name_prefix="api") as threads:
        return list(threads.map(lambda call: call(), calls))


def _path(kind: str, namespace: str = "", name: str = "") -> str:
    resource = RESOURCES[kind]
    where = f"/namespaces/{namespace}" if namespace and resource.namespaced else ""
    return f"/{resource.group}{where}/{resource.plural}" + (f"/{name}" if name else "")
