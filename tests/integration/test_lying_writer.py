"""A writer in the wrong hands: what it says that cannot be so ends the run, and nothing of it is committed.

It is played by a puppet behind the writer's own walls (tests/doubles): it speaks its protocol in good order but for one lie.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from tests.doubles.puppet import say, stand_in
from tests.faults.committers import arrow_field
from tests.integration.conftest import ROOT, Result, Workspace
from tests.integration.standalone_target import (
    Target,
    airbyte_record,
    airbyte_state,
    configured,
    lines,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

HURRIED = (sys.executable, "-I", str(ROOT / "tests/doubles/hurried.py"))
DEADLINE_S = 60


def column(name: str, kind: str, field_id: int) -> dict[str, Any]:
    return {"column": name, "type": kind, "field_id": field_id}


TABLE = (column("id", "long", 1), column("name", "string", 2))


def parquet(*ids: int, columns: Sequence[dict[str, Any]] = TABLE, **settings: Any) -> bytes:
    """A file as the writer would write it, but for ``settings``."""
    sink = io.BytesIO()
    schema = pyarrow.schema([arrow_field(each) for each in columns])
    record: dict[str, Callable[[int], Any]] = {"long": int, "string": "n{}".format, "double": float}
    rows = [{each["column"]: record[each["type"]](one) for each in columns} for one in ids]
    settings = {"compression": "zstd", "store_schema": False, **settings}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), sink, **settings)
    return sink.getvalue()


def planted(content: bytes) -> list[str]:
    """A file that is what is said of it, whatever it is."""
    return instead(put(content), files=[staged(content)])


# The greatest value of a file, of which its statistics tell.
NINE, EIGHT = (n.to_bytes(8, "little") for n in (9, 8))
GOOD = parquet(1, 2, 3)
OTHER = parquet(7, 8, 9)
NAME = "000001-0000.parquet"
USERS = {"namespace": None, "name": "users"}
OTHERS = {"namespace": None, "name": "others"}
HELLO = {
    "type": "hello",
    "protocol": "1.0",
    "program": "dativo-writer",
    "version": "0.1.0",
    "features": [],
}
COLUMNS = [
    {"property": "id", "type": "long"},
    {"property": "name", "type": "string"},
]
DEEP = '{"type":"sealed","x":' + "[" * 600 + "]" * 600 + "}"


def put(content: bytes = GOOD, name: str = NAME) -> str:
    return f"file /staging/{name} {content.hex()}"


def staged(content: bytes = GOOD, **more: Any) -> dict[str, Any]:
    usual = {
        "stream": USERS,
        "revision": 1,
        "path": NAME,
        "rows": 3,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "version": None,
    }
    return {**usual, **more}


def count(**more: Any) -> dict[str, Any]:
    return {"stream": USERS, "read": 3, "written": 3, "rejected": 0, "filtered": 0, **more}


def state(**more: Any) -> dict[str, Any]:
    text = json.dumps(airbyte_state({"n": 3})["state"])
    return {"kind": "stream", "stream": USERS, "text": text, **more}


def sealed(**more: Any) -> str:
    usual: dict[str, Any] = {
        "type": "sealed",
        "input": "0",
        "sequence": 1,
        "final": True,
        "files": [staged()],
        "states": [state()],
        "counts": [count()],
        "complete": False,
        "echo": [],
        "activations": [],
    }
    return say(**{**usual, **more})


def stats(**more: Any) -> str:
    usual: dict[str, Any] = dict(
        input="0", bytes=9, lines=4, text_lines=0, suppressed=0, idle_s=0.0, blocked_s=0.0
    )
    usual |= dict(staged_bytes=0, ended=True, waited_s=0.0, oddities={}, counts=[count()])
    return say(**{"type": "stats", **usual, **more})


def schema(**more: Any) -> str:
    usual = dict(input="0", stream=USERS, revision=1, key=["id"], columns=COLUMNS)
    return say(**{"type": "stream_schema", **usual, **more})


BEGINNING = [say(**HELLO), "hear", schema(), "wait stream_plan"]
READ = ["input", stats(), 'wait "finish"']
LATER = 'wait "committed"'


@dataclass
class Lied:
    """A lie: what is done in the place of an honest end, and what becomes of it."""

    acts: list[str]
    message: str
    status: int = 7
    names: str = "writer"
    kept: bool = False


def instead(*acts: str, **of_sealed: Any) -> list[str]:
    """In good order up to the last epoch; ``acts`` come before it."""
    return [*BEGINNING, *READ, put(), *acts, sealed(**of_sealed), LATER]


def early(*acts: str) -> list[str]:
    """``acts`` while the source is still read."""
    return [*BEGINNING, *acts, *READ, put(), sealed(), LATER]


def raw(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    return f"raw {data.hex()}"


def named(name: str) -> list[str]:
    return instead(files=[staged(path=name)])


BAD_NAME = "sealed.files.path is not of the form"
LIES: dict[str, Lied] = {
    # counts
    "more written than in files": Lied(
        instead(counts=[count(read=4, written=4)]), "4 rows written"
    ),
    "no counts": Lied(instead(counts=[]), "0 rows written"),
    "counted twice": Lied(instead(counts=[count(), count()]), "twice"),
    "rows from nowhere": Lied(instead(counts=[count(read=2)]), "2 rows read"),
    "rows that vanish": Lied(instead(counts=[count(read=9)]), "9 rows read"),
    "fewer than no rows": Lied(instead(counts=[count(read=-1)]), "counts.read is not a count"),
    "true rows": Lied(instead(counts=[count(read=True)]), "counts.read is not a count"),
    "a part of a row": Lied(instead(counts=[count(read=3.5)]), "counts.read is not a count"),
    "too many rows": Lied(instead(counts=[count(read=2**63)]), "counts.read is not a count"),
    "NaN rows": Lied(
        early(raw(sealed()[4:].replace('"read": 3', '"read": NaN') + "\n")), "is not JSON"
    ),
    "rows of another stream": Lied(
        instead(counts=[count(), count(stream=OTHERS)]), "others, which was not declared"
    ),
    # files
    "a hash of something else": Lied(
        instead(files=[staged(sha256=hashlib.sha256(OTHER).hexdigest())]), "hashes to"
    ),
    "half a hash": Lied(instead(files=[staged(sha256="ab")]), "sealed.files.sha256 is not"),
    "a byte more": Lied(instead(files=[staged(bytes=len(GOOD) + 1)]), "the manifest says"),
    "a byte less": Lied(instead(files=[staged(bytes=len(GOOD) - 1)]), "the manifest says"),
    "no file": Lied(instead(f"remove /staging/{NAME}"), "cannot be opened"),
    "another file": Lied(instead(put(OTHER)), "hashes to"),
    "above its staging": Lied(named("../catalog.db"), BAD_NAME),
    "an absolute path": Lied(named("/etc/passwd"), BAD_NAME),
    "in a folder": Lied(named("a/b.parquet"), BAD_NAME),
    "a name with NUL": Lied(named("a\0.parquet"), BAD_NAME),
    "a name that commands": Lied(named("\x1b[2J.parquet"), BAD_NAME),
    "a symlink": Lied(
        instead(f"remove /staging/{NAME}", f"symlink /staging/{NAME} /etc/passwd"),
        "cannot be opened",
    ),
    "a hard link": Lied(instead(f"link /staging/b /staging/{NAME}"), "has 2 links"),
    "a FIFO": Lied(
        instead(f"remove /staging/{NAME}", f"fifo /staging/{NAME}"), "is not a regular file"
    ),
    "a folder": Lied(
        instead(f"remove /staging/{NAME}", f"folder /staging/{NAME}"), "is not a regular file"
    ),
    "a file twice": Lied(
        instead(files=[staged(), staged()], counts=[count(read=6, written=6)]), "twice"
    ),
    "no Parquet": Lied(
        instead(put(b"no Parquet at all"), files=[staged(b"no Parquet at all")]), "PAR1"
    ),
    "a file of another stream": Lied(
        instead(files=[staged(stream=OTHERS)]), "others, which was not declared"
    ),
    "a file without a plan": Lied(instead(files=[staged(revision=2)]), "no plan"),
    "more rows than in the file": Lied(
        instead(files=[staged(rows=4)], counts=[count(read=4, written=4)]),
        "has 3 rows, the manifest says 4",
    ),
    "fewer rows than in the file": Lied(
        instead(files=[staged(rows=2)], counts=[count(read=2, written=2)]), "the manifest says 2"
    ),
    "a type that was not planned": Lied(
        planted(parquet(1, 2, 3, columns=[column("id", "double", 1), TABLE[1]])), "not stored as"
    ),
    "a column that was not planned": Lied(
        planted(parquet(1, 2, 3, columns=[*TABLE, column("more", "long", 3)])), "has 3 columns"
    ),
    "another column's id": Lied(
        planted(parquet(1, 2, 3, columns=[column("id", "long", 9), TABLE[1]])), "field id 9"
    ),
    "a schema beside the schema": Lied(
        planted(parquet(1, 2, 3, store_schema=True)), "has key-value metadata"
    ),
    "a bound that is not so": Lied(
        planted(parquet(1, 2, 9, compression="none").replace(NINE, EIGHT, 1)),
        "bound that its values",
    ),
    # tables and states
    "a table of its own": Lied(
        early(schema(stream=OTHERS), "wait stream_plan"), "others, which was not declared"
    ),
    "a key of no text": Lied(early(schema(revision=2, key=[1])), "not a short text"),
    "a type of its own": Lied(
        early(schema(revision=2, columns=[{"property": "x", "type": "table"}])),
        "column.type is not",
    ),
    "a state of another stream": Lied(
        instead(states=[state(stream=OTHERS)]), "others, which was not declared"
    ),
    "a state of another dialect": Lied(
        instead(states=[state(kind="singer", stream=None)]), "a state of kind singer"
    ),
    "a state of no kind": Lied(instead(states=[state(kind="mine")]), "a state has a kind"),
    "a state of nobody": Lied(instead(states=[state(stream=None)]), "names its stream"),
    "a state too long": Lied(instead(states=[state(text="x" * 1_100_000)]), "1100000 bytes"),
    "an echo of two lines": Lied(instead(echo=[{"number": 1, "text": "{}\n{}"}]), "one line"),
    "a version of another stream": Lied(
        instead(activations=[{"stream": OTHERS, "version": 1}]), "others, which was not declared"
    ),
    "files of no folder": Lied(instead(consumed=["a.json.gz"]), "a folder that is not there"),
    "a metadata column of any name": Lied(
        early(schema(revision=2, columns=[{"property": "x;y", "type": "long", "metadata": True}])),
        "no name of a metadata column",
        names="field x;y",
    ),
    # epochs
    "the second epoch first": Lied(instead(sequence=2), "2 follows"),
    "an epoch twice": Lied(
        early(put(), sealed(final=False), sealed(final=False)), "1 follows", kept=True
    ),
    "the last epoch too early": Lied(early(put(), sealed()), "the last one before"),
    "an epoch after the last": Lied(
        [*instead()[:-1], sealed(sequence=2, files=[], counts=[]), LATER],
        "after its last",
        kept=True,
    ),
    "complete, which nobody said": Lied(instead(complete=True), "called complete"),
    "too many epochs": Lied(
        early(*(sealed(sequence=n, final=False, files=[], counts=[]) for n in range(1, 400))),
        "nobody may send yet",
    ),
    # what it may not say
    "committed by itself": Lied(
        early(say(type="committed", input="0", sequence=1, epoch=1, tables=[])), "may not send"
    ),
    "opened by itself": Lied(
        early(say(type="opened", input="0", epoch=9, states=[], recovered=[])), "may not send"
    ),
    "close": Lied(early(say(type="closed")), "may not send"),
    "a plan of its own": Lied(
        early(
            say(
                type="stream_plan",
                input="0",
                stream=USERS,
                revision=1,
                table="x",
                schema_id=0,
                columns=[],
            )
        ),
        "may not send",
    ),
    "an order of the kernel": Lied(early(say(type="finish")), "unknown control message"),
    "another input": Lied(instead(input="1"), "another input"),
    # no events at all
    "no JSON": Lied(early("raw " + b"no JSON\n".hex()), "is not JSON"),
    "no object": Lied(early("say [1]"), "is not an object"),
    "no type": Lied(early("say {}"), "is not an object"),
    "an empty line": Lied(early("say "), "is not JSON"),
    "no UTF-8": Lied(early(raw(b'{"type":"sta\xff\xfe"}\n')), "is not JSON"),
    "NUL": Lied(early(raw(b"\0\0\0\n")), "is not JSON"),
    "half a surrogate": Lied(early('say {"type":"\\ud800"}'), "is not JSON"),
    "a line that never ends": Lied(early("fill x 40000000"), "longer than 8388608 bytes"),
    "a huge line": Lied(early("fill x 8400000", "say "), "longer than 8388608 bytes"),
    "too deep to read": Lied(early("say " + "[" * 100_000), "is not JSON"),
    "too deep to pass on": Lied(instead(x=json.loads("[" * 600 + "]" * 600)), "nested too deeply"),
    # its beginning and its end
    "another program": Lied([say(**{**HELLO, "program": "dativo-parquet"})], "answered"),
    "another protocol": Lied([say(**{**HELLO, "protocol": "9.0"})], "speaks protocol 9.0"),
    "gone before hello": Lied(["exit 0"], "dativo-writer ended", 1),
    "gone before it read": Lied([*BEGINNING, "exit 0"], "dativo-writer ended", 1),
    "gone before its last epoch": Lied([*BEGINNING, *READ, "exit 0"], "dativo-writer ended", 1),
    "killed": Lied([*BEGINNING, *READ, "kill 9"], "signal 9", 1),
    "it blames": Lied(
        early(say(type="error", code="internal.x", blame="dativo", message="\x1b[2Jno")),
        "internal.x",
        1,
        names="stdin",  # the reader's last words are about what it reads
    ),
}


@pytest.fixture
def target(workspace: Workspace) -> Target:
    found = Target(workspace, "parquet")
    found.configure()
    found.catalog(configured())
    return found


INPUT = lines(*(airbyte_record(each) for each in (1, 2, 3)), airbyte_state({"n": 3}))


def write(target: Target, acts: list[str]) -> Result:
    stand_in(target.workspace, "dativo-writer", acts)
    began = time.monotonic()
    result = target.write(INPUT)
    assert time.monotonic() - began < DEADLINE_S
    assert "Traceback" not in result.stderr and "\x1b" not in result.stderr
    return result


def committed(target: Target) -> list[int]:
    """The ids that are in the table; the next writer is the real one."""
    del target.workspace.env["DATIVO_BIN_DIR"]
    return target.ids()


def test_an_honest_one_is_believed(target: Target) -> None:
    result = write(target, instead())
    assert result.status == 0, result.stderr
    assert committed(target) == [1, 2, 3]


def test_what_it_says_of_tables_is_not_heard(target: Target) -> None:
    """Contracts and layouts are the job's: with these the first file would be refused, as it is of no partition."""
    layout = {"partition": [{"property": "id", "transform": "identity"}]}
    told = schema(layout=layout, contract={"schema": "freeze"})
    result = write(target, [say(**HELLO), "hear", told, "wait stream_plan", *instead()[4:]])
    assert result.status == 0, result.stderr
    assert committed(target) == [1, 2, 3]


