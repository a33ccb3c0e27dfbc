"""A connection to somebody's OpenStack and the lab's things on it.

Whatever goes wrong is a :class:`.CloudError`: what was tried, what came back, what to do.
"""

from __future__ import annotations

import difflib
import re
import shlex
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, TypeVar

import openstack.config
import openstack.connection
import openstack.exceptions

from provision.cloud_errors import CloudError, doing
from provision.cloud_session import HalfAnswerError, settle
from provision.lab import Lab

__all__ = ["Cloud", "CloudError", "Flavor", "Image", "doing", "rc_lines"]

T = TypeVar("T")
# Not every cloud tells its users of their quota (extension quota_details): there the create calls will.
NOT_TOLD = frozenset({403, 404, 405})


@dataclass(frozen=True)
class Flavor:
    """A size of servers: ``ram`` in MiB, ``disk`` in GiB."""

    id: str
    name: str
    vcpus: int
    ram: int
    disk: int


@dataclass(frozen=True)
class Image:
    """An image: ``min_disk`` in GiB, ``min_ram`` in MiB."""

    id: str
    name: str
    min_disk: int = 0
    min_ram: int = 0


class Cloud:
    """A lab's cloud, as the user and project of the credentials. Safe to use from several threads.

    Attributes:
        api: the openstacksdk connection.
        lab: the lab it belongs to.
        project: id of the project.
    """

    def __init__(self, api: Any, lab: Lab, project: str) -> None:
        self.api = api
        self.lab = lab
        self.project = project
        self._lock = threading.RLock()
        self._known: dict[str, Any] = {}

    @classmethod
    def connect(cls, lab: Lab, clouds_file: Path | None = None) -> Cloud:
        """Logs in.

        Args:
            lab: says which entry of clouds.yaml; without one, ``OS_CLOUD`` or openrc's ``OS_*`` do.
            clouds_file: clouds.yaml to read in place of the lab's or the standard places.

        Raises:
            CloudError: no such entry, wrong credentials, no answer; says which.
        """
        file = clouds_file or lab.clouds_file
        what = f"cloud {lab.cloud!r}" if lab.cloud else "the cloud of the environment"
        with doing(f"reading the settings of {what}"):
            loader = openstack.config.OpenStackConfig(
                config_files=[str(file)] if file else None,
                # OS_CLIENT_CONFIG_FILE would be read in place of the file that was named
                load_envvars=not (file and lab.cloud),
            )
            names = sorted(loader.get_cloud_names())
            if lab.cloud and lab.cloud not in names:
                raise _unknown_cloud(lab.cloud, names, file)
            region = loader.get_one(cloud=lab.cloud)
        at = region.config.get("auth", {}).get("auth_url", "no URL")
        with doing(f"logging in to {what} at {at}"):
            api: Any = openstack.connection.Connection(config=region, app_name="labproof")
            settle(api.session, str(at))
            api.session.get_token()
            project = api.current_project_id
            if project is None:
                raise CloudError(
                    "configuration", f"logging in to {what} at {at}", "the login is not for a project",
                    "name one (project_name in clouds.yaml, OS_PROJECT_NAME)",
                )  # fmt: skip
            # The SDK makes a service's proxy at first use, which threads must not do at the same time.
            for service in ("compute", "network", "image"):
                try:
                    getattr(api, service).get_endpoint_data()
                except openstack.exceptions.NotSupported:
                    _ask_versions(api, service)
                    raise
        return cls(api, lab, str(project))

    def close(self) -> None:
        self.api.close()

    @contextmanager
    def doing(self, tried: str) -> Iterator[None]:
        """Turns whatever goes wrong inside into a :class:`CloudError` that says what was tried."""
        with doing(tried):
            yield

    def add_leg(self, router: str, **to: str) -> None:
        """Gives a router an interface: ``subnet_id=`` or ``port_id=``."""
        self._leg("add", router, to)

    def remove_leg(self, router: str, **of: str) -> None:
        self._leg("remove", router, of)

    def _leg(self, what: str, router: str, body: Mapping[str, str]) -> None:
        # The SDK's own methods for it have changed the names of their parameters between versions.
        path = f"/routers/{router}/{what}_router_interface"
        openstack.exceptions.raise_from_response(self.api.network.put(path, json=dict(body)))

    def external_network(self) -> str:
        """Id of the lab's external network."""
        return str(self._once("external network", self._find_external))

    def external_cidr(self) -> IPv4Network | None:
        """Its addresses; None where the cloud does not show them to its users (neutron's default policy)."""
        found: IPv4Network | None = self._once("external addresses", self._find_external_cidr)
        return found

    def facts(self) -> dict[str, str]:
        """What a report says of the cloud: nothing secret, no user's name."""
        auth = self.api.config.config.get("auth", {})
        return {
            "auth_url": str(auth.get("auth_url", "")),
            "region": str(self.api.config.get_region_name() or ""),
            "project": self.project,
            "external_network": self.lab.public_network,
            "image": self.lab.image,
        }

    def secrets(self) -> list[str]:
        """What must not be told of the login: whatever of it is no name and no address, and the token."""
        auth = self.api.config.config.get("auth", {})
        told = re.compile(r"(_url|_name|_id|^username)$")
        return [
            *(str(value) for key, value in auth.items() if not told.search(key)),
            str(self.api.auth_token),
        ]

    def flavor(self, name: str) -> Flavor:
        """The flavor that a topology's flavor is on this cloud."""
        flavors: dict[str, Flavor] = self._once("flavors", self._flavors)
        return self._pick("flavor", self.lab.flavor(name), flavors)

    def image(self, name: str | None = None) -> Image:
        """The image that a topology's image is on this cloud; the lab's own for None."""
        wanted = self.lab.image_for(name)
        found: Image = self._once(f"image {wanted}", lambda: self._find_image(wanted))
        return found

    def check_quota(self, needs: Mapping[str, int]) -> None:
        """Refuses what does not fit into the project's quota.

        Args:
            needs: how many more of ``network``, ``subnet``, ``port``, ``router``, ``floatingip``,
                ``security_group``, ``security_group_rule`` (neutron's names), ``instances``, ``cores``,
                ``ram`` in MiB (nova's).

        Raises:
            CloudError: names everything that there is too little of.
        """
        with doing("reading the project's quota"):
            free = {**self._compute_quota(), **self._network_quota()}
        short = [
            f"{name}: {need} needed, {max(0, free[name][0])} of {free[name][1]} free"
            for name, need in needs.items()
            if name in free and need > free[name][0]
        ]
        if short:
            raise CloudError(
                "quota", "checking the project's quota before anything is made", "; ".join(short),
                "remove what is not needed there, or have the quota raised",
            )  # fmt: skip

    def _compute_quota(self) -> dict[str, tuple[int, int]]:
        """Free and limit; what has no limit is not in it (-1, as the API has it)."""
        answer = self.api.compute.get("/limits")
        openstack.exceptions.raise_from_response(answer)
        limits = _part(answer, "limits", "absolute")
        names = {
            "instances": ("Instances", "Instances"),
            "cores": ("Cores", "Cores"),
            "ram": ("RAMSize", "RAM"),
        }
        rows = {
            name: (int(limits.get(f"maxTotal{most}", -1)), int(limits.get(f"total{used}Used", 0)))
            for name, (most, used) in names.items()
        }
        return {name: (limit - used, limit) for name, (limit, used) in rows.items() if limit >= 0}

    def _network_quota(self) -> dict[str, tuple[int, int]]:
        answer = self.api.network.get(f"/quotas/{self.project}/details.json")
        if answer.status_code in NOT_TOLD:
            return {}
        openstack.exceptions.raise_from_response(answer)
        rows = _part(answer, "quota").items()
        return {
            name: (row["limit"] - row["used"] - row["reserved"], row["limit"])
            for name, row in rows
            if row["limit"] >= 0
        }

    def _once(self, what: str, find: Any) -> Any:
        with self._lock:
            if what not in self._known:
                self._known[what] = find()
            return self._known[what]

    def _find_external(self) -> str:
        name = self.lab.public_network
        with doing(f"looking for the external network {name!r}"):
            networks = list(self.api.network.networks(**{"router:external": True}))
        found = {network.name: network.id for network in networks}
        return str(self._pick("external network", name, found))

    def _find_external_cidr(self) -> IPv4Network | None:
        network = self.external_network()
        with doing("reading the external network's addresses"):
            subnets = list(self.api.network.subnets(network_id=network, ip_version=4))
        return IPv4Network(subnets[0].cidr) if subnets else None

    def _flavors(self) -> dict[str, Flavor]:
        with doing("listing the flavors"):
            return {f.name: Flavor(f.id, f.name, f.vcpus, f.ram, f.disk) for f in self.api.compute.flavors()}

    def _find_image(self, name: str) -> Image:
        with doing(f"looking for the image {name!r}"):
            found = list(self.api.image.images(name=name))
            usable = [image for image in found if image.status == "active"]
            if not usable and not found:
                self._pick("image", name, {image.name: image for image in self.api.image.images()})
        if len(usable) != 1:
            states = ", ".join(f"{image.id} ({image.status})" for image in found)
            raise CloudError(
                "missing", f"looking for the image {name!r}",
                f"{len(usable)} of that name can be used, exactly one is needed: {states}",
                "rename or remove the others",
            )  # fmt: skip
        (image,) = usable
        return Image(image.id, image.name, image.min_disk or 0, image.min_ram or 0)

    def _pick(self, kind: str, name: str, found: Mapping[str, T]) -> T:
        if name in found:
            return found[name]
        raise CloudError(
            "missing", f"looking for the {kind} {name!r}",
            f"there is none{_meant(name, found)}; there are: {_list(found)}",
            f"name one of them in {self.lab.source or 'the lab file'}",
        )  # fmt: skip


