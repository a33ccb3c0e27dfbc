"""The cluster's network plug-in: runs on each node, as a pod of its DaemonSet.

Writes the node's CNI configuration (bridge and host-local, for the pods' network that the API gave the node) and
keeps routes to the other nodes' pods. Takes the configuration away when it is ended: the node is NotReady then.
Standard library alone: it runs on the image's own Python.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONFIGURATION = Path("/host/net.d/10-labproof.conflist")
NODE = os.environ["NODE"]
AGAIN = 1.0


def configuration(network: str) -> dict[str, object]:
    """What the CNI specification (0.4.0) calls a network configuration list."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isDefaultGateway": True,
        "hairpinMode": True,
        "ipMasq": False,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": network}]], "dataDir": "/run/cni-ipam"},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "labproof", "plugins": [bridge, ports]}


def changes() -> Iterator[dict[str, Any]]:
    """The nodes that there are, and then each as often as it changes, until the API ends the answer."""
    server = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
    trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    connection = http.client.HTTPSConnection(*server, context=trusted, timeout=330)
    token = (ACCOUNT / "token").read_text()
    try:
        connection.request(
            "GET", "/api/v1/nodes?watch=1&timeoutSeconds=300", headers={"Authorization": f"Bearer {token}"}
        )
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise OSError(f"the API answered {answer.status}: {answer.read(300).decode(errors='replace')}")
        for line in answer:
            event = json.loads(line)
            if event["type"] in ("ADDED", "MODIFIED"):
                yield event["object"]
            elif event["type"] == "ERROR":
                raise OSError(f"the API ended the watch: {event['object'].get('message')}")
    finally:
        connection.close()


def follow(known: dict[str, str]) -> None:
    """Does on this node what each change of the nodes asks for, until the API ends the answer."""
    for node in changes():
        name, network = node["metadata"]["name"], node["spec"].get("podCIDR")
        addresses = node["status"].get("addresses", [])
        address = next((each["address"] for each in addresses if each["type"] == "InternalIP"), None)
        if not network or not address or known.get(name) == f"{network} {address}":
            continue
        if name == NODE:
            scratch = CONFIGURATION.with_suffix(".new")
            scratch.write_text(json.dumps(configuration(network), indent=1))
            scratch.replace(CONFIGURATION)
            print(f"wrote {CONFIGURATION.name} for {network}")
        else:
            subprocess.run(["ip", "route", "replace", network, "via", address], check=True)
            print(f"{network} is behind {name}, {address}")
        known[name] = f"{network} {address}"


def ended(*_: object) -> None:
    CONFIGURATION.unlink(missing_ok=True)
    print(f"ended: took {CONFIGURATION.name} away")
    sys.exit(0)


def main() -> None:
    signal.signal(signal.SIGTERM, ended)
    known: dict[str, str] = {}
    while True:
        try:
            follow(known)
        except (OSError, ValueError, http.client.HTTPException, subprocess.CalledProcessError) as error:
            print(f"trying again in {AGAIN:.0f} s: {error}")
            time.sleep(AGAIN)


if __name__ == "__main__":
    main()
