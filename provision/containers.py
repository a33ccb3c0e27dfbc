"""Containers, images and the Docker engine, through Docker's SDK: in the NAT VM over SSH, or on a local engine."""

from __future__ import annotations

import io
import logging
import tarfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit

import docker
import docker.errors
import paramiko
import requests
from docker.transport.sshconn import SSHConnection, SSHConnectionPool, SSHHTTPAdapter

from probes.ssh import session
from provision.failures import FailureError
from provision.journal import Journal

ANSWER_SECONDS = 120
LABEL = "labproof"
Kind = Literal["unreachable", "missing", "conflict", "refused", "timeout", "fault"]


class ContainerError(FailureError):
    """The engine did not do what it was asked to: in one line what was tried, and what came back.

    Attributes:
        kind: ``unreachable`` (no engine there), ``missing`` (no such container or image), ``conflict`` (the
            name is taken, or it runs), ``refused``, ``timeout``, ``fault`` (the engine's own).
        status: the HTTP status, if one came back.
    """

    def __init__(self, kind: Kind, tried: str, answer: str, status: int | None = None) -> None:
        super().__init__(tried, answer)
        self.kind: Kind = kind
        self.status = status


@contextmanager
def doing(tried: str) -> Iterator[None]:
    """Turns the errors of the SDK, of HTTP and of SSH into a :class:`ContainerError` that says what was tried."""
    try:
        yield
    except docker.errors.ImageNotFound as error:
        raise ContainerError("missing", tried, _line(error.explanation or error), 404) from error
    except docker.errors.BuildError as error:
        raise ContainerError("refused", tried, _line(error.msg)) from error
    except docker.errors.APIError as error:
        status = error.status_code
        kinds: dict[int | None, Kind] = {404: "missing", 409: "conflict", 400: "refused", 403: "refused"}
        raise ContainerError(
            kinds.get(status, "fault"), tried, _line(error.explanation or error), status
        ) from error
    except requests.Timeout as error:
        raise ContainerError("timeout", tried, f"no answer within {ANSWER_SECONDS} s") from error
    except (
        docker.errors.DockerException,
        requests.RequestException,
        paramiko.SSHException,
        OSError,
        EOFError,
    ) as error:
        raise ContainerError("unreachable", tried, _line(error)) from error


def _line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class _Connection(SSHConnection):
    """The SDK's, which takes a session that the server ended at once for the end of all."""

    def connect(self) -> None:
        assert self.ssh_transport is not None
        self.sock: Any = session(self.ssh_transport, "docker system dial-stdio", ANSWER_SECONDS)


class _Connections(SSHConnectionPool):
    """The SDK's, which hands out a connection that has ended meanwhile like one that lives."""

    def _new_conn(self) -> Any:
        return _Connection(self.ssh_transport, ANSWER_SECONDS, self.ssh_host)

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        channel = connection.sock
        if channel is not None and (channel.closed or channel.eof_received):
            connection.close()
            return self._new_conn()
        return connection


class _OverSsh(SSHHTTPAdapter):
    """The SDK's ``ssh://``, with a key and a host key that are given to it in place of those in ``~/.ssh``."""

    def __init__(self, url: str, key: paramiko.PKey, host_key: str, timeout: int) -> None:
        self._key = key
        self._host_key = host_key
        super().__init__(url, timeout=timeout)
        self._connections = _Connections(
            ssh_client=self.ssh_client, timeout=timeout, maxsize=self.max_pool_size, host=self.ssh_host
        )

    def get_connection(self, url: object, proxies: object = None) -> _Connections:
        return self._connections

    def _create_paramiko_client(self, base_url: str) -> None:
        url = urlsplit(base_url)
        client = paramiko.SSHClient()
        kind, text = self._host_key.split()[:2]
        entry = paramiko.hostkeys.HostKeyEntry.from_line(f"[{url.hostname}]:{url.port} {kind} {text}")
        assert entry is not None
        assert entry.key is not None
        client.get_host_keys().add(f"[{url.hostname}]:{url.port}", kind, entry.key)
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        self.ssh_client = client
        self.ssh_params = {
            "hostname": url.hostname, "port": url.port, "username": url.username, "pkey": self._key,
            "allow_agent": False, "look_for_keys": False, "timeout": 20,
        }  # fmt: skip
        logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)


def over_ssh(address: str, port: int, user: str, key: paramiko.PKey, host_key: str) -> docker.DockerClient:
    """The engine of a machine that is entered over SSH, as ``docker -H ssh://user@address:port`` does.

    Args:
        host_key: the machine's, ``ssh-ed25519 AAAA...``.

    Raises:
        ContainerError: ``unreachable``.
    """
    url = f"ssh://{user}@{address}:{port}"
    with doing(f"reaching the Docker engine at {url}"):
        # the client is made for a place that it never connects to, and then led to ours
        client = docker.DockerClient(base_url="http://127.0.0.1:2375", version="1.41", timeout=ANSWER_SECONDS)
        adapter = _OverSsh(url, key, host_key, ANSWER_SECONDS)
        client.api.mount("http+docker://ssh", adapter)
        client.api.base_url = "http+docker://ssh"
        client.ping()
    return client


