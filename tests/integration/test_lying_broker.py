"""A broker in the wrong hands: whatever it says that cannot be so ends the run, and so does its end."""

from __future__ import annotations

import shutil
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.conftest import ROOT, Workspace

GRANT = "api.test"
# Speaks as dativo-broker does until SAY, which is put in its place: what it tells between `opened` and its end.
LIAR = """\
#!/usr/bin/python3 -I
import json, os, socket, sys, time
control = socket.socket(fileno=3)
lines = control.makefile("rb")
def say(**event):
    control.sendall(json.dumps(event).encode() + b"\\n")
def told(**more):
    usual = dict(type="connection", client=name, name="api.test", address="192.0.2.1", port=443, verdict="ok",
                 up_bytes=10, down_bytes=20, seconds=0.5, detail=None)
    say(**{**usual, **more})
def looked_up(count, **more):
    say(**{**dict(type="lookup", client=name, name="evil.test", kind="A", verdict="not_granted", count=count), **more})
def finished(**more):
    usual = dict(client=name, connections=1, refused=0, up_bytes=10, down_bytes=20, lookups=1, suppressed=0)
    say(type="finished", clients=[{**usual, **more}])
say(type="hello", protocol="1.0", program=PROGRAM, version="0.1.0", features=[])
orders = json.loads(lines.readline())
name = orders["clients"][0]["name"]
say(type="opened", clients=CLIENTS)
sockets = socket.socket(fileno=0)
data, descriptors, _, _ = socket.recv_fds(sockets, 65536, 250)
SAY
lines.readline()
END
"""
HONEST = "told()"


@pytest.fixture
def lying(workspace: Workspace) -> Callable[..., None]:
    """Put a broker in the place of the real one that tells what it is given."""

    def put(
        say: str = HONEST,
        end: str = "finished()",
        program: str = "'dativo-broker'",
        clients: str = "[name]",
    ) -> None:
        real = Path(workspace.environment().get("DATIVO_BIN_DIR") or sysconfig.get_path("scripts"))
        folder = workspace.home / "bin"
        folder.mkdir()
        folder.chmod(0o755)
        for path in real.glob("dativo-*"):
            shutil.copy(path, folder / path.name)
        text = LIAR.replace("PROGRAM", program).replace("CLIENTS", clients)
        broker = folder / "dativo-broker"
        broker.write_text(text.replace("SAY", say).replace("END", end))
        broker.chmod(0o755)
        workspace.env["DATIVO_BIN_DIR"] = str(folder)

    return put


LIES = [
    ("told(client='nobody')", "speaks of 'nobody', which it does not serve"),
    ("looked_up(1, client='nobody')", "speaks of 'nobody', which it does not serve"),
    ("told(verdict='fine')", "connection.verdict is not"),
    ("told(name='evil.test')", "let through what is not granted: evil.test:443"),
    ("told(port=8443)", "let through what is not granted: api.test:8443"),
    ("told(name=None)", "let through what is not granted: 192.0.2.1:443"),
    ("told(up_bytes=-1)", "connection.up_bytes is not a count"),
    ("told(port=0)", "connection.port is not"),
    ("told(name='a\\x1b[2J')", "connection.name is not"),
    ("looked_up(2); looked_up(1)", "counts 1 lookups of evil.test after 2"),
    ("looked_up(0)", "counts 0 lookups of evil.test after 0"),
    ("say(type='sealed')", "broke the protocol"),
    ("say(type='pumped', name='stdin', bytes=1, end='eof', message=None)", "said what it may not"),
    ("say(type='nonsense')", "broke the protocol"),
    ("control.sendall(b'no json\\n')", "broke the protocol"),
    ("control.sendall(b'x' * 9_000_000)", "broke the protocol"),
    ("finished(connections=0); told()", "speaks after its end"),
    ("for _ in range(3000): told()", "tells more than 100 connections a second"),
    (
        "for i in range(20_001): looked_up(1, name=f'{i}.test')",
        "tells of more than 10000 refused names",
    ),
    ("sys.exit(0)", "ended before the run"),
    ("os._exit(7)", "ended before the run"),
    ("os.kill(os.getpid(), 9)", "ended before the run"),
    (
        "say(type='error', code='internal.broker', blame='dativo', message='no more')",
        "internal.broker: no more",
    ),
    (
        "say(type='error', code='source.x', blame='plugin', message='its fault')",
        "source.x: its fault",
    ),
]


@pytest.mark.parametrize(("say", "message"), LIES, ids=[say[:40] for say, _ in LIES])
def test_a_lie_ends_what_it_serves_at_once(
    workspace: Workspace, lying: Callable[..., None], say: str, message: str
) -> None:
    lying(say)
    began = time.monotonic()
    ran = workspace.dativo("jail", *workspace.flags, "--net", GRANT, "--", "sleep", "100")
    assert ran.status == 125, ran.stderr
    assert message in ran.stderr
    assert "\x1b" not in ran.stderr
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"program": "'dativo-relay'"}, "started dativo-broker, but dativo-relay answered"),
        ({"clients": "[]"}, "did not understand its orders"),
        ({"clients": "[name, 'more']"}, "did not understand its orders"),
        ({"clients": "[name]); sys.exit(0", "end": ""}, "ended before the run"),
        ({"end": "sys.exit(0)"}, "ended before the run"),
        ({"end": "finished(connections=0)"}, "counts fewer connections of jail than it has told"),
        ({"end": "finished(up_bytes=9)"}, "counts fewer up_bytes of jail than it has told"),
        ({"end": "finished(client='other')"}, "totals of other processes"),
        ({"end": "say(type='finished', clients=[])"}, "totals of other processes"),
        ({"end": "finished(); sys.exit(3)"}, "ended before the run"),
        ({"end": "time.sleep(60)"}, "did not end within 10 s"),
    ],
)
def test_its_beginning_and_its_end_are_checked(
    workspace: Workspace, lying: Callable[..., None], options: dict[str, str], message: str
) -> None:
    lying(**options)
    ran = workspace.dativo("jail", *workspace.flags, "--net", GRANT, "--", "true")
    assert ran.status == 125, ran.stderr
    assert message in ran.stderr


def test_an_honest_one_is_believed(workspace: Workspace, lying: Callable[..., None]) -> None:
    lying("told(); looked_up(1); looked_up(1); looked_up(5)")
    ran = workspace.dativo("jail", *workspace.flags, "--net", GRANT, "--", "true")
    assert ran.status == 0, ran.stderr
    assert "refused 5 times: evil.test (not_granted)" in ran.stderr


def test_a_run_whose_broker_dies_fails_and_keeps_what_is_committed(
    workspace: Workspace, lying: Callable[..., None]
) -> None:
    # It serves the source that discovers in good order, and dies while it reads.
    lying("told()\nif name == 'source': time.sleep(0.2); sys.exit(0)")
    workspace.plugin(ROOT / "tests/plugins/bad", "bad")
    workspace.job(
        "pipeline: bad\n"
        "source: {connector: ./plugins/bad, config: {mode: never_ends}, grants: {network: [api.test]}}\n"
        "target: {connector: parquet, config: {warehouse: ./lake, namespace: bad}}\n"
    )
    assert workspace.dativo("grants", "approve", "job.yaml").status == 0
    ran = workspace.run()
    assert ran.status == 1, ran.stderr
    assert "dativo-broker ended before the run" in ran.stderr
    assert ran.report["error"]["status"] == "INTERNAL"
    ended = {each["name"]: each["ended"] for each in ran.report["processes"]}
    assert ended["source"] in ("killed", "signal 15")
