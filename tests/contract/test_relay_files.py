"""Messages that name files, through the relay: with an exchange folder plain paths below it, else none (docs/spec/wire.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.contract.relay_kernel import opening, play, stream

ROOT = "/exchange"
USERS = stream("users", schema={"type": "object"})
SCHEMA = '{"type":"SCHEMA","stream":"users","schema":{"properties":{}},"key_properties":[]}'
BATCH = (
    '{"type":"BATCH","stream":"users","encoding":{"format":"jsonl" , "compression":"gzip"},'
    '"manifest":[ "file:///exchange/a.json.gz", "file:///exchange/b c/\\u00e9.gz"]%s}'
)
STATE = '{"type":"STATE","value":1}'


def lines(*texts: str) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def airbyte(reference: str) -> str:
    data = f'{{"stream":"users","data":{{}},"emitted_at":1,"file_reference":{reference}}}'
    return f'{{"type":"RECORD","record":{data}}}'


def singer(*streams: Any, root: str | None = ROOT, to: str = "singer") -> Any:
    return opening("singer", to, streams or [USERS], exchange=root)


@pytest.mark.parametrize("more", ["", ',"version":7'])
def test_a_batch_passes_as_it_is_written(more: str) -> None:
    """Between what came before it and the state that covers it."""
    relay = play(singer(), lines(SCHEMA, BATCH % more, STATE))
    assert relay.status == 0, relay.error()
    told = relay.output.splitlines()
    assert told[1] == (BATCH % more).encode()
    assert [json.loads(line)["type"] for line in told] == ["SCHEMA", "BATCH", "STATE"]


@pytest.mark.parametrize(
    "url",
    ["file:///tmp/dativo/config.json", "file:///exchange/../etc/passwd", "s3://b/a", "/exchange/a"],
)
def test_a_batch_of_other_files_ends_the_run(url: str) -> None:
    batch = json.dumps({"type": "BATCH", "stream": "users", "encoding": {}, "manifest": [url]})
    relay = play(singer(), lines(SCHEMA, STATE, batch))
    error = relay.error()
    assert (relay.status, error["code"], error["line"]) == (7, "message.batch", 3)
    assert error["stream"]["name"] == "users"
    assert b"BATCH" not in relay.output


@pytest.mark.parametrize(
    ("opened", "said"),
    [
        (singer(root=None), "not taken"),
        (singer(to="airbyte"), "not taken"),
        (singer(stream("users", drop=["ssn"])), "left out"),
    ],
    ids=["no folder", "another dialect", "deselected fields"],
)
def test_a_batch_that_nobody_may_read_ends_the_run(opened: Any, said: str) -> None:
    relay = play(opened, lines(SCHEMA, BATCH % ""))
    error = relay.error()
    assert (relay.status, error["code"]) == (7, "message.batch") and said in error["message"]
    assert b"BATCH" not in relay.output


def test_a_batch_belongs_to_a_stream() -> None:
    relay = play(singer(), lines(BATCH % ""))
    assert relay.error()["code"] == "message.record_before_schema"
    relay = play(singer(), lines(SCHEMA, (BATCH % "").replace("users", "others")))
    assert relay.error()["code"] == "message.unknown_stream"


@pytest.mark.parametrize("path", ["/exchange/f/a.pdf", "/exchange/100% [1];#?*.pdf"])
def test_a_record_may_refer_to_a_file(path: str) -> None:
    """A path is no URL: names of files hold what they like."""
    reference = f'{{"staging_file_url": "{path}","file_size_bytes":12}}'
    relay = play(opening("airbyte", "airbyte", [USERS], exchange=ROOT), lines(airbyte(reference)))
    assert relay.status == 0, relay.error()
    assert f'"file_reference":{reference}'.encode() in relay.output


@pytest.mark.parametrize(
    ("to", "root", "reference"),
    [
        ("airbyte", ROOT, '{"staging_file_url":"/tmp/dativo/config.json"}'),
        ("airbyte", ROOT, '{"staging_file_url":"/exchange/../x"}'),
        ("airbyte", ROOT, "{}"),
        ("airbyte", ROOT, '{"staging_file_url":"/exchange/x","source_file_relative_path":"../x"}'),
        ("airbyte", None, '{"staging_file_url":"/exchange/x"}'),
        ("singer", ROOT, '{"staging_file_url":"/exchange/x"}'),
    ],
)
def test_a_record_refers_to_no_other_file(to: str, root: str | None, reference: str) -> None:
    relay = play(opening("airbyte", to, [USERS], exchange=root), lines(airbyte(reference)))
    assert relay.status == 7 and relay.error()["code"] == "message.file_reference"
    assert b"file_reference" not in relay.output
