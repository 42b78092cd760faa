"""A small world outside for confined processes: a resolver and a web server on loopback, and the policy that permits them."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract.broker_dns import A, Record, Resolver
from tests.integration.conftest import Workspace

PRIVATE = "10.99.0.1"


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(f"hello from {self.headers['Host']}")

    def do_POST(self) -> None:
        left = int(self.headers["Content-Length"])
        while left and (some := self.rfile.read(min(left, 65536))):
            left -= len(some)
        self._answer(f"{left} bytes are missing")

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that is cut off is what some tests are about


@dataclass
class Outside:
    """``port`` is the web server's. api.test, www.test, other.test lead there; private.test to a private address."""

    port: int
    resolver: Resolver

    def url(self, name: str, port: int | None = None) -> str:
        return f"http://{name}:{port or self.port}/"

    def permit(self, workspace: Workspace, more: str = "") -> None:
        """Write the policy that lets names lead to loopback, and names this resolver."""
        folder = workspace.home / "dativo" / "config"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = folder / "policy.yaml"
        file.write_text(
            "network:\n"
            "  permit_special: [127.0.0.0/8]\n"
            f"  resolvers: ['{self.resolver.address}']\n{more}"
        )
        file.chmod(0o600)


@contextmanager
def outside() -> Iterator[Outside]:
    """Serve until the end."""
    names = ("api.test", "www.test", "other.test", "eu.api.test")
    records = [Record(name, A, "127.0.0.1") for name in names]
    records.append(Record("private.test", A, PRIVATE))
    with Resolver(records) as resolver, _Server(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield Outside(server.server_address[1], resolver)
        finally:
            server.shutdown()
            thread.join(10)


def audit(workspace: Workspace, event: str) -> list[dict[str, Any]]:
    """Return the audit's lines of one event."""
    file: Path = workspace.home / "dativo/state/audit.jsonl"
    lines = map(json.loads, file.read_text().splitlines())
    return [line for line in lines if line["event"] == event]