def _ask_versions(api: Any, service: str) -> None:
    """Asks a service for its versions. Of whatever keeps the answer from the SDK, it says that there is none.

    Raises:
        What the answer to that is, if it is none.
    """
    url = api.session.get_endpoint(
        service_type=service,
        interface=api.config.get_interface(service),
        region_name=api.config.get_region_name(service),
        skip_discovery=True,
    )
    openstack.exceptions.raise_from_response(api.session.get(url, raise_exc=False))


def _part(answer: Any, *keys: str) -> dict[str, Any]:
    """What stands under the keys of an answer; an answer without them is no whole one."""
    found = answer.json()
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        where = f"{answer.request.method} {answer.request.url.partition('?')[0]}"
        raise HalfAnswerError(f"the answer to {where} has no {'.'.join(keys)} (HTTP {answer.status_code})")
    return found


def _unknown_cloud(name: str, names: list[str], file: Path | None) -> CloudError:
    where = str(file) if file else "clouds.yaml (here, in ~/.config/openstack or /etc/openstack)"
    return CloudError(
        "configuration", f"looking for cloud {name!r} in {where}",
        f"there is no such entry{_meant(name, names)}; there are: {_list(names)}",
        "add it, or name another in the lab file",
    )  # fmt: skip


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(str(name) for name in names)) or "none"


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, [str(item) for item in known], n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def rc_lines(cloud: Cloud) -> list[str]:
    """The RC file of the cloud's user, as the dashboard offers it. It holds the password."""
    settings = cloud.api.config.config
    values = {f"OS_{key.upper()}": value for key, value in settings.get("auth", {}).items()}
    values |= {"OS_REGION_NAME": cloud.api.config.get_region_name(), "OS_IDENTITY_API_VERSION": "3"}
    if cacert := settings.get("cacert"):
        values["OS_CACERT"] = cacert
    return [f"export {key}={shlex.quote(str(value))}" for key, value in values.items() if value]
