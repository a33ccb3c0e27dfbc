"""A server of our own that speaks TLS as a cluster's API does."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path

from provision.box.cluster_keys import Authority

HERE = IPv4Address("127.0.0.1")


@contextmanager
def serving(authority: Authority, handler: type[BaseHTTPRequestHandler], folder: Path) -> Iterator[int]:
    """Serves on this network namespace's loopback, the authority's clients alone; its port.

    Args:
        folder: gets the files that it needs; ``ca.crt`` is among them.
    """
    pair = authority.issue("server", addresses=[HERE])
    certificate, key, ca = folder / "server.crt", folder / "server.key", folder / "ca.crt"
    for path, content in ((certificate, pair.certificate), (key, pair.key), (ca, authority.certificate)):
        path.write_bytes(content)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ca))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer((str(HERE), 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
