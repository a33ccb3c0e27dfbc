"""Processes that import a project's code once and fork its services.

Ten of the cloud's processes are Python programs of two projects; each would spend a second of processor time
on importing what the others import too. A zygote pays for it once, while databases and message queue
start, and the forked services share the memory. What runs is each service's own, unchanged entry point.

usage: zygote.py FAMILY, then one request per line on standard input: a JSON list [name, argv...]
Answers each on the file descriptor named by ZYGOTE_ANSWERS with the process id.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

FAMILIES = {
    "nova": (
        *("nova.cmd.api", "nova.cmd.compute", "nova.cmd.conductor", "nova.cmd.scheduler"),
        # what the services load by name once they run
        *(
            "nova.compute.manager",
            "nova.conductor.manager",
            "nova.scheduler.manager",
            "nova.virt.libvirt.driver",
        ),
        *(
            "nova.api.openstack.compute.routes",
            "nova.api.metadata.handler",
            "oslo_messaging._drivers.impl_rabbit",
        ),
        *("keystonemiddleware.auth_token", "pymysql", "sqlalchemy.dialects.mysql.pymysql"),
    ),
    "neutron": (
        *(
            "neutron.cmd.eventlet.server",
            "neutron.cmd.eventlet.agents.l3",
            "neutron.cmd.eventlet.agents.dhcp",
        ),
        *("neutron.cmd.eventlet.agents.metadata", "neutron.cmd.eventlet.plugins.linuxbridge_neutron_agent"),
        *("neutron.plugins.ml2.plugin", "neutron.services.l3_router.l3_router_plugin"),
        *("neutron.agent.l3.agent", "neutron.agent.dhcp.agent", "neutron.agent.metadata.agent"),
        *(
            "neutron.agent.linux.iptables_firewall",
            "neutron.api.v2.router",
            "oslo_messaging._drivers.impl_rabbit",
        ),
        *("keystonemiddleware.auth_token", "pymysql", "sqlalchemy.dialects.mysql.pymysql"),
    ),
}

# the originals: the projects put cooperative ones in their place, which would start an event loop here
_read, _waitpid = os.read, os.waitpid
Spawn = Callable[..., int]


class Zygotes:
    """The supervisor's end: starts zygotes, asks them for services."""

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._ends: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def start(self, families: tuple[str, ...]) -> None:
        for family in families:
            requests, ask = os.pipe()
            answers, answer = os.pipe()
            os.set_inheritable(answer, True)
            env = {"ZYGOTE_ANSWERS": str(answer)}
            self._spawn_with(f"zygote-{family}", family, env, requests, answer)
            os.close(requests)
            os.close(answer)
            self._ends[family] = (ask, answers)

    def _spawn_with(self, name: str, family: str, env: dict[str, str], stdin: int, answer: int) -> None:
        argv = ("/usr/bin/python3", "-u", "/labproof/zygote.py", family)
        self._spawn(name, argv, env, stdin=stdin, pass_fds=(answer,))

    def fork(self, family: str, name: str, argv: tuple[str, ...]) -> int:
        """Returns the process id of the service's new process, which is a child of process 1."""
        ask, answers = self._ends[family]
        with self._lock:
            os.write(ask, json.dumps([name, *argv]).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                piece = os.read(answers, 64)
                if not piece:
                    raise OSError(f"the {family} zygote ended: see /box/log/zygote-{family}.out")
                answer += piece
        return int(answer)


def _become(name: str, argv: list[str]) -> None:
    from services import ENTRY_POINTS

    os.setsid()
    out = os.open(f"/box/log/{name}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.close(out)
    os.close(null)
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:  # noqa: PTH123
        comm.write(name[:15])
    import eventlet.hubs

    eventlet.hubs.use_hub()
    sys.argv = [f"/usr/bin/{argv[0]}", *argv[1:]]
    sys.exit(importlib.import_module(ENTRY_POINTS[argv[0]]).main())


def _mend_nova() -> None:
    # a service first reports 5 s after its start; here every other part waits for that word
    import nova.servicegroup.api

    nova.servicegroup.api.INITIAL_REPORTING_DELAY = 0
    # a virtual machine's own memory may grow from minute to minute; each time the compute service would write its
    # inventory anew, and give up a server where others are being placed at that moment
    import nova.virt.libvirt.host

    libvirt_host = nova.virt.libvirt.host.Host
    libvirt_host.get_memory_mb_total = functools.cache(libvirt_host.get_memory_mb_total)
    # SQLAlchemy before 1.4.48 (its issue 9506) compiles and keeps a statement with REGEXP anew each time: each
    # listing of servers by name takes 0.1 MiB, up to hundreds
    from sqlalchemy.sql.operators import custom_op

    custom_op.__hash__ = lambda self: hash(self.opstring)


def _mend_neutron() -> None:
    # Neutron 21 tells its DHCP agent of a router's leg that has gone without the leg's addresses. By them the agent
    # sorts what it is told: it fails, and loses what came. A network whose end is lost so keeps its namespace and
    # DHCP server for good.
    from neutron.api.rpc.agentnotifiers.dhcp_rpc_agent_api import DhcpAgentNotifyAPI

    def leg_gone(self: Any, _resource: str, _event: str, _trigger: Any, payload: Any = None) -> None:
        port = payload.metadata["port"]
        told = {"port_id": port["id"], "network_id": port["network_id"], "fixed_ips": port["fixed_ips"]}
        self._notify_agents(payload.context, "port_delete_end", told, port["network_id"])

    DhcpAgentNotifyAPI._after_router_interface_deleted = leg_gone

    # The bridge agent takes a network's DHCP interface away when the network ends. Where the DHCP agent still works
    # on an earlier word of that network, it waits for an address on the interface, fails, and loses what came after,
    # the network's end too; or it forgets a network that it had just begun to serve.
    from neutron.agent.dhcp.agent import LOG, DhcpAgent
    from neutron_lib.exceptions import NeutronException

    update_proxy = DhcpAgent.update_isolated_metadata_proxy

    def proxy(self: Any, network: Any) -> None:
        try:
            update_proxy(self, network)
        except (NeutronException, RuntimeError) as failed:
            LOG.exception("The metadata proxy of network %s", network.id)
            self.schedule_resync(failed, network.id)

    DhcpAgent.update_isolated_metadata_proxy = proxy


MENDS = {"nova": _mend_nova, "neutron": _mend_neutron}


def main() -> None:
    sys.path.insert(0, "/labproof")
    answers = int(os.environ.pop("ZYGOTE_ANSWERS"))
    family = sys.argv[1]
    # neutron names its chains of rules after the program that imports it
    sys.argv = [f"/usr/bin/{family}"]
    gc.disable()
    for module in FAMILIES[family]:
        importlib.import_module(module)
    MENDS[family]()
    gc.freeze()
    gc.enable()
    pending = b""
    while True:
        piece = _read(0, 4096)
        if not piece:
            return
        *lines, pending = (pending + piece).split(b"\n")
        for line in lines:
            name, *argv = json.loads(line)
            middle = os.fork()
            if middle:
                _waitpid(middle, 0)
                continue
            service = os.fork()
            if service:
                os.write(answers, b"%d\n" % service)
                os._exit(0)
            os.close(answers)
            _become(name, argv)


if __name__ == "__main__":
    main()
