"""Clients that nobody here wrote, unmodified and confined: each reaches what it was granted by name, and nothing else.

The servers stand in another network namespace (tests/integration/far.py). The names that are not granted lead to the very same
servers, for whoever may ask.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.conformance import environments
from tests.integration import far
from tests.integration.conftest import ROOT, Workspace
from tests.integration.far import FAR, PASSWORD, Far
from tests.integration.outside import audit

SOURCES = ROOT / "tests/plugins/clients"
LOCK = environments.LOCKS / "clients.txt"
WEB = ("https://api.test/", "https://other.test/", f"https://{FAR}/")
PLAIN = ("api.test:80", "other.test:80", f"{FAR}:80")
CATALOG = {
    "streams": [
        {
            "tap_stream_id": "tries",
            "stream": "tries",
            "schema": {"type": "object"},
            "metadata": [{"breadcrumb": [], "metadata": {"selected": True}}],
        }
    ]
}
GRANTS = ("api.test:80,443 private", "db.test:5432 private", "kafka.test:9092 private")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Far]:
    servers = environments.kept("servers", pytestconfig)
    folder = tmp_path_factory.mktemp("far")
    with ExitStack() as stack:
        made = stack.enter_context(far.far(folder, servers))
        stack.enter_context(far.web(made, 443))
        stack.enter_context(far.web(made, 80))
        stack.enter_context(far.postgres(made, folder))
        stack.enter_context(far.kafka(made, folder))
        yield made


@pytest.fixture
def place(workspace: Workspace, world: Far) -> Workspace:
    world.seen_from(workspace, trusted=True)
    (workspace.folder / "config.json").write_text("{}")
    (workspace.folder / "catalog.json").write_text(json.dumps(CATALOG))
    return workspace


def plugin(place: Workspace, entry: str, program: str, arguments: Sequence[str]) -> Path:
    """Make the plugin ``client`` of one program of tests/plugins/clients; return its folder."""
    folder = place.folder / "plugins/client"
    folder.mkdir(parents=True)
    said = {
        "name": "client",
        "version": "0.1.0",
        "type": "reader",
        "language": "python" if entry == "file" else "any",
        "protocol": "singer",
        "entry_point": {entry: program, "arguments": list(arguments)},
        "api_version": "1",
    }
    # JSON is YAML too.
    (folder / "plugin.yaml").write_text(json.dumps(said))
    return folder


def starter(folder: Path, *lines: str) -> None:
    """Write the script that starts a program for which there must be one."""
    file = folder / "start.sh"
    file.write_text('#!/bin/sh\ncd "$(dirname "$0")" || exit 1\n' + "\n".join(lines) + "\n")
    file.chmod(0o755)


def tried(place: Workspace, *more: str) -> dict[tuple[str, str], str]:
    """Read the plugin ``client`` with GRANTS and ``more``: what each client was told at each place."""
    given = ("--config", "config.json", "--catalog", "catalog.json")
    net = [part for grant in (*GRANTS, *more) for part in ("--net", grant)]
    read = place.dativo("read", "./plugins/client", *given, *net, *place.flags, timeout_s=120)
    assert read.status == 0, read.stderr
    found = [
        line["record"] for line in map(json.loads, read.stdout.splitlines()) if "record" in line
    ]
    return {(each["client"], each["place"]): each["said"] for each in found}


def assert_only_granted(
    found: dict[tuple[str, str], str], client: str, places: Sequence[str]
) -> None:
    """The first of ``places`` greets, no other one does."""
    granted, *others = places
    assert found[client, granted].startswith("hello from "), found
    for other in others:
        assert found[client, other] and "hello" not in found[client, other], found


def told(place: Workspace) -> tuple[set[str], set[str]]:
    """Return the places that the audit says were reached, and the names that were not answered."""
    lines = audit(place, "connection")
    assert {(line["verdict"], line["address"]) for line in lines} == {("ok", FAR)}, lines
    reached = {f"{line['name']}:{line['port']}" for line in lines}
    return reached, {line["name"] for line in audit(place, "lookup_refused")}


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} on this machine")


def build(folder: Path, *command: str, **env: str) -> None:
    done = subprocess.run(
        command, cwd=folder, env=os.environ | env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_curl(place: Workspace, world: Far) -> None:
    needs("curl")
    folder = plugin(place, "executable", "client.sh", WEB)
    shutil.copy(SOURCES / "client.sh", folder)
    assert_only_granted(tried(place), "curl", WEB)
    assert told(place) == ({"api.test:443"}, {"other.test"})
    # Nothing but the grant stood between it and the others.
    found = tried(place, "other.test private", f"{FAR}:443")
    assert [said.split(" from ")[0] for said in found.values()] == ["hello"] * 3, found


def test_python(place: Workspace, world: Far) -> None:
    """Whatever Python's connectors use, in one run: the web, PostgreSQL in TLS with its name checked, Kafka."""
    url = f"postgresql://shop:{PASSWORD}@db.test/shop?sslmode=verify-full"
    clients = {
        **dict.fromkeys(("urllib", "urllib3", "requests", "httpx", "aiohttp", "aiodns"), WEB),
        "psycopg": (url, url.replace("db.test", "other.test"), url.replace("db.test", FAR)),
        "confluent_kafka": ("kafka.test:9092", "other.test:9092"),
    }
    given = [f"{client}={each}" for client, places in clients.items() for each in places]
    folder = plugin(place, "file", "client.py", given)
    shutil.copy(SOURCES / "client.py", folder)
    # Copied: a linked file has a second owner.
    where = ("--link-mode=copy", "--python", sys.executable, "--target", str(folder / "site"))
    lock = ("--require-hashes", "-r", str(LOCK))
    build(folder, str(environments.UV), "--no-config", "pip", "install", "--quiet", *where, *lock)
    found = tried(place)
    for client, places in clients.items():
        assert_only_granted(found, client, places)
    reached, refused = told(place)
    assert reached == {"api.test:443", "db.test:5432", "kafka.test:9092"}
    assert refused == {"other.test"}


