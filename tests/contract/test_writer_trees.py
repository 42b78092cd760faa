"""Whatever a schema's tree, what the real writer puts into Parquet equals an independent reading of the same messages.

Pipes are cut anywhere, epochs and row groups too; many more trees are read in process (tests/unit/native/test_trees.py).
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.writer_kernel import opening, play, stream
from tests.unit.native.trees import (
    SPACE,
    Numbers,
    Tree,
    differences,
    kind_of,
    read_json,
    stored,
    streams,
)

NUMBERS: st.SearchStrategy[Numbers] = st.sampled_from(["double", "decimal", "text"])


def message(draw: st.DrawFn, dialect: str, record: str) -> str:
    """Wrap a record; its place in the message, and what else stands there, is drawn."""
    if dialect == "airbyte":
        parts = ['"stream":"s"', f'"data":{draw(SPACE)}{record}', '"emitted_at":1']
        inner = "{" + ",".join(draw(st.permutations(parts))) + "}"
        parts = ['"type":"RECORD"', f'"record":{inner}']
    else:
        parts = ['"type":"RECORD"', '"stream":"s"', f'"record":{draw(SPACE)}{record}', '"x":[{}]']
    return "{" + f",{draw(SPACE)}".join(draw(st.permutations(parts))) + "}"


@st.composite
def outputs(draw: st.DrawFn, tree: Tree, dialect: str) -> tuple[list[str], list[bytes]]:
    """Draw records, and the chunks in which a source writes them, states between them."""
    records = draw(st.lists(tree.texts, min_size=1, max_size=6))
    lines = []
    if dialect == "singer":
        said = {"type": "SCHEMA", "stream": "s", "schema": tree.node, "key_properties": []}
        lines.append(json.dumps(said))
    for number, record in enumerate(records):
        lines.append(message(draw, dialect, record))
        if draw(st.booleans()):
            lines.append(state(dialect, number))
    data = "".join(line + "\n" for line in lines).encode()
    cuts = sorted(draw(st.sets(st.integers(1, len(data)), max_size=6)))
    return records, [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def state(dialect: str, number: int) -> str:
    if dialect == "singer":
        return json.dumps({"type": "STATE", "value": number + 1})
    of = {"stream_descriptor": {"name": "s"}, "stream_state": {"n": number}}
    return json.dumps({"type": "STATE", "state": {"type": "STREAM", "stream": of}})


@settings(max_examples=1000 if os.environ.get("DATIVO_NIGHTLY") else 60)
@given(st.data(), st.sampled_from(["airbyte", "singer"]), NUMBERS)
def test_any_tree_is_written_as_json_reads_it(
    data: st.DataObject, dialect: str, numbers: Numbers
) -> None:
    tree = data.draw(streams(numbers))
    records, chunks = data.draw(outputs(tree, dialect))
    rows = data.draw(st.integers(1, 4))
    with tempfile.TemporaryDirectory() as folder:
        staging = Path(folder)
        entry = stream("s", tree.node if dialect == "airbyte" else None)
        open_ = opening(dialect, staging, [entry], epoch={"max_rows": rows})
        writer = play({**open_, "numbers": numbers}, *chunks)
        assert (writer.status, writer.of("error")) == (0, [])
        tables = [pq.read_table(staging / file["path"]) for file in writer.files("s")]
    found = []
    for table in tables:
        table.validate(full=True)
        kind = "struct", tuple((f.name, kind_of(f.type)) for f in table.schema)
        assert kind == stored(tree.kind)
        found += table.to_pylist()
    assert len(found) == len(records)
    for row, record in zip(found, records, strict=True):
        assert differences(row, tree.meaning(read_json(record)), record) == []
