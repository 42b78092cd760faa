"""Behind a gateway that looks into TLS: the operator's authorities reach every client, and its proxy is given its credentials.

The gateway, its web server and its authority stand in another network namespace (tests/integration/far.py). Clients are
unmodified and told of nothing.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from tests.conformance import environments
from tests.integration import far
from tests.integration.conftest import ROOT, Workspace
from tests.integration.far import FAR, Far
from tests.integration.outside import audit

URL = "https://api.test/"
GRANT = "api.test private"
CREDENTIALS = "dativo:open sesame of the gateway"
PROXY_PORT = 3128
PYTHON_CLIENTS = """\
import asyncio, sys

def by_urllib(url):
    import urllib.request
    return urllib.request.urlopen(url, timeout=20).read().decode()

def by_requests(url):
    import requests
    return requests.get(url, timeout=20).text

def by_httpx(url):
    import httpx
    return httpx.get(url, timeout=20).text

def by_urllib3(url):
    import urllib3
    return urllib3.request("GET", url, timeout=20, retries=False).data.decode()

def by_aiohttp(url):
    import aiohttp
    async def ask():
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.text()
    return asyncio.run(ask())

for client in ("urllib", "requests", "httpx", "urllib3", "aiohttp"):
    try:
        print(client, globals()["by_" + client](sys.argv[1]))
    except Exception as error:
        print(client, "CERTIFICATE_VERIFY_FAILED" in str(error) and "does not trust" or error)
"""
NODE_CLIENT = """\
fetch(process.argv[1]).then(answer => answer.text()).then(console.log, error => console.log(error.cause.code));
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Far]:
    servers = environments.kept("servers", pytestconfig)
    with ExitStack() as stack:
        made = stack.enter_context(far.far(tmp_path_factory.mktemp("far"), servers))
        stack.enter_context(far.web(made, 443))
        yield made


@pytest.fixture
def place(workspace: Workspace, world: Far) -> Workspace:
    world.seen_from(workspace)
    return workspace


def say(place: Workspace, world: Far, **more: str) -> None:
    """Write the policy: the far resolver, its authority and ``more`` below ``network``."""
    ca = place.home / "gateway.pem"
    shutil.copy(world.certificates / "ca.pem", ca)
    ca.chmod(0o644)
    said = {"resolvers": [world.resolver.address], "ca": str(ca), **more}
    (place.home / "dativo/config/policy.yaml").write_text(json.dumps({"network": said}))


def jailed(place: Workspace, *line: str, net: str = GRANT) -> str:
    ran = place.dativo("jail", *place.flags, "--net", net, *line)
    assert ran.status == 0, ran.stderr
    return ran.stdout


# --- trust -----------------------------------------------------------------------------------------------------------------


def test_every_client_trusts_what_the_operator_trusts(
    place: Workspace, world: Far, pytestconfig: pytest.Config
) -> None:
    clients = environments.kept("clients", pytestconfig)
    given = ("--ro", str(clients.folder), "--ro", sys.base_prefix, "--")
    line = (*given, str(clients.program("python")), "-I", "-c", PYTHON_CLIENTS, URL)
    names = ("urllib", "requests", "httpx", "urllib3", "aiohttp")
    assert jailed(place, *line).splitlines() == [f"{name} does not trust" for name in names]
    say(place, world)
    assert jailed(place, *line).splitlines() == [f"{name} hello from api.test" for name in names]


@pytest.mark.parametrize(
    ("program", "arguments", "distrust"),
    [
        ("curl", ("-sS", "--max-time", "20", URL), None),
        ("node", ("-e", NODE_CLIENT, URL), "UNABLE_TO_VERIFY_LEAF_SIGNATURE"),
    ],
)
def test_other_clients(
    place: Workspace, world: Far, program: str, arguments: tuple[str, ...], distrust: str | None
) -> None:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"there is no {program} on this machine")
    real = Path(found).resolve()
    given = () if real.is_relative_to("/usr") else ("--ro", str(real.parents[1]))
    line = (*given, "--", str(real), *arguments)
    if distrust is None:
        failed = place.dativo("jail", *place.flags, "--net", GRANT, *line)
        assert failed.status == 60, failed.stderr  # of curl: the peer's certificate
    else:
        assert distrust in jailed(place, *line)
    say(place, world)
    assert "hello from api.test" in jailed(place, *line)


def test_the_authorities_are_shown_and_not_to_be_changed(place: Workspace, world: Far) -> None:
    say(place, world)
    own = (world.certificates / "ca.pem").read_text()
    code = """\
import os
folder = "/run/dativo/trust"
print(os.environ["SSL_CERT_FILE"], os.environ["NODE_EXTRA_CA_CERTS"])
for name in sorted(os.listdir(folder)):
    print(name, open(f"{folder}/{name}").read().count("BEGIN CERTIFICATE"))
    for act in (lambda path: open(path, "a"), os.unlink, lambda path: os.chmod(path, 0o666)):
        try:
            act(f"{folder}/{name}")
            print("changed", name)
        except OSError:
            pass
print(open(f"{folder}/ca.pem").read())
"""
    line = ("--env", "SSL_CERT_FILE=/nowhere", "--", "/usr/bin/python3", "-c", code)
    said = jailed(place, *line)
    assert said.startswith("/run/dativo/trust/all.pem /run/dativo/trust/ca.pem\n")
    assert "changed" not in said
    assert "\nca.pem 1\n" in said
    assert said.strip().endswith(own.strip())
    # Who has no network has nobody to trust.
    code = "import os; print(os.path.exists('/run/dativo'), 'SSL_CERT_FILE' in os.environ)"
    ran = place.dativo("jail", *place.flags, "--", "/usr/bin/python3", "-c", code)
    assert ran.stdout == "False False\n", ran.stderr