def test_java(place: Workspace, world: Far) -> None:
    needs("java", "javac", "keytool")
    folder = plugin(place, "executable", "start.sh", WEB)
    build(folder, "javac", "-d", str(folder), str(SOURCES / "Client.java"))
    trust = (
        "-keystore",
        "trust.p12",
        "-storepass",
        "changeit",
        "-file",
        str(world.certificates / "ca.pem"),
    )
    build(folder, "keytool", "-importcert", "-noprompt", *trust)
    options = "-Djavax.net.ssl.trustStore=trust.p12 -Djavax.net.ssl.trustStorePassword=changeit"
    starter(folder, f'exec java {options} -cp . Client "$@"')
    assert_only_granted(tried(place), "java", WEB)
    assert told(place) == ({"api.test:443"}, {"other.test"})


def test_node(place: Workspace, world: Far) -> None:
    needs("node")
    folder = plugin(place, "executable", "start.sh", WEB)
    shutil.copy(SOURCES / "client.mjs", folder)
    starter(folder, 'exec node client.mjs "$@"')
    found = tried(place)
    assert_only_granted(found, "node fetch", WEB)
    assert_only_granted(found, "node https", WEB)
    assert told(place) == ({"api.test:443"}, {"other.test"})


def test_go_without_cgo(place: Workspace, world: Far) -> None:
    """A static program with a resolver and TLS of its own."""
    needs("go")
    folder = plugin(place, "executable", "client", WEB)
    build(folder, "go", "build", "-o", str(folder / "client"), str(SOURCES / "client.go"),
          CGO_ENABLED="0", GOTOOLCHAIN="local", GOPROXY="off")  # fmt: skip
    assert_only_granted(tried(place), "go", WEB)
    assert told(place) == ({"api.test:443"}, {"other.test"})


def test_static_rust(place: Workspace, world: Far) -> None:
    """A static program on the C library's own resolver."""
    needs("rustc")
    folder = plugin(place, "executable", "client", PLAIN)
    flags = ("--edition", "2024", "-C", "target-feature=+crt-static", "-o", str(folder / "client"))
    build(folder, "rustc", *flags, str(SOURCES / "client.rs"))
    assert_only_granted(tried(place), "rust", PLAIN)
    assert told(place) == ({"api.test:80"}, {"other.test"})


def test_static_c_with_musl(place: Workspace, world: Far) -> None:
    """The resolver of Alpine's images: it asks for both families at once, and a name that one of them has not is no name."""
    needs("musl-gcc")
    folder = plugin(place, "executable", "client", PLAIN)
    build(folder, "musl-gcc", "-static", "-Wall", "-o", "client", str(SOURCES / "client.c"))
    assert_only_granted(tried(place), "c", PLAIN)
    assert told(place) == ({"api.test:80"}, {"other.test"})


def test_the_guide_names_the_locked_versions() -> None:
    guide = (ROOT / "docs/guide/network.md").read_text()
    locked = dict(
        re.findall(r"^([a-z0-9-]+)(?:\[\w+\])?==(\S+)$", LOCK.with_suffix(".in").read_text(), re.M)
    )
    assert len(locked) == 7
    for name, version in locked.items():
        assert re.search(rf"^\| {name}( \([^)]*\))? \| {re.escape(version)} \|", guide, re.M), name
