"""Lab files: which real thing plays each part of the lab.

A lab file is TOML (``labs/NAME.toml``). It names things and where to find them; what opens them (passwords,
tokens, keys) stays where the ecosystem keeps it: clouds.yaml, openrc, an SSH agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from provision import tables
from provision.kubernetes_part import KUBERNETES, Kubernetes
from provision.tables import Each, Key, Table, meant, read_table

LABS = Path(__file__).resolve().parent.parent / "labs"
DRIVERS = ("box", "cloud", "virtualbox")
HYPERVISORS = ("auto", "virtualbox", "qemu")
ENGINES = ("vm", "local")
PARTS = ("openstack", "calculator", "virtualbox", "docker", "kubernetes", "desktop", "neighbour", "outside")


class LabError(tables.RefusedError):
    """A lab file is refused."""


@dataclass(frozen=True)
class Lab:
    """A lab, as its file states it.

    Attributes:
        name: the file's name without ``.toml``.
        driver: ``box`` (the embedded lab, started for the run), ``cloud``, ``virtualbox`` (standing already).
        parts: which parts there are; a check of one that is not is skipped, and only then.
        cloud: entry of clouds.yaml; None for the environment's (``OS_CLOUD`` or openrc's ``OS_*``).
        clouds_file: the clouds.yaml to read; None for the places that openstacksdk looks in.
        public_network: the cloud's external network, which a topology's external networks stand for.
        image: image for hosts that name none, and the image names of topologies that are mapped.
        login: user to log in as on that image.
        flavors: a topology's flavor name -> the cloud's; a name not here stands for itself.
        dns: name servers for networks that name none.
        reader_cloud: entry of clouds.yaml for a user who may look and not act; None where there is none.
        over_quota_flavor: a flavor that is beyond the project's quota; None where there is none.
        config_drive: whether servers get their metadata on a config drive too.
        ssh_key: private key file to log in with; None makes a key for the run.
        outside: an address on the internet that answers ping.
        outside_tcp: a TCP port that it listens on; None if only ping may be used.
        neighbour: address of a second machine on the desktop's network, entered over SSH as
            ``neighbour_login`` with ``neighbour_key``.
        hypervisor: what runs the NAT VM: ``virtualbox``, ``qemu``, or ``auto`` (VirtualBox where it can).
        natvm_image: disk image that the NAT VM's disk is cloned from; None for the embedded lab's own.
        natvm_login, natvm_key: how its guest is entered; without a key the password is in the environment.
        natvm_memory, natvm_cpus: MiB, and processors.
        natvm_boot_seconds: how long its guest may take to answer.
        natvm_kvm: whether QEMU uses KVM; on the embedded lab a real boot decides.
        docker: where containers run: ``vm`` (in the NAT VM, as the lab has it), or ``local`` (the engine of
            ``DOCKER_HOST``: the checks of containers alone).
        base_image: the image that containers run from.
        calculator_files: files and folders that are copied to each host of the calculator's services, in place of
            the project's own program; ``calculator_command`` starts them.
        calculator_services: the same for single services: name -> ``files``, ``command``, or both.
        kubernetes: the cluster; None where the file has no such part.
        source: the file.
    """

    name: str
    driver: str = "cloud"
    parts: Mapping[str, bool] = field(default_factory=dict)
    cloud: str | None = None
    clouds_file: Path | None = None
    public_network: str = "public"
    image: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    login: str = "user"
    flavors: Mapping[str, str] = field(default_factory=dict)
    dns: tuple[IPv4Address, ...] = ()
    reader_cloud: str | None = None
    over_quota_flavor: str | None = None
    config_drive: bool = False
    ssh_key: Path | None = None
    outside: IPv4Address | None = None
    outside_tcp: int | None = None
    neighbour: IPv4Address | None = None
    neighbour_login: str = "user"
    neighbour_key: Path | None = None
    hypervisor: str = "auto"
    natvm_image: Path | None = None
    natvm_login: str = "user"
    natvm_key: Path | None = None
    natvm_memory: int = 1024
    natvm_cpus: int = 2
    natvm_boot_seconds: int = 300
    natvm_kvm: bool = False
    docker: str = "vm"
    base_image: str = "debian:12"
    calculator_files: tuple[Path, ...] = ()
    calculator_command: str = ""
    calculator_services: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kubernetes: Kubernetes | None = None
    source: Path | None = None

    def has(self, part: str) -> bool:
        """Whether the lab has a part (one of :data:`PARTS`). It has, unless its file says that it has not."""
        if part not in PARTS:
            raise ValueError(f"no part named {part!r}; the parts are {', '.join(PARTS)}")
        return self.parts.get(part, True)

    def flavor(self, name: str) -> str:
        """The cloud's name of a topology's flavor."""
        return self.flavors.get(name, name)

    def image_for(self, name: str | None) -> str:
        """The cloud's name of a topology's image; of the lab's own image for None."""
        return self.image if name is None else self.images.get(name, name)

    @classmethod
    def load(cls, lab: str | Path) -> Lab:
        """Reads a lab file.

        Args:
            lab: name of a file in ``labs/`` without ``.toml``, or a path.

        Raises:
            LabError: there is none, it cannot be read, or anything in it is wrong; names every problem.
        """
        path = _find(lab)
        try:
            document = tables.read_document(path)
        except tables.RefusedError as error:
            raise LabError(error.problems) from error
        return cls.from_document(document, path)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], source: Path) -> Lab:
        """Makes a lab of a parsed lab file; refuses it whole with every problem (:class:`LabError`)."""
        values: dict[str, Any] = {}
        problems = list(read_table(document, TOP, "", values, source))
        if "image" not in values and values.get("parts", {}).get("openstack", True):
            problems.append("openstack.image: is missing: the name of the image that hosts boot from")
        if "neighbour" in values and "neighbour_key" not in values:
            problems.append("neighbour.ssh_key: is missing: the key that opens the neighbour")
        problems += _unstarted(document.get("calculator"))
        problems += _no_way_in(values)
        if problems:
            raise LabError([f"{source}: {problem}" for problem in problems])
        if "kubernetes" in document:
            values["kubernetes"] = Kubernetes.taken_from(values)
        return cls(name=source.stem, source=source, **values)