def test_authorities_that_cannot_be_used_stop_what_needs_them(place: Workspace, world: Far) -> None:
    say(place, world)
    ca = place.home / "gateway.pem"
    ca.write_text((world.certificates / "server.key").read_text())
    ran = place.dativo("jail", *place.flags, "--net", GRANT, "--", "true")
    assert ran.status == 125
    assert "holds a private key" in ran.stderr
    assert str(ca) in ran.stderr
    assert place.dativo("jail", *place.flags, "--", "true").status == 0


# --- a gateway that wants to know who asks ---------------------------------------------------------------------------------


@contextmanager
def gateway(world: Far) -> Iterator[list[str]]:
    """Take CONNECT (RFC 9110 9.3.6) from whoever has the credentials, and speak for every name as the server behind it.

    Gives the authorities that were asked for, and the statuses that they were answered.
    """
    asked: list[str] = []
    wanted = f"Proxy-Authorization: Basic {b64encode(CREDENTIALS.encode()).decode()}"

    def handle(stream: socket.socket) -> None:
        with stream, suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += stream.recv(1)
            line, *fields = head.decode().split("\r\n")
            if wanted not in fields:
                asked.append(f"{line.split(' ')[1]} 407")
                stream.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")  # fmt: skip
                return
            asked.append(f"{line.split(' ')[1]} 200")
            with world.inside.socket(socket.AF_INET, socket.SOCK_STREAM) as onwards:
                onwards.connect((FAR, 443))
                stream.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=carry, args=(onwards, stream), daemon=True)
                back.start()
                carry(stream, onwards)
                back.join(20)

    def serve() -> None:
        with suppress(OSError):
            while True:
                stream, _ = listener.accept()
                threading.Thread(target=handle, args=(stream,), daemon=True).start()

    listener = world.listener(PROXY_PORT)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(20)


def carry(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while some := one.recv(65536):
            other.sendall(some)
        other.shutdown(socket.SHUT_WR)


def job(place: Workspace) -> None:
    place.plugin(ROOT / "tests/plugins/web", "web")
    config = json.dumps({"urls": [URL], "strict": True})
    place.job(
        "pipeline: pages\n"
        f"source: {{connector: ./plugins/web, config: {config}, grants: {{network: ['api.test']}}}}\n"
        "target: {connector: iceberg, config: {warehouse: ./lake, namespace: pages}}\n"
    )
    assert place.dativo("grants", "approve", "job.yaml").status == 0


def test_a_connector_behind_a_gateway(place: Workspace, world: Far) -> None:
    kept = place.home / "gateway"
    kept.write_text(CREDENTIALS + "\n")
    kept.chmod(0o600)
    say(place, world, proxy=f"{FAR}:{PROXY_PORT}", proxy_credentials=f"file://{kept}")
    job(place)
    with gateway(world) as asked:
        ran = place.run()
    assert ran.status == 0, ran.stderr
    assert place.count("pages.pages", "any_value(said)") == "hello from api.test"
    assert set(asked) == {"api.test:443 200"}
    (network,) = ran.report["network"]
    assert network["proxied"] is True
    # Neither what was told nor what is kept has the credentials.
    told = ran.stdout + ran.stderr + place.dativo("plan", "job.yaml", *place.flags).stdout
    files = [path for path in (place.home / "dativo/state").rglob("*") if path.is_file()]
    assert (place.home / "dativo/state/audit.jsonl") in files
    for secret in (CREDENTIALS.partition(":")[2], b64encode(CREDENTIALS.encode()).decode()):
        assert secret not in told
        assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_a_gateway_that_was_given_the_wrong_word(place: Workspace, world: Far) -> None:
    place.env["GATEWAY"] = "dativo:guessed wrong"
    say(place, world, proxy=f"{FAR}:{PROXY_PORT}", proxy_credentials="env://GATEWAY")
    job(place)
    with gateway(world) as asked:
        ran = place.dativo("run", "job.yaml", *place.flags)
    assert ran.status == 4
    assert set(asked) == {"api.test:443 407"}
    assert "api.test:443 was refused (proxy_refused: HTTP/1.1 407 Proxy Authentication Required)" in ran.stderr  # fmt: skip
    assert {line["verdict"] for line in audit(place, "connection")} == {"proxy_refused"}
    del place.env["GATEWAY"]
    ran = place.dativo("run", "job.yaml", *place.flags)
    assert ran.status == 3
    assert "secret env://GATEWAY is not set" in ran.stderr