# What the parser alone refuses is tested without processes too (tests/unit/protocol, tests/fuzz).
PARSED = {
    *("fewer than no rows", "true rows", "a part of a row", "too many rows", "half a hash", "an absolute path", "in a folder"),
    *("a name with NUL", "a name that commands", "a key of no text", "a type of its own", "a state of no kind", "NUL", "close"),
    *("a state of nobody", "no type", "an empty line", "half a surrogate", "a plan of its own", "opened by itself", "no object"),
    *("a byte more", "killed", "gone before hello", "another protocol", "a folder"),
}  # fmt: skip
assert set(LIES) >= PARSED
NAMED = [pytest.param(lie, marks=pytest.mark.nightly) if lie in PARSED else lie for lie in LIES]


@pytest.mark.parametrize("lie", NAMED)
def test_a_lie_ends_the_run(target: Target, lie: str) -> None:
    told = LIES[lie]
    result = write(target, told.acts)
    assert result.status == told.status, result.stderr
    assert told.message in result.stderr
    assert told.names in result.stderr
    # What was sealed in good order before it may have been committed, and nothing else.
    assert added(target) in ([[]], [], [[3]] if told.kept else [])
    assert not list(target.workspace.lake.glob("_dativo/staging/*"))


def added(target: Target) -> list[list[int]]:
    """The rows of each file of each entry of the log."""
    log = target.workspace.lake / "main/_dativo/pipe/log"
    entries = sorted(log.iterdir()) if log.is_dir() else []
    return [[file["rows"] for file in json.loads(entry.read_text())["added"]] for entry in entries]


