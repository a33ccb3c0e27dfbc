"""Renders the services' configuration: the files under etc/ with the box's passwords put in."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from string import Template

from provision.box.paths import ETC

PASSWORDS = (
    *("DATABASE_PASSWORD", "SERVICE_PASSWORD", "ADMIN_PASSWORD", "STUDENT_PASSWORD", "READER_PASSWORD"),
    "METADATA_SECRET",
)
AUTH_URL = "http://192.168.37.5:5000/v3"


def make_secrets(file: Path) -> None:
    """Writes new random passwords, readable by their owner alone."""
    file.touch(mode=0o600)
    file.write_text(json.dumps({name: secrets.token_hex(12) for name in PASSWORDS}))


def render(data: Path, *, kvm: bool) -> None:
    """Writes every configuration file below `data`/etc, as the box finds it in its /etc."""
    values = json.loads((data / "secrets.json").read_text())
    values["AUTH"] = "\n".join(
        (
            "auth_url = http://127.0.0.1:5000/v3",
            "auth_type = password",
            "project_domain_name = Default",
            "user_domain_name = Default",
            "project_name = service",
            f"password = {values['SERVICE_PASSWORD']}",
            "region_name = RegionOne",
        )
    )
    values["VIRT_TYPE"] = "kvm" if kvm else "qemu"
    values["CPU_MODE"] = "host-passthrough" if kvm else "none"
    for source in sorted(f for f in ETC.rglob("*") if f.is_file()):
        target = data / "etc" / source.relative_to(ETC)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(source.read_text()).substitute(values))


def write_credentials(data: Path) -> None:
    """Writes clouds.yaml and openrc files for the lab's own users, and apart from them the administrator's."""
    values = json.loads((data / "secrets.json").read_text())
    clouds = ["clouds:"]
    for user, cloud in (("student", "labproof-box"), ("reader", "labproof-box-reader")):
        password = values[f"{user.upper()}_PASSWORD"]
        clouds += _entry(cloud, user, password, "lab")
        names = {
            "AUTH_URL": AUTH_URL,
            "USERNAME": user,
            "PASSWORD": password,
            "PROJECT_NAME": "lab",
            "USER_DOMAIN_NAME": "Default",
            "PROJECT_DOMAIN_NAME": "Default",
            "REGION_NAME": "RegionOne",
            "INTERFACE": "public",
            "IDENTITY_API_VERSION": "3",
        }
        _private(data / f"openrc-{user}", "".join(f"export OS_{k}={v}\n" for k, v in names.items()))
    _private(data / "clouds.yaml", "\n".join(clouds) + "\n")
    admin = ["clouds:", *_entry("labproof-box-admin", "admin", values["ADMIN_PASSWORD"], "admin")]
    _private(data / "clouds-admin.yaml", "\n".join(admin) + "\n")


def _entry(cloud: str, user: str, password: str, project: str) -> list[str]:
    return [
        f"  {cloud}:",
        "    auth:",
        f"      auth_url: {AUTH_URL}",
        f"      username: {user}",
        f"      password: {password}",
        f"      project_name: {project}",
        "      user_domain_name: Default",
        "      project_domain_name: Default",
        "    region_name: RegionOne",
        "    identity_api_version: 3",
    ]


def _private(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(text)
