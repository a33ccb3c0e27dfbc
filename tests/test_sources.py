"""What is shipped: no secret stands in a source, and every package that is installed is one that was decided on."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from provision.runs import make_key

ROOT = Path(__file__).resolve().parent.parent

# What looks like a secret and is none: file -> the beginnings of the hashes (SHA-1) that are known there, and why.
KNOWN: dict[str, tuple[set[str], str]] = {
    "provision/box/etc/neutron/neutron.conf": ({"35675e68"}, "the place that the box's password is put into"),
    "provision/box/etc/nova/nova.conf": ({"35675e68"}, "the place that the box's password is put into"),
    "provision/nat_machines.py": ({"1c7f6835"}, "the name of a variable"),
    "reports/runfile.py": ({"5831a784"}, "the alphabet of base32"),
    "suites/kubernetes/test_secret.py": ({"0b309c91"}, "made up, for a registry that is not there"),
    "tests/recorded_runs.py": ({"5831a784"}, "the alphabet of base32"),
    "tests/test_probes_ssh.py": ({"a4b48a81"}, "a password that is wrong"),
    "tests/test_redaction.py": ({"bcfc7c24", "be4fc488"}, "made up, to be left out"),
    "tests/test_run_reports.py": ({"f3bbbd66"}, "made up, to be left out"),
    "tests/test_runfile.py": ({"f3bbbd66", "27c6929a"}, "made up, to be left out"),
}
# what comes with an environment itself
ENVIRONMENT = {"pip", "setuptools"}


def found_in(file: Path) -> list[tuple[str, int, str]]:
    """Hash, line and kind of whatever looks like a secret."""
    with default_settings():
        return [(secret.secret_hash[:8], secret.line_number, secret.type) for secret in scan_file(str(file))]


def sources() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_secret_stands_in_a_source() -> None:
    new = [
        f"{name}:{line}: {kind} ({hash_})"
        for name in sources()
        for hash_, line, kind in found_in(ROOT / name)
        if hash_ not in KNOWN.get(name, (set(), ""))[0]
    ]
    assert not new, "looks like a secret; if it is none, name it in KNOWN:\n" + "\n".join(new)


def test_what_is_known_is_still_there() -> None:
    for name, (hashes, _) in KNOWN.items():
        gone = hashes - {hash_ for hash_, _, _ in found_in(ROOT / name)}
        assert not gone, f"{name}: {gone} is not there any more: take it out of KNOWN"


def test_a_planted_secret_is_found(tmp_path: Path) -> None:
    key = make_key(tmp_path / "id").file
    lab = tmp_path / "lab.toml"
    lab.write_text('[openstack]\ncloud = "lab"\npassword = "Gei6-thah0Ze-x8"\n')  # pragma: allowlist secret
    url = tmp_path / "url.py"
    url.write_text('URL = "mysql://nova:Gei6thah0Zex8@db/nova"\n')  # pragma: allowlist secret
    assert [kind for _, _, kind in found_in(key)] == ["Private Key"]
    assert [line for _, line, _ in found_in(lab)] == [3]
    assert [kind for _, _, kind in found_in(url)] == ["Basic Auth Credentials"]


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().split()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def asked_for() -> list[Requirement]:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]


def test_every_package_is_locked_at_the_version_that_is_installed() -> None:
    """Those asked for, and all that they need in turn: nothing comes along that nobody has seen."""
    versions, seen, problems = locked(), set[str](), list[str]()
    todo = asked_for()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name in seen | ENVIRONMENT or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        version = versions.get(name)
        if version is None:
            problems.append(f"{name} is not in requirements.lock")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            problems.append(f"{name} {version} is locked; asked for is {wanted.specifier}")
        if metadata.version(name) != version:
            problems.append(f"{name} {version} is locked; installed is {metadata.version(name)}")
        todo += [Requirement(text) for text in metadata.requires(name) or ()]
    assert not problems, "\n".join(sorted(problems))
    assert len(seen) > 40
    strays = versions.keys() - seen
    assert not strays, f"locked, and needed by nothing: {', '.join(sorted(strays))}"


@pytest.mark.parametrize("name", ["run.json", "grade.json"])
def test_what_runs_write_is_not_shipped(name: str) -> None:
    assert not [source for source in sources() if source.startswith("reports/out/") or source.endswith(name)]