def test_iceberg_is_as_wary(workspace: Workspace) -> None:
    target = Target(workspace, "iceberg")
    target.configure()
    target.catalog(configured())
    result = write(target, instead(put(OTHER)))
    assert result.status == 7 and "hashes to" in result.stderr, result.stderr
    assert committed(target) == []
    # It stands in nobody's way.
    assert target.write(INPUT).status == 0
    assert target.ids() == [1, 2, 3]


def test_a_file_that_is_swapped_after_it_was_told_of(target: Target) -> None:
    acts = [*BEGINNING, *READ, put(), put(OTHER, "b"), sealed()]
    swaps = [
        f"rename /staging/b /staging/{NAME}",
        "sleep 20",
        put(GOOD, "b"),
        f"rename /staging/b /staging/{NAME}",
    ]
    result = write(target, [*acts, *swaps, LATER])
    # Either the committer was first, or it saw another file.
    assert result.status == 0 or (result.status == 7 and "hashes to" in result.stderr), (
        result.stderr
    )
    assert committed(target) == ([1, 2, 3] if result.status == 0 else [])


def test_the_source_still_speaks_when_its_writer_ends(workspace: Workspace) -> None:
    """A run is not done because the writer says so."""
    stream = {"namespace": None, "name": "rows"}
    last = sealed(files=[staged(stream=stream)], counts=[count(stream=stream)], states=[])
    began = [say(**HELLO), "hear", schema(stream=stream, key=[]), "wait stream_plan", put()]
    stand_in(workspace, "dativo-writer", [*began, last, LATER])
    workspace.plugin(ROOT / "tests/plugins/bad", "bad")
    workspace.job(
        "pipeline: bad\n"
        "source: {connector: ./plugins/bad, config: {mode: never_ends}}\n"
        "target: {connector: parquet, config: {warehouse: ./lake, namespace: bad}}\n"
    )
    ran = workspace.run(timeout_s=DEADLINE_S)
    assert ran.status == 7, ran.stderr
    assert "the last one before the input was done" in ran.stderr
    assert ran.report["error"]["status"] == "PROTOCOL" and ran.report["epoch"] == 0


