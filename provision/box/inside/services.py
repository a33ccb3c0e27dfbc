"""The services of the embedded lab: what each is started with, what it waits for, how it is ready.

Runs inside the box on its own root file system's Python: standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

NOVA = ("--config-file", "/etc/nova/nova.conf")
NEUTRON = (
    "--config-file",
    "/etc/neutron/neutron.conf",
    "--config-file",
    "/etc/neutron/plugins/ml2/ml2_conf.ini",
)
SOCKET = "/run/mysqld/mysqld.sock"


@dataclass(frozen=True)
class Service:
    """One service.

    Attributes:
        argv: its command; with `zygote` set, the arguments of the entry point named by `argv[0]`.
        needs: services that must be ready before it is started.
        ready: ``http:PORT``, ``tcp:PORT``, ``unix:PATH``, ``queue:NAME`` (a message queue
            that somebody consumes), several of these, or empty for one that is ready once it runs.
        zygote: name of the process that has imported the service's code already and forks it.
    """

    name: str
    argv: tuple[str, ...]
    needs: tuple[str, ...] = ()
    ready: str = ""
    env: dict[str, str] = field(default_factory=dict)
    zygote: str = ""


def _uwsgi(name: str, port: int, wsgi: str, needs: tuple[str, ...], **env: str) -> Service:
    argv = (
        *(
            "uwsgi",
            "--plugins",
            "python3",
            "--http-socket",
            f"0.0.0.0:{port}",
            "--wsgi-file",
            wsgi,
            "--master",
        ),
        *("--processes", "1", "--threads", "4", "--enable-threads", "--lazy-apps", "--buffer-size", "65535"),
        # uwsgi drops a kept-alive connection without notice: clients would see resets on their next POST
        *("--add-header", "Connection: close", "--need-app", "--die-on-term", "--listen", "100"),
    )
    return Service(name, argv, needs, f"http:{port}", env)


MARIADB = Service(
    "mariadb",
    (
        *("mariadbd", "--no-defaults", "--user=root", "--datadir=/box/state/mysql", f"--socket={SOCKET}"),
        *("--pid-file=/run/mysqld/mysqld.pid", "--bind-address=127.0.0.1", "--port=3306", "--skip-log-bin"),
        # a power cut may lose the lab's databases: they are remade from the seed at each start
        *("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-flush-method=nosync"),
        *("--skip-name-resolve", "--max-connections=400", "--innodb-buffer-pool-size=96M"),
        *("--innodb-log-file-size=24M", "--performance-schema=off", "--character-set-server=utf8mb3"),
    ),
    ready="tcp:3306",
)

RABBITMQ = Service(
    "rabbitmq",
    ("/usr/lib/rabbitmq/bin/rabbitmq-server",),
    ready="tcp:5672",
    env={
        "HOME": "/box/state/rabbitmq",
        "RABBITMQ_NODENAME": "rabbit@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": "/box/state/rabbitmq/mnesia",
        "RABBITMQ_LOG_BASE": "/box/log/rabbitmq",
        "RABBITMQ_CONFIG_FILE": "/etc/rabbitmq/rabbitmq",
        "RABBITMQ_ENABLED_PLUGINS_FILE": "/etc/rabbitmq/enabled_plugins",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    },
)

BASE: tuple[Service, ...] = (
    MARIADB,
    RABBITMQ,
    Service(
        "memcached",
        ("memcached", "-u", "root", "-l", "127.0.0.1", "-p", "11211", "-m", "32"),
        ready="tcp:11211",
    ),
    # the guests, which libvirtd starts, take what processor time the cloud's own services leave: a boot may
    # come a little later, but nothing of the cloud waits for five boots at once
    Service("libvirtd", ("nice", "-n", "10", "libvirtd"), ready="unix:/run/libvirt/libvirt-sock"),
)

IDENTITY: tuple[Service, ...] = (
    _uwsgi("keystone", 5000, "/usr/bin/keystone-wsgi-public", ("mariadb", "memcached")),
)

_NOVA_NEEDS = ("mariadb", "memcached", "rabbitmq")


def _nova(name: str, ready: str, *needs: str) -> Service:
    argv = (name, "--config-file", "/etc/nova/nova.conf", "--log-file", f"/box/log/{name}.log")
    return Service(name, argv, (*_NOVA_NEEDS, *needs), ready, zygote="nova")


def _neutron(name: str, ready: str, *needs: str, argv: tuple[str, ...] = ()) -> Service:
    command = name if name == "neutron-server" else f"neutron-{name}"
    return Service(
        name, (command, *NEUTRON, *argv, "--log-file", f"/box/log/{name}.log"), needs, ready, zygote="neutron"
    )


def _agent(kind: str, ready: str, folder: str = "/etc/neutron") -> Service:
    # reporting before neutron-server takes reports loses the first one and waits out the RPC time limit
    config = ("--config-file", f"{folder}/{kind}_agent.ini")
    return _neutron(f"{kind}-agent", ready, "neutron-server", argv=config)


CLOUD: tuple[Service, ...] = (
    _uwsgi("placement", 8778, "/usr/bin/placement-api", ("mariadb", "keystone")),
    Service(
        "glance",
        ("glance-api", "--config-file", "/etc/glance/glance-api.conf"),
        ("mariadb", "keystone"),
        "http:9292",
    ),
    _neutron("neutron-server", "http:9696 queue:q-plugin queue:q-reports-plugin", "keystone", *_NOVA_NEEDS),
    _nova("nova-conductor", "queue:conductor"),
    _nova("nova-scheduler", "queue:scheduler"),
    _nova("nova-api", "http:8774", "keystone"),
    # a conductor that does not answer yet costs nova-compute ten seconds
    _nova("nova-compute", "queue:compute.box", "libvirtd", "keystone", "placement", "nova-conductor"),
    _agent("linuxbridge", "", "/etc/neutron/plugins/ml2"),
    _agent("l3", "queue:l3_agent.box"),
    _agent("dhcp", "queue:dhcp_agent.box"),
    _agent("metadata", ""),
)

# the entry point that each command of a zygote's services has in its package (see its console_scripts)
ENTRY_POINTS = {
    "nova-api": "nova.cmd.api",
    "nova-compute": "nova.cmd.compute",
    "nova-conductor": "nova.cmd.conductor",
    "nova-scheduler": "nova.cmd.scheduler",
    "neutron-server": "neutron.cmd.eventlet.server",
    "neutron-linuxbridge-agent": "neutron.cmd.eventlet.plugins.linuxbridge_neutron_agent",
    "neutron-l3-agent": "neutron.cmd.eventlet.agents.l3",
    "neutron-dhcp-agent": "neutron.cmd.eventlet.agents.dhcp",
    "neutron-metadata-agent": "neutron.cmd.eventlet.agents.metadata",
}
