"""What an operator says of the network, and what this machine is: its own addresses, a proxy that wants credentials."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.contract.broker_dns import AAAA, A, Record, Resolver
from tests.contract.broker_kernel import Inside
from tests.integration.conftest import Workspace
from tests.integration.outside import audit

OWN = "8.8.4.4"
LATER = "8.8.4.5"
OWN_V6 = "2606:4700::1111"
CODE = """\
import sys, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=20).read().decode())
    except OSError as error:
        print(type(error).__name__)
"""
PYTHON = ("--", "/usr/bin/python3", "-c", CODE)


def write_policy(workspace: Workspace, text: str) -> None:
    folder = workspace.home / "dativo/config"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / "policy.yaml"
    file.write_text(text)
    file.chmod(0o600)


# --- this machine ----------------------------------------------------------------------------------------------------------


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"mine")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(listener: socket.socket) -> Iterator[None]:
    """Serve a page on a listening socket."""
    server = http.server.ThreadingHTTPServer(
        listener.getsockname()[:2], _Page, bind_and_activate=False
    )
    server.socket.close()
    server.socket = listener
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture
def machine(workspace: Workspace) -> Iterator[tuple[Inside, str]]:
    """A network namespace whose one interface has addresses of the whole world's; yields it and its resolver."""
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("nsenter")):
        pytest.skip(
            "an address of its own needs root, ip and nsenter (Debian: iproute2, util-linux)"
        )
    with Inside() as inside:
        enter = ("nsenter", f"--net={inside.path}")
        for address in (f"{OWN}/32", f"{OWN_V6}/128"):
            line = (*enter, "ip", "address", "add", address, "dev", "lo")
            flags = ("nodad",) if ":" in address else ()
            subprocess.run((*line, *flags), check=True, timeout=20)
        datagrams = inside.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("127.0.0.1", 53))
        streams = inside.socket(socket.AF_INET, socket.SOCK_STREAM)
        streams.bind(("127.0.0.1", 53))
        streams.listen()
        for each in (datagrams, streams):
            each.settimeout(None)
        records = [Record("mine.test", A, OWN), Record("mine6.test", AAAA, OWN_V6)]
        with Resolver(records, sockets=(datagrams, streams)) as resolver:
            workspace.prefix = enter
            yield inside, resolver.address


def test_this_machine_is_no_place_outside(
    workspace: Workspace, machine: tuple[Inside, str]
) -> None:
    inside, resolver = machine
    listener = inside.socket(socket.AF_INET6, socket.SOCK_STREAM)
    listener.settimeout(None)
    listener.bind(("::", 8080))
    listener.listen()
    grants = ("mine.test:8080", "mine6.test:8080", f"{OWN}:8080")
    net = [part for grant in grants for part in ("--net", grant)]
    urls = [f"http://{place}:8080/" for place in ("mine.test", "mine6.test", OWN)]
    line = ("jail", *workspace.flags, *net, *PYTHON, *urls)
    with serving(listener):
        write_policy(workspace, f"network:\n  resolvers: ['{resolver}']\n")
        refused = workspace.dativo(*line)
        assert refused.status == 0, refused.stderr
        assert "mine" not in refused.stdout
        told = audit(workspace, "connection")
        assert {(each["name"], each["address"], each["verdict"]) for each in told} == {
            ("mine.test", OWN, "address_own"),
            ("mine6.test", OWN_V6, "address_own"),
            (None, OWN, "address_own"),
        }
        assert (
            "refused: mine.test:8080 (address_own); policy: network.permit_special"
            in refused.stderr
        )
        permitted = [f"{OWN}/32", f"{OWN_V6}/128"]
        more = f"  permit_special: {json.dumps(permitted)}\n"
        write_policy(workspace, f"network:\n  resolvers: ['{resolver}']\n{more}")
        reached = workspace.dativo(*line)
        assert reached.stdout == "mine\nmine\nmine\n", reached.stderr


def test_an_address_that_this_machine_gets_later(
    workspace: Workspace, machine: tuple[Inside, str]
) -> None:
    inside, resolver = machine
    listener = inside.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.settimeout(None)
    listener.bind(("0.0.0.0", 8080))
    listener.listen()
    write_policy(workspace, f"network:\n  resolvers: ['{resolver}']\n")
    line = ("/usr/bin/python3", "-c", "print('ready', flush=True); input()\n" + CODE)
    net = ("--net", f"{LATER}:8080")
    with serving(listener):
        run = workspace.start(
            *("jail", *workspace.flags, *net, "--", *line, f"http://{LATER}:8080/"),
            stdin=subprocess.PIPE,
        )
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        enter = ("nsenter", f"--net={inside.path}", "ip", "address", "add")
        subprocess.run((*enter, f"{LATER}/32", "dev", "lo"), check=True, timeout=20)
        said, told = run.communicate("go\n", timeout=60)
    assert run.returncode == 0, told
    assert "mine" not in said
    assert f"refused: {LATER}:8080 (address_own); policy: network.permit_special" in told
