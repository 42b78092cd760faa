"""The committer as a client of the broker: it reaches what the job's target was granted, and nothing else.

No committer needs a network today. So the real one of a real run is joined in its network namespace: what is reached from there
is what it could reach.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.conftest import ROOT, Workspace, descendants
from tests.integration.outside import Outside, audit, outside

# Asks the resolver of the namespace by itself, since it has the files of the test's own.
ASK = """\
import socket, sys
def find(name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.settimeout(20)
        resolver.connect(("127.0.0.1", 53))
        resolver.send(b"\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + labels + b"\\0\\0\\1\\0\\1")
        answer = resolver.recv(512)
    return socket.inet_ntoa(answer[-4:]) if answer[7] else None
for place in sys.argv[1:]:
    name, port = place.split(":")
    address = name if name[0].isdigit() else find(name)
    try:
        if address is None:
            raise OSError("no such name")
        with socket.create_connection((address, int(port)), 20) as there:
            there.sendall(f"GET / HTTP/1.0\\r\\nHost: {name}\\r\\n\\r\\n".encode())
            said = there.makefile("rb").read().decode()
        print(place, said.splitlines()[-1] if said else "nothing")
    except OSError as error:
        print(place, error)
"""


@pytest.fixture
def world() -> Iterator[Outside]:
    with outside() as found:
        yield found


@pytest.fixture
def place(workspace: Workspace, world: Outside) -> Workspace:
    world.permit(workspace)
    workspace.plugin(ROOT / "tests/plugins/bad", "bad")
    return workspace


def job(place: Workspace, source: list[str], target: list[str], connector: str) -> None:
    place.job(
        "pipeline: shop\n"
        "source: {connector: ./plugins/bad, config: {mode: never_ends}, "
        f"grants: {{network: {json.dumps(source)}}}}}\n"
        f"target: {{connector: {connector}, config: {{warehouse: ./lake, namespace: shop}}, "
        f"grants: {{network: {json.dumps(target)}}}}}\n"
    )


def committer_of(run: subprocess.Popen[str]) -> int:
    """Return the pid of a run's committer, once it has one that the source was started behind."""
    deadline = time.monotonic() + 60
    while run.poll() is None and time.monotonic() < deadline:
        found = {pid: cmdline(pid) for pid in descendants(run.pid)}
        if any(b"source.py" in line for line in found.values()):
            # The innermost: what bubblewrap started has the same name in its arguments.
            of_committer = [pid for pid, line in found.items() if b"dativo.plugins" in line]
            if of_committer:
                return max(of_committer)
        time.sleep(0.05)
    raise AssertionError(run.communicate(timeout=10))


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("connector", ["iceberg", "parquet"])
def test_a_committer_reaches_what_its_target_was_granted(
    place: Workspace, world: Outside, connector: str, nothing_left: None
) -> None:
    if os.geteuid() != 0:
        pytest.skip("joining a confined process needs root")
    port = world.port
    job(place, [f"www.test:{port}"], [f"API.test:{port} upload=1KiB"], connector)
    refused = place.dativo("run", "job.yaml", *place.flags)
    assert refused.status == 8
    assert f"{connector}: network api.test:{port} upload=1KiB" in refused.stderr
    shown = place.dativo("grants", "show", "job.yaml").stdout.splitlines()
    assert shown.index(f"{connector}:") < shown.index(f"network api.test:{port} upload=1KiB")
    assert place.dativo("grants", "approve", "job.yaml").status == 0
    plan = json.loads(place.dativo("plan", "job.yaml", *place.flags).stdout)
    assert plan["target"]["grants"] == {"network": [f"api.test:{port} upload=1KiB"]}

    run = place.start("run", "job.yaml", "--output", "json", *place.flags)
    try:
        namespace = f"/proc/{committer_of(run)}/ns/net"
        assert os.stat(namespace).st_ino != os.stat("/proc/self/ns/net").st_ino
        places = ("api.test", "www.test", "evil.test", "127.0.0.1", "192.0.2.1")
        asked = subprocess.run(
            ["nsenter", f"--net={namespace}", "/usr/bin/python3", "-c", ASK, *(f"{name}:{port}" for name in places)],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    finally:
        run.send_signal(signal.SIGTERM)
        stdout, stderr = run.communicate(timeout=120)
    answers = dict(line.split(" ", 1) for line in asked.stdout.splitlines())
    assert answers.pop(f"api.test:{port}") == "hello from api.test", asked.stderr
    assert answers.pop(f"www.test:{port}") == answers.pop(f"evil.test:{port}") == "no such name"
    # No way out: nothing but the names of the broker is there.
    assert len(answers) == 2
    assert not any("hello" in answer for answer in answers.values()), answers

    assert run.returncode == 143, stderr
    report = json.loads(stdout)
    networks = {each["process"]: each for each in report["network"]}
    assert [each["place"] for each in networks["committer"]["reached"]] == [f"api.test:{port}"]
    assert networks["source"]["connections"] == 0
    walls = {each["name"]: each["walls"] for each in report["processes"]}
    assert f"network api.test:{port}" in walls["committer"]
    assert "no network" in walls["writer"]
    refusals = {each["place"] for each in networks["committer"]["refusals"]}
    assert {"www.test", "evil.test"} <= refusals
    lines = [line for line in audit(place, "connection") if line["client"] == "committer"]
    assert {(line["name"], line["verdict"]) for line in lines if line["name"]} == {
        ("api.test", "ok")
    }


def test_what_a_committer_may_not_ask_for(place: Workspace, world: Outside) -> None:
    world.permit(place, "  blocked: [api.test]\n")
    job(place, [], [f"api.test:{world.port}"], "iceberg")
    refused = place.dativo("plan", "job.yaml", *place.flags)
    assert refused.status == 8
    assert f"network api.test:{world.port} is blocked by the policy" in refused.stderr
    place.job(
        "pipeline: shop\n"
        "source: {connector: ./plugins/bad}\n"
        "target: {connector: iceberg, config: {warehouse: ./lake, namespace: shop}, grants: {memory: 1GiB}}\n"
    )
    refused = place.dativo("plan", "job.yaml", *place.flags)
    assert refused.status == 3
    assert "unknown key `memory`" in refused.stderr
    assert "/target/grants/memory" in refused.stderr
