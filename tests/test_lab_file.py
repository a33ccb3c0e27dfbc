"""Lab files: what is read, and what is refused with file, key and reason."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from provision.calculator.program import OWN, Program, program
from provision.lab import LABS, Lab, LabError


def write(folder: Path, text: str, name: str = "ours.toml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def problems(folder: Path, text: str) -> list[str]:
    file = write(folder, text)
    with pytest.raises(LabError) as caught:
        Lab.load(file)
    assert all(line.startswith(f"{file}: ") for line in caught.value.problems)
    return [line.removeprefix(f"{file}: ") for line in caught.value.problems]


@pytest.mark.parametrize("file", sorted(LABS.glob("*.toml")), ids=lambda file: file.stem)
def test_the_lab_files_of_the_project_are_good(file: Path) -> None:
    assert Lab.load(file.stem).name == file.stem


def test_the_box_is_a_lab_with_everything_named() -> None:
    lab = Lab.load("box")
    assert (lab.driver, lab.public_network, lab.outside) == ("box", "public", IPv4Address("198.51.100.8"))
    assert lab.has("openstack")


def test_a_full_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("", encoding="utf-8")
    lab = Lab.load(
        write(
            tmp_path,
            """
            driver = "cloud"
            outside = "192.0.2.7"
            outside_tcp = 443
            [openstack]
            cloud = "campus"
            public_network = "ext-net"
            image = "Ubuntu4CLV"
            login = "ubuntu"
            dns = ["192.0.2.53"]
            ssh_key = "key"
            [openstack.flavors]
            nano = "m1.nano"
            [openstack.images]
            lab = "Ubuntu_20"
            [parts]
            openstack = true
            docker = false
            """,
        )
    )
    assert lab.name == "ours"
    assert (lab.cloud, lab.public_network, lab.login) == ("campus", "ext-net", "ubuntu")
    assert (lab.flavor("nano"), lab.flavor("tiny")) == ("m1.nano", "tiny")
    assert (lab.image_for(None), lab.image_for("lab"), lab.image_for("x")) == ("Ubuntu4CLV", "Ubuntu_20", "x")
    assert lab.dns == (IPv4Address("192.0.2.53"),)
    assert lab.ssh_key == tmp_path / "key"
    assert (lab.has("openstack"), lab.has("docker"), lab.has("kubernetes")) == (True, False, True)


def test_the_calculators_own_programs_are_read(tmp_path: Path) -> None:
    (tmp_path / "services/node_modules").mkdir(parents=True)
    (tmp_path / "services/calculator.js").write_text("", encoding="utf-8")
    (tmp_path / "SumService.js").write_text("", encoding="utf-8")
    text = """
        [calculator]
        files = ["services/calculator.js", "services/node_modules"]
        command = "node calculator.js {service} --port {port} ${HOME}"
        [calculator.services.sum]
        files = ["SumService.js"]
        command = "node SumService.js"
        [calculator.services.sub]
        command = "node calculator.js sub"
        [openstack]
        image = "i"
        """
    chosen = program(Lab.load(write(tmp_path, text)))
    both = (tmp_path / "services/calculator.js", tmp_path / "services/node_modules")
    assert chosen["mul"] == Program(both, "node calculator.js {service} --port {port} ${HOME}")
    assert chosen["mul"].started_as("mul", 50003, None) == "node calculator.js mul --port 50003 ${HOME}"
    assert chosen["sum"] == Program((tmp_path / "SumService.js",), "node SumService.js")
    assert chosen["sub"] == Program(both, "node calculator.js sub")


def test_without_programs_of_its_own_a_lab_runs_ours(tmp_path: Path) -> None:
    assert program(Lab.load("box")).common == OWN.common
    one = '[openstack]\nimage = "i"\n[calculator.services.sum]\ncommand = "sumd"'
    chosen = program(Lab.load(write(tmp_path, one)))
    assert chosen["sum"] == Program((), "sumd")
    assert chosen["sub"] == OWN["sub"]
    assert chosen["sub"].started_as("sub", 50002, "10.0.0.7") == (
        "python3 service.py sub --port 50002 --bind 10.0.0.7"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('files = ["nowhere.js"]\ncommand = "x"', "files: there is no file or folder {folder}/nowhere.js"),
        ('files = ["ours.toml"]', "command: is missing: how a service of those files is started"),
        ('files = "ours.toml"\ncommand = "x"', "files: must be a list of files and folders"),
        ('files = []\ncommand = "x"', "files: must be a list of files and folders"),
        ('files = [1]\ncommand = "x"', "files: must be a text that is not empty"),
        (
            'files = ["ours.toml", "../{name}/ours.toml"]\ncommand = "x"',
            "files: two of them are named 'ours.toml': they are put side by side on a host",
        ),
        ("command = 1", "command: must be a text that is not empty"),
        ('command = """a\nb"""', "command: must be one line"),
        (
            'command = "node {servce}.js"',
            "command: {{servce}} stands for nothing; did you mean 'service'?; known are {{service}}, {{port}}, {{bind}}",
        ),
        ('comand = "x"', "comand: unknown key; did you mean 'command'?"),
        (
            'password = "x"',
            "password: credentials do not belong in a lab file, but in clouds.yaml or the environment",
        ),
        ('services = "x"', "services: must be a table ([calculator.services])"),
        ('[calculator.services]\nsum = "x"', "services.sum: must be a table ([calculator.services.sum])"),
        (
            '[calculator.services.sum]\nfiles = ["ours.toml"]',
            "services.sum.command: is missing: how the service is started",
        ),
        (
            '[calculator.services.sum]\nfile = ["x"]\ncommand = "x"',
            "services.sum.file: unknown key; did you mean 'files'?",
        ),
    ],
)
def test_wrong_programs_are_refused_by_key(tmp_path: Path, text: str, expected: str) -> None:
    text = text.replace("{name}", tmp_path.name)
    (problem,) = problems(tmp_path, f'[openstack]\nimage = "i"\n[calculator]\n{text}')
    assert problem == "calculator." + expected.format(folder=tmp_path)


def test_an_unknown_lab_names_those_there_are() -> None:
    with pytest.raises(
        LabError, match=r"boks\.toml: there is no such lab; did you mean 'box'\?; labs here: box"
    ):
        Lab.load("boks")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"none\.toml: there is no such lab file"):
        Lab.load(tmp_path / "none.toml")


def test_a_typing_error_gets_a_suggestion(tmp_path: Path) -> None:
    assert problems(tmp_path, '[openstack]\nimage = "i"\npublic_netwrk = "p"') == [
        "openstack.public_netwrk: unknown key; did you mean 'public_network'?"
    ]


@pytest.mark.parametrize("key", ["password", "token", "os_password", "secret", "private_key", "auth"])
def test_credentials_are_refused_and_not_repeated(tmp_path: Path, key: str) -> None:
    (problem,) = problems(tmp_path, f'[openstack]\nimage = "i"\n{key} = "hunter2"')
    assert problem.startswith(f"openstack.{key}: credentials do not belong in a lab file")
    assert "hunter2" not in problem


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = """
        driver = "boks"
        outside = "198.51.100.300"
        outside_tcp = 70000
        [openstack]
        login = ""
        config_drive = "yes"
        dns = "192.0.2.53"
        [openstack.flavors]
        nano = 1
        [parts]
        dokcer = true
        """
    assert problems(tmp_path, text) == [
        "driver: must be one of box, cloud, virtualbox; did you mean 'box'?",
        'outside: must be an IPv4 address in quotes, such as "198.51.100.8"',
        "outside_tcp: must be a port number from 1 to 65535",
        "openstack.login: must be a text that is not empty",
        "openstack.config_drive: must be true or false",
        "openstack.dns: must be a list of IPv4 addresses",
        "openstack.flavors: 'nano' must be a text that is not empty",
        "parts: no part is named 'dokcer'; did you mean 'docker'?; the parts are openstack, calculator, "
        "virtualbox, docker, kubernetes, desktop, neighbour, outside",
        "openstack.image: is missing: the name of the image that hosts boot from",
    ]


def test_a_section_that_is_no_table_is_refused(tmp_path: Path) -> None:
    assert "openstack: must be a table ([openstack])" in problems(tmp_path, 'openstack = "yes"')


def test_a_key_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, '[openstack]\nimage = "i"\nssh_key = "nowhere"')
    assert problem == f"openstack.ssh_key: there is no file {tmp_path / 'nowhere'}"


def test_what_is_no_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "driver = box")
    assert problem.startswith("is not TOML: ")
    assert "line 1" in problem


def test_a_part_that_nobody_knows_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="no part named 'dokcer'"):
        Lab(name="x").has("dokcer")