def local() -> docker.DockerClient:
    """The engine of ``DOCKER_HOST``, or the local one.

    Raises:
        ContainerError: ``unreachable``.
    """
    with doing("reaching the Docker engine of DOCKER_HOST"):
        client = docker.from_env(timeout=ANSWER_SECONDS)
        client.ping()
    return client


@dataclass
class Engine:
    """A Docker engine, and what a run has made on it.

    Attributes:
        client: the SDK's.
        prefix: of the names of containers and images; empty on a machine that is the run's own.
        only: names of those that may be removed; None for all that carry the run's label.
    """

    client: docker.DockerClient
    run: str
    prefix: str = ""
    journal: Journal | None = None
    only: Collection[str] | None = None

    def name(self, what: str) -> str:
        return f"{self.prefix}{what}"

    def start(self, what: str, image: str, *, ports: dict[int, int] | None = None) -> Any:
        """Runs a container that stays, as ``docker run -dit --name WHAT`` does; the SDK's container.

        Args:
            ports: container's TCP port -> the engine's host's.

        Raises:
            ContainerError: ``missing``, the image; ``conflict``, the name.
        """
        name = self.name(what)
        if self.journal:
            self.journal.intend("container", name)
        what_for = f"docker run {name} from {image}"
        self._there(image, what_for)
        with doing(what_for):
            made = self.client.containers.run(
                image, name=name, detach=True, tty=True, stdin_open=True, labels={LABEL: self.run},
                ports={f"{inside}/tcp": outside for inside, outside in (ports or {}).items()},
            )  # fmt: skip
        self._made("container", name, made.id)
        return made

    def _there(self, image: str, what_for: str) -> None:
        """Pulls an image that the engine does not have, as ``docker run`` does; ``what_for`` leads its error."""
        try:
            with doing(f"docker image inspect {image}"):
                self.client.images.get(image)
        except ContainerError as error:
            if error.kind != "missing":
                raise
            with doing(f"{what_for}: No such image on the engine; docker pull {image}"):
                self.client.images.pull(image)

    def commit(self, container: Any, what: str) -> Any:
        """Makes an image of a container, as ``docker commit`` does; the SDK's image."""
        repository = self._image(what)
        with doing(f"docker commit {container.name} {repository}"):
            image = container.commit(repository=repository, tag="latest", conf={"Labels": {LABEL: self.run}})
        self._made("container image", repository, image.id)
        return image

    def build(self, what: str, dockerfile: str) -> Any:
        """Builds an image of a Dockerfile alone, as ``docker build`` does; the SDK's image.

        The run's label is a step of its own before all others, in place of the last one that the API's ``labels``
        makes: the image of a step, and the container that it runs in, outlive a build that is cut off.

        Args:
            dockerfile: its first line is its ``FROM``.

        Raises:
            ContainerError: ``refused``, a step of it failed.
        """
        tag = self._image(what)
        base, steps = dockerfile.split("\n", 1)
        labelled = f"{base}\nLABEL {LABEL}={self.run}\n{steps}"
        with doing(f"docker build -t {tag}"):
            image, _ = self.client.images.build(
                fileobj=_context(labelled), custom_context=True, tag=f"{tag}:latest", rm=True, forcerm=True
            )
        self._made("container image", tag, image.id)
        return image

    def _made(self, kind: str, name: str, id: object) -> None:  # noqa: A002
        if self.journal:
            self.journal.made(kind, name, str(id))

    def _image(self, what: str) -> str:
        name = self.name(what)
        if self.journal:
            self.journal.intend("container image", name)
        return name

    def there(self) -> list[tuple[str, str]]:
        """Kind and name of the run's containers and images that are there.

        Raises:
            ContainerError: the engine could not be asked.
        """
        containers, images = self._mine()
        return [("container", str(each.name)) for each in containers] + [
            ("container image", _tag(each)) for each in images
        ]

    def remove_all(self) -> list[str]:
        """Removes the run's containers and images; says what is left, and why."""
        left = []
        containers, images = self._mine()
        for container in containers:
            left += self._away(f"container {container.name}", partial(container.remove, force=True, v=True))
        for image in images:
            left += self._away(
                f"image {_tag(image)}", partial(self.client.images.remove, str(image.id), force=True)
            )
        return left

    def _mine(self) -> tuple[list[Any], list[Any]]:
        mine: dict[str, Any] = {"label": f"{LABEL}={self.run}"}
        with doing("listing the run's containers and images"):
            containers = self.client.containers.list(all=True, filters=mine, ignore_removed=True)
            images = self.client.images.list(filters=mine)
        if self.only is None:
            return containers, images
        return (
            [each for each in containers if each.name in self.only],
            # one without a name is what another of that name has taken it from
            [each for each in images if not each.tags or _tag(each).rpartition(":")[0] in self.only],
        )

    def _away(self, what: str, remove: Callable[[], object]) -> list[str]:
        try:
            with doing(f"removing {what}"):
                remove()
        except ContainerError as error:
            return [] if error.kind == "missing" else [str(error)]
        return []


def _tag(image: Any) -> str:
    return str(next(iter(image.tags), image.id))


def _context(dockerfile: str) -> io.BytesIO:
    data, packed = dockerfile.encode(), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    packed.seek(0)
    return packed
