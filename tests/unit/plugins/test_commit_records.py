from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from dativo.plugins.commit import durable
from dativo.plugins.commit.faults import CommitFault, io_fault, locating
from dativo.plugins.commit.messages import Open, Sealed
from dativo.plugins.commit.target import files_from, parsed, states_from
from dativo.protocol.errors import ProtocolViolation
from dativo.protocol.state import Stream

OPEN: dict[str, Any] = {
    "type": "open",
    "input": "0",
    "run": "r",
    "pipeline": "shop",
    "partition": "",
    "owner": "default/shop",
    "warehouse": "/srv/lake",
    "namespace": "shop",
    "staging": "/srv/lake/_dativo/staging/r",
    "mode": "append",
}
FILE: dict[str, Any] = {
    "stream": {"namespace": None, "name": "users"},
    "revision": 1,
    "path": "000001-0000.parquet",
    "rows": 1,
    "bytes": 100,
    "sha256": "0" * 64,
}


def test_open() -> None:
    assert Open.from_event(OPEN).key == "shop"
    assert Open.from_event({**OPEN, "partition": "p1"}).key == "shop@p1"


def test_overwrites_of_open() -> None:
    users = {"stream": FILE["stream"], "generation": 3}
    stream = Stream("", "users")
    assert Open.from_event(OPEN).overwrites == {}
    assert Open.from_event({**OPEN, "overwrites": [users]}).overwrites == {stream: 3}
    unnumbered = {**users, "generation": None}
    assert Open.from_event({**OPEN, "overwrites": [unnumbered]}).overwrites == {stream: None}
    negative = {**users, "generation": -1}
    refused: list[Any] = [[users, users], ["users"], [negative], {}, [{"generation": 1}]]
    for wrong in refused:
        with pytest.raises((CommitFault, ProtocolViolation)):
            Open.from_event({**OPEN, "overwrites": wrong})


def test_sealed_says_when_it_is_complete() -> None:
    event: dict[str, Any] = {"sequence": 1, "files": [{**FILE, "version": 7}], "states": []}
    sealed = Sealed.from_event(event)
    assert (sealed.complete, sealed.activations, sealed.files[0].version) == (False, {}, 7)
    last = {**event, "final": True, "complete": True}
    activations = [{"stream": FILE["stream"], "version": 7}]
    sealed = Sealed.from_event({**last, "activations": activations})
    assert (sealed.complete, sealed.activations) == (True, {Stream("", "users"): 7})
    refused: list[dict[str, Any]] = [
        {"final": False},
        {"complete": 1},
        {"activations": activations * 2},
        {"activations": [{"stream": FILE["stream"], "version": None}]},
        {"files": [{**FILE, "version": -1}]},
    ]
    for wrong in refused:
        with pytest.raises(CommitFault):
            Sealed.from_event({**last, **wrong})


@pytest.mark.parametrize("key", OPEN)
def test_open_needs_every_field(key: str) -> None:
    if key != "type":
        with pytest.raises(CommitFault) as raised:
            Open.from_event({name: value for name, value in OPEN.items() if name != key})
        assert raised.value.code == "protocol.control"


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../x.parquet"},
        {"path": "X.parquet"},
        {"path": ".parquet"},
        {"path": "x.parquet\n"},
        {"path": "x" * 200 + ".parquet"},
        {"sha256": "0" * 63},
        {"sha256": "0" * 63 + "G"},
        {"rows": -1},
        {"bytes": True},
        {"bytes": "1"},
        {"rows": 1.5},
    ],
)
def test_sealed_files_are_checked(change: dict[str, Any]) -> None:
    event = {"type": "sealed", "sequence": 1, "files": [FILE], "states": []}
    assert Sealed.from_event(event).files[0].name == FILE["path"]
    with pytest.raises(CommitFault):
        Sealed.from_event({**event, "files": [{**FILE, **change}]})


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "shop/../../x"])
def test_recovery_deletes_below_the_warehouse_only(path: str) -> None:
    item = {
        "stream": FILE["stream"],
        "path": path,
        "schema_id": 0,
        "rows": 1,
        "bytes": 1,
        "sha256": "",
    }
    with pytest.raises(CommitFault) as raised:
        files_from([item], "catalog.db")
    assert raised.value.code == "target.corrupt"


def test_kept_records_that_do_not_parse() -> None:
    for call in (
        lambda: parsed("{", "x"),
        lambda: states_from([{"kind": "nonsense"}], "", "x"),
        lambda: states_from(None, "", "x"),
        lambda: states_from([], "wrong hash", "x"),
        lambda: files_from([{}], "x"),
    ):
        with pytest.raises(CommitFault) as raised:
            call()
        assert raised.value.code == "target.corrupt"


def test_io_errors_name_path_and_remedy(tmp_path: Path) -> None:
    full = io_fault(OSError(errno.ENOSPC, "No space left"), "copy a staged file", tmp_path)
    event = full.to_event("0")
    assert event["code"] == "target.io"
    assert event["blame"] == "machine"
    assert event["value"] == str(tmp_path)
    assert "disk is full" in str(event["hint"])
    with pytest.raises(CommitFault), locating("open", tmp_path):
        (tmp_path / "none").open()


def test_error_event_is_bounded() -> None:
    fault = CommitFault("m", code="schema.type", value="x" * 10_000)
    assert len(str(fault.to_event("0")["value"])) <= 200


def test_create_whole_takes_a_name_once(tmp_path: Path) -> None:
    durable.create_whole(tmp_path / "1.json", b"first")
    with pytest.raises(FileExistsError):
        durable.create_whole(tmp_path / "1.json", b"second")
    assert [path.name for path in tmp_path.iterdir()] == ["1.json"]
    assert (tmp_path / "1.json").read_bytes() == b"first"


def test_create_never_overwrites_or_follows(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        durable.create(tmp_path / "link", b"x")
    assert not (tmp_path / "elsewhere").exists()
