"""Submission files: what is read, and what is refused with file, key and reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.attach.submission import Submission, SubmissionError
from provision.lab import Lab

ROOT = Path(__file__).resolve().parent.parent


def write(folder: Path, text: str) -> Path:
    file = folder / "group 7.toml"
    file.write_text(text, encoding="utf-8")
    return file


def problems(folder: Path, text: str) -> list[str]:
    file = write(folder, text)
    with pytest.raises(SubmissionError) as caught:
        Submission.load(file)
    assert all(line.startswith(f"{file}: ") for line in caught.value.problems)
    return [line.removeprefix(f"{file}: ") for line in caught.value.problems]


def test_the_name_of_a_cloud_alone_is_a_submission() -> None:
    assert Submission.load("lab-g07") == Submission("lab-g07")
    with pytest.raises(SubmissionError, match="neither a submission file nor the name of a cloud"):
        Submission.load("")


def test_a_file_of_any_name_is_read(tmp_path: Path) -> None:
    file = tmp_path / "handed-in"
    file.write_text('cloud = "lab-g07"')
    assert Submission.load(str(file)) == Submission("lab-g07", source=file)


def test_a_full_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("key")
    (tmp_path / "clouds.yaml").write_text("clouds: {}")
    file = write(
        tmp_path,
        """
        cloud = "lab-g07"
        clouds_file = "clouds.yaml"
        [guests]
        login = "ubuntu"
        key = "id"
        [roles]
        calculator = "Calc n°1"
        second_router = "3f0c"
        [ports]
        calculator = 50010
        [logs]
        sum = "/home/ubuntu/sum.log"
        """,
    )
    read = Submission.load(file)
    assert (read.cloud, read.clouds_file, read.key) == ("lab-g07", tmp_path / "clouds.yaml", tmp_path / "id")
    assert (read.login, read.roles) == ("ubuntu", {"calculator": "Calc n°1", "second_router": "3f0c"})
    assert (read.ports, read.logs) == ({"calculator": 50010}, {"sum": "/home/ubuntu/sum.log"})


def test_the_lab_is_adapted_to_it(tmp_path: Path) -> None:
    lab = Lab(name="x", cloud="ours", login="user", flavors={"nano": "m1.nano"}, ssh_key=tmp_path / "ours")
    assert Submission("lab-g07").adapted(lab) == Lab(name="x", cloud="lab-g07", login="user")
    full = Submission("lab-g07", clouds_file=tmp_path / "c", login="ubuntu", key=tmp_path / "id")
    adapted = full.adapted(lab)
    assert (adapted.clouds_file, adapted.login, adapted.ssh_key) == (
        tmp_path / "c",
        "ubuntu",
        tmp_path / "id",
    )
    assert full.adapted(lab).public_network == lab.public_network


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "cloud: is missing: the entry of clouds.yaml for the project"),
        ("cloud = 7", "cloud: must be a text that is not empty"),
        ('cloud = "a"\nclod = "b"', "clod: unknown key; did you mean 'cloud'?"),
        (
            'cloud = "a"\n[roles]\ncalculater = "x"',
            "roles.calculater: unknown key; did you mean 'calculator'?",
        ),
        ('cloud = "a"\n[roles]\nsum = ""', "roles.sum: must be a text that is not empty"),
        (
            'cloud = "a"\n[roles]\nfront = "n"\nback = "n"',
            "roles.back: is 'n', as front: there are two of them",
        ),
        ('cloud = "a"\n[ports]\nsum = 0', "ports.sum: must be a port number from 1 to 65535"),
        (
            'cloud = "a"\n[logs]\nsum = "sum.log"',
            "logs.sum: must be the whole path of a file on the service's host, such as /home/user/sum.log",
        ),
        ('cloud = "a"\nguests = "x"', "guests: must be a table ([guests])"),
    ],
)
def test_what_is_wrong_is_refused_by_key(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, text) == [expected]


@pytest.mark.parametrize("key", ["password", "token", "auth_url", "passphrase", "secret"])
def test_credentials_are_refused_and_not_repeated(tmp_path: Path, key: str) -> None:
    (problem,) = problems(tmp_path, f'cloud = "a"\n[guests]\n{key} = "hunter2"')
    assert problem.startswith(f"guests.{key}: credentials do not belong in a submission file")
    assert "hunter2" not in problem


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = 'clouds_file = "nowhere.yaml"\n[guests]\nkey = "nowhere"\n[ports]\nsum = "x"'
    assert problems(tmp_path, text) == [
        f"clouds_file: there is no file {tmp_path / 'nowhere.yaml'}",
        f"guests.key: there is no file {tmp_path / 'nowhere'}",
        "ports.sum: must be a port number from 1 to 65535",
        "cloud: is missing: the entry of clouds.yaml for the project",
    ]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match=r"none\.toml: cannot be read: No such file"):
        Submission.load(tmp_path / "none.toml")
    (problem,) = problems(tmp_path, "cloud = lab")
    assert problem.startswith("is not TOML: ")
    (tmp_path / "b.toml").write_bytes(b"\xff")
    with pytest.raises(SubmissionError, match=r"b\.toml: is not UTF-8 text"):
        Submission.load(tmp_path / "b.toml")