@pytest.mark.parametrize(
    ("acts", "message"),
    [
        (["sleep 600000"], "dativo-writer did not answer within 2 s"),
        (["hear", "sleep 600000"], "dativo-writer did not answer within 2 s"),
        ([say(**HELLO), "sleep 600000"], "dativo-writer has said nothing for 2 s"),
        ([*BEGINNING, *READ, "sleep 600000"], "did not finish within 2 s"),
        ([*BEGINNING, *READ, put(), sealed(), "sleep 600000"], None),
    ],
    ids=["at all", "after open", "after hello", "after the end", "after its last epoch"],
)
def test_silence(target: Target, acts: list[str], message: str | None) -> None:
    target.workspace.prefix = HURRIED
    result = write(target, acts)
    if message is None:  # its work is done, and it is ended
        assert result.status == 0, result.stderr
        target.workspace.prefix = ()
        assert committed(target) == [1, 2, 3]
    else:
        assert result.status == 1, result.stderr
        assert message in result.stderr
        assert added(target) == []


def test_what_it_leaves_in_its_staging_is_removed(target: Target) -> None:
    acts = [
        *("folder /staging/.x", "closed_folder /staging/.x/y", "fifo /staging/.x/z"),
        *("symlink /staging/etc /etc", "cd /staging", "deep 2000", "file own 00", "cd /"),
    ]
    result = write(target, [*BEGINNING, *acts, *READ, put(), sealed(), LATER])
    assert result.status == 0, result.stderr
    assert not list(target.workspace.lake.glob("_dativo/staging/*"))
    assert Path("/etc/passwd").exists()
    assert committed(target) == [1, 2, 3]


def test_what_it_can_still_do(target: Target) -> None:
    """The limits of proof, as docs/threat-model.md tells them: rows and states of its own."""
    own = state(
        text='{"type":"STREAM","stream":{"stream_descriptor":{"name":"users"},"stream_state":{"n":99}}}'
    )
    result = write(target, instead(put(OTHER), files=[staged(OTHER)], states=[own]))
    assert result.status == 0, result.stderr
    assert committed(target) == [7, 8, 9]
    shown = target.workspace.dativo("state", "show", "read.yaml", *target.workspace.flags)
    assert [json.loads(each["state"]) for each in json.loads(shown.stdout)["states"]] == [
        {**airbyte_state({"n": 99})["state"]}
    ]
