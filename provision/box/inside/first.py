"""What is done once, when the seed of the embedded lab is made: databases, catalogue, the lab's own project.

Standard library alone, except `catalogue.py`, which runs on the box's openstacksdk in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from secrets_file import secrets
from services import NEUTRON, NOVA, SOCKET

Call = Callable[..., None]
"""``call(name, *argv)``: runs a command to its end; raises when it fails. Its output: /box/log/NAME.out."""

DATABASES = ("keystone", "glance", "placement", "nova_api", "nova_cell0", "nova", "neutron")


def make_database(call: Call) -> None:
    call(
        "mysql-install",
        *("mariadb-install-db", "--no-defaults", "--datadir=/box/state/mysql", "--user=root"),
        *("--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=24M"),
    )


def make_schemas(call: Call) -> None:
    password = secrets()["DATABASE_PASSWORD"]
    statements = [f"create database {name} character set utf8;" for name in DATABASES]
    for host in ("127.0.0.1", "localhost"):
        statements.append(
            f"create user os@'{host}' identified by '{password}'; grant all on *.* to os@'{host}';"
        )
    _sql(call, " ".join(statements))
    jobs: list[list[tuple[str, ...]]] = [
        _keystone(),
        [("glance-manage", "db_sync")],
        [("placement-manage", "db", "sync")],
        _nova(password),
        [("neutron-db-manage", *NEUTRON, "upgrade", "heads")],
    ]
    with ThreadPoolExecutor(len(jobs)) as pool:
        for done in [pool.submit(_in_order, call, job) for job in jobs]:
            done.result()


def _in_order(call: Call, job: list[tuple[str, ...]]) -> None:
    for argv in job:
        call(f"first-{argv[0]}", *argv)


def _keystone() -> list[tuple[str, ...]]:
    user = ("--keystone-user", "root", "--keystone-group", "root")
    inner, public = "http://127.0.0.1:5000/v3/", "http://192.168.37.5:5000/v3/"
    return [
        (
            "mkdir",
            "-p",
            "-m",
            "700",
            "/box/state/keystone/fernet-keys",
            "/box/state/keystone/credential-keys",
        ),
        ("keystone-manage", "db_sync"),
        ("keystone-manage", "fernet_setup", *user),
        ("keystone-manage", "credential_setup", *user),
        (
            *("keystone-manage", "bootstrap", "--bootstrap-password", secrets()["ADMIN_PASSWORD"]),
            *(
                "--bootstrap-admin-url",
                inner,
                "--bootstrap-internal-url",
                inner,
                "--bootstrap-public-url",
                public,
            ),
            *("--bootstrap-region-id", "RegionOne"),
        ),
    ]


def _nova(password: str) -> list[tuple[str, ...]]:
    cell0 = f"mysql+pymysql://os:{password}@127.0.0.1/nova_cell0?charset=utf8"
    return [
        ("nova-manage", *NOVA, "api_db", "sync"),
        ("nova-manage", *NOVA, "cell_v2", "map_cell0", "--database_connection", cell0),
        ("nova-manage", *NOVA, "cell_v2", "create_cell", "--name", "cell1"),
        ("nova-manage", *NOVA, "db", "sync"),
    ]


def make_catalogue(call: Call) -> None:
    call("first-catalogue", "/usr/bin/python3", "/labproof/catalogue.py", "services")


def make_lab(call: Call) -> None:
    call("first-discover", "nova-manage", *NOVA, "cell_v2", "discover_hosts", "--verbose")
    call("first-lab", "/usr/bin/python3", "/labproof/catalogue.py", "lab")


def close_database(call: Call) -> None:
    """Shuts the database down cleanly, so that the seed needs no recovery at each start."""
    _sql(call, "set global innodb_fast_shutdown=0; shutdown;")


def _sql(call: Call, statements: str) -> None:
    call("first-sql", "mariadb", "--no-defaults", "-uroot", "-S", SOCKET, "-e", statements)
