"""As much of a cloud's API as it takes to log in and to list, for tests of who asks it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Api:
    """A server that speaks as much of the identity, networking, compute and image APIs as it takes to log in and to list."""

    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, method: str, path: str) -> tuple[int, dict[str, str], Any]:
        if path.endswith("/auth/tokens") and method == "POST":
            kinds = {
                "compute": "compute/v2.1",
                "network": "network",
                "image": "image",
                "identity": "identity/v3",
            }
            catalog = [
                {
                    "type": kind,
                    "name": kind,
                    "id": kind,
                    "endpoints": [
                        {
                            "id": kind,
                            "interface": "public",
                            "region": "r",
                            "region_id": "r",
                            "url": f"{self.url}/{at}",
                        }
                    ],
                }
                for kind, at in kinds.items()
            ]
            token = {
                "methods": ["password"], "expires_at": "2099-01-01T00:00:00.000000Z", "catalog": catalog,
                "project": {"id": "p1", "name": "p", "domain": {"id": "default", "name": "d"}},
                "user": {"id": "u1", "name": "u", "domain": {"id": "default", "name": "d"}}, "roles": [],
                "issued_at": "2026-01-01T00:00:00.000000Z",
            }  # fmt: skip
            return 201, {"X-Subject-Token": "a-token"}, {"token": token}
        if path.endswith("/networks"):
            return 200, {}, {"networks": [{"id": "n1", "name": "davanti", "project_id": "p1"}]}
        if path.rstrip("/").endswith("/identity/v3"):
            links = [{"rel": "self", "href": f"{self.url}/identity/v3/"}]
            return 200, {}, {"version": {"id": "v3.14", "status": "stable", "links": links}}
        version = {"compute": "v2.1", "network": "v2.0", "image": "v2.9"}.get(path.split("/")[1], "v3")
        at = {"image": "v2"}.get(path.split("/")[1], version)
        one = {
            "id": version, "status": "CURRENT", "version": "2.90", "min_version": "2.1",
            "links": [{"rel": "self", "href": f"{self.url}/{path.split('/')[1]}/{at}/"}],
        }  # fmt: skip
        return 200, {}, {"version": one} if "v2.1" in path else {"versions": [one]}


@contextmanager
def serving() -> Iterator[Api]:
    """Serves it on this network namespace's loopback."""
    there = Api()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            there.asked.append((self.command, path))
            status, headers, body = there.answer(self.command, path)
            text = json.dumps(body).encode()
            self.send_response(status)
            for key, value in {
                **headers,
                "Content-Type": "application/json",
                "Content-Length": str(len(text)),
            }.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _any  # noqa: N815 - the library's names

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    there.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield there
    server.shutdown()
    server.server_close()