def _unstarted(calculator: object) -> Iterator[str]:
    """Files of the calculator's services that no command starts."""
    if not isinstance(calculator, Mapping) or "command" in calculator:
        return
    if "files" in calculator:
        yield "calculator.command: is missing: how a service of those files is started"
    services = calculator.get("services")
    for name, keys in services.items() if isinstance(services, Mapping) else ():
        if isinstance(keys, Mapping) and "command" not in keys:
            yield f"calculator.services.{name}.command: is missing: how the service is started"


def _no_way_in(values: Mapping[str, Any]) -> Iterator[str]:
    """Nodes of a cluster that are to be entered over SSH, and no key."""
    if (
        values.get("kubernetes_enter_nodes")
        and "kubernetes_ssh_key" not in values
        and values.get("driver") != "box"
    ):
        yield "kubernetes.nodes.ssh_key: is missing: the key that opens the nodes"


def _find(lab: str | Path) -> Path:
    path = Path(lab)
    if path.suffix == ".toml" or path.parent != Path():
        if not tables.is_file(path):
            raise LabError([f"{path}: there is no such lab file"])
        return path
    named = LABS / f"{lab}.toml"
    if tables.is_file(named):
        return named
    known = sorted(file.stem for file in LABS.glob("*.toml"))
    here = ", ".join(known) or "none"
    raise LabError([f"{named}: there is no such lab{meant(str(lab), known)}; labs here: {here}"])


def _paths(value: Any, source: Path) -> tuple[Path, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of files and folders")
    paths = [source.parent / tables.home(tables.text(item, source)) for item in value]
    if missing := next((path for path in paths if not _exists(path)), None):
        raise ValueError(f"there is no file or folder {missing}")
    names = [path.name for path in paths]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two of them are named {twice!r}: they are put side by side on a host")
    return tuple(paths)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _command(value: Any, source: Path) -> str:
    text = tables.text(value, source)
    known = ("service", "port", "bind")
    for name in re.findall(r"(?<!\$)\{(\w+)\}", text):
        if name not in known:
            raise ValueError(
                f"{{{name}}} stands for nothing{meant(name, known)}; known are {{service}}, {{port}}, {{bind}}"
            )
    if "\n" in text.strip():
        raise ValueError("must be one line")
    return text.strip()


def _parts(value: Any, source: Path) -> dict[str, bool]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a table, part = true or false")
    for key, item in value.items():
        if key not in PARTS:
            raise ValueError(f"no part is named {key!r}{meant(key, PARTS)}; the parts are {', '.join(PARTS)}")
        try:
            tables.flag(item, source)
        except ValueError as error:
            raise ValueError(f"{key!r} {error}") from None
    return dict(value)


CALCULATOR: Table = {"files": Key("files", _paths), "command": Key("command", _command)}

TOP: Table = {
    "driver": Key("driver", tables.one_of(DRIVERS)),
    "outside": Key("outside", tables.address),
    "outside_tcp": Key("outside_tcp", tables.port),
    "parts": Key("parts", _parts),
    "docker": Key("docker", tables.one_of(ENGINES)),
    "base_image": Key("base_image", tables.text),
    "neighbour": {
        "address": Key("neighbour", tables.address),
        "login": Key("neighbour_login", tables.text),
        "ssh_key": Key("neighbour_key", tables.file),
    },
    "natvm": {
        "hypervisor": Key("hypervisor", tables.one_of(HYPERVISORS)),
        "image": Key("natvm_image", tables.file),
        "login": Key("natvm_login", tables.text),
        "ssh_key": Key("natvm_key", tables.file),
        "memory_mb": Key("natvm_memory", tables.at_least(128)),
        "cpus": Key("natvm_cpus", tables.at_least(1)),
        "boot_seconds": Key("natvm_boot_seconds", tables.at_least(1)),
        "kvm": Key("natvm_kvm", tables.flag),
    },
    "calculator": {
        "files": Key("calculator_files", _paths),
        "command": Key("calculator_command", _command),
        "services": Each("calculator_services", CALCULATOR),
    },
    "kubernetes": KUBERNETES,
    "openstack": {
        "cloud": Key("cloud", tables.text),
        "clouds_file": Key("clouds_file", tables.file),
        "public_network": Key("public_network", tables.text),
        "image": Key("image", tables.text),
        "images": Key("images", tables.names),
        "login": Key("login", tables.text),
        "flavors": Key("flavors", tables.names),
        "dns": Key("dns", tables.addresses),
        "reader_cloud": Key("reader_cloud", tables.text),
        "over_quota_flavor": Key("over_quota_flavor", tables.text),
        "config_drive": Key("config_drive", tables.flag),
        "ssh_key": Key("ssh_key", tables.file),
    },
}
