"""A broker in the wrong hands: whatever it says that cannot be so ends the run, and so does its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from tests.doubles.puppet import say, stand_in
from tests.integration.conftest import ROOT, Workspace

GRANT = "api.test"
CLIENT = "jail"


def told(**more: Any) -> str:
    usual = dict(client=CLIENT, name=GRANT, address="192.0.2.1", port=443, verdict="ok")
    counts = dict(up_bytes=10, down_bytes=20, seconds=0.5, detail=None)
    return say(**{"type": "connection", **usual, **counts, **more})


def looked_up(count: int, **more: Any) -> str:
    usual = dict(client=CLIENT, name="evil.test", kind="A", verdict="not_granted", count=count)
    return say(**{"type": "lookup", **usual, **more})


def finished(**more: Any) -> str:
    counts = dict(connections=1, refused=0, up_bytes=10, down_bytes=20, lookups=1, suppressed=0)
    return say(type="finished", clients=[{"client": CLIENT, **counts, **more}])


def hello(program: str = "dativo-broker") -> str:
    return say(type="hello", protocol="1.0", program=program, version="0.1.0", features=[])


def opened(*clients: str) -> str:
    return say(type="opened", clients=clients)


def broker(*acts: str, end: Sequence[str] = (finished(),)) -> list[str]:
    """A broker in good order but for ``acts``: what it tells between `opened` and its end."""
    return [hello(), "hear", opened(CLIENT), "sockets", *acts, "hear", *end]


LIES: dict[str, tuple[list[str], str]] = {
    "nobody's connection": ([told(client="nobody")], "speaks of 'nobody', which it does not serve"),
    "nobody's name": (
        [looked_up(1, client="nobody")],
        "speaks of 'nobody', which it does not serve",
    ),
    "a verdict of its own": ([told(verdict="fine")], "connection.verdict is not"),
    "another name": ([told(name="evil.test")], "let through what is not granted: evil.test:443"),
    "another port": ([told(port=8443)], "let through what is not granted: api.test:8443"),
    "an address": ([told(name=None)], "let through what is not granted: 192.0.2.1:443"),
    "fewer bytes than none": ([told(up_bytes=-1)], "connection.up_bytes is not a count"),
    "no port": ([told(port=0)], "connection.port is not"),
    "a name that commands": ([told(name="a\x1b[2J")], "connection.name is not"),
    "counting back": ([looked_up(2), looked_up(1)], "counts 1 lookups of evil.test after 2"),
    "counting nothing": ([looked_up(0)], "counts 0 lookups of evil.test after 0"),
    "an epoch": ([say(type="sealed")], "broke the protocol"),
    "a pump's word": (
        [say(type="pumped", name="stdin", bytes=1, end="eof", message=None)],
        "said what it may not",
    ),
    "nonsense": ([say(type="nonsense")], "broke the protocol"),
    "no JSON": (["say no json"], "broke the protocol"),
    "a line that never ends": (["fill x 9000000"], "broke the protocol"),
    "after its end": ([finished(connections=0), told()], "speaks after its end"),
    "too many connections": (
        ["repeat 3000 " + told().removeprefix("say ")],
        "tells more than 100 connections a second",
    ),
    "too many names": (
        ["repeat 20001 " + looked_up(1, name="#.test").removeprefix("say ")],
        "tells of more than 10000 refused names",
    ),
    "gone": (["exit 0"], "ended before the run"),
    "failed": (["exit 7"], "ended before the run"),
    "killed": (["kill 9"], "ended before the run"),
    "giving up": (
        [say(type="error", code="internal.broker", blame="dativo", message="no more")],
        "internal.broker: no more",
    ),
    "blaming": (
        [say(type="error", code="source.x", blame="plugin", message="its fault")],
        "source.x: its fault",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_ends_what_it_serves_at_once(workspace: Workspace, lie: str) -> None:
    acts, message = LIES[lie]
    stand_in(workspace, "dativo-broker", broker(*acts))
    began = time.monotonic()
    ran = workspace.dativo("jail", *workspace.flags, "--net", GRANT, "--", "sleep", "100")
    assert ran.status == 125, ran.stderr
    assert message in ran.stderr
    assert "\x1b" not in ran.stderr
    assert time.monotonic() - began < 60


BEGINNING_OR_END: dict[str, tuple[list[str], str]] = {
    "another program": (
        [hello("dativo-relay"), "hear"],
        "started dativo-broker, but dativo-relay answered",
    ),
    "nobody served": ([hello(), "hear", opened(), "hear"], "did not understand its orders"),
    "more served": (
        [hello(), "hear", opened(CLIENT, "more"), "hear"],
        "did not understand its orders",
    ),
    "gone at once": ([hello(), "hear", opened(CLIENT), "exit 0"], "ended before the run"),
    "no end": (broker(told(), end=["exit 0"]), "ended before the run"),
    "fewer connections": (
        broker(told(), end=[finished(connections=0)]),
        "counts fewer connections of jail than it has told",
    ),
    "fewer bytes": (
        broker(told(), end=[finished(up_bytes=9)]),
        "counts fewer up_bytes of jail than it has told",
    ),
    "another's end": (
        broker(told(), end=[finished(client="other")]),
        "totals of other processes",
    ),
    "nobody's end": (
        broker(told(), end=[say(type="finished", clients=[])]),
        "totals of other processes",
    ),
    "a bad end": (broker(told(), end=[finished(), "exit 3"]), "ended before the run"),
    "silence": (broker(told(), end=["sleep 60000"]), "did not end within 10 s"),
}


@pytest.mark.parametrize("lie", BEGINNING_OR_END)
def test_its_beginning_and_its_end_are_checked(workspace: Workspace, lie: str) -> None:
    acts, message = BEGINNING_OR_END[lie]
    stand_in(workspace, "dativo-broker", acts)
    ran = workspace.dativo("jail", *workspace.flags, "--net", GRANT, "--", "true")
    assert ran.status == 125, ran.stderr
    assert message in ran.stderr


def test_an_honest_one_is_believed(workspace: Workspace) -> None:
    stand_in(
        workspace,
        "dativo-broker",
        broker(told(), looked_up(1), looked_up(1), looked_up(5)),
    )
    ran = workspace.dativo("jail", *workspace.flags, "--net", GRANT, "--", "true")
    assert ran.status == 0, ran.stderr
    assert "refused 5 times: evil.test (not_granted)" in ran.stderr


def test_a_run_whose_broker_dies_fails_and_keeps_what_is_committed(workspace: Workspace) -> None:
    # It serves the source that discovers in good order, and dies while it reads: then alone it is asked for "source".
    reads = 'only_if "name":"source"'
    discovers = "source-discover"
    acts = [
        hello(),
        "hear",
        reads,
        opened("source"),
        "unless " + reads.removeprefix("only_if "),
        opened(discovers),
        "sockets",
        reads,
        "sleep 200",
        reads,
        "exit 0",
        "wait finish",
        finished().replace(CLIENT, discovers).replace('"connections": 1', '"connections": 0'),
    ]
    stand_in(workspace, "dativo-broker", acts)
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
