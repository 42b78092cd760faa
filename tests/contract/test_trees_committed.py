"""Tables of any shape, through a real writer, inspector and committer, as DuckDB and Polars read them.

The kernel's relaying is played. Columns and fields have names of the committer's, so that values are compared by their place.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.contract.inspector_kernel import Inspector
from tests.contract.inspector_kernel import opening as opening_inspector
from tests.contract.writer_kernel import Event, Writer, opening
from tests.faults.committers import Committer, Warehouse, reader
from tests.integration import polars_reader
from tests.unit.native.trees import Tree, differences, read_json, streams

STREAMS = 8
NUMBER = "number of the row"


def output(name: str, tree: Tree, records: list[str]) -> bytes:
    """Return what a tap says; each record has its number first."""
    properties = {NUMBER: {"type": "integer"}, **tree.node["properties"]}
    schema = {**tree.node, "properties": properties}
    said = [json.dumps({"type": "SCHEMA", "stream": name, "schema": schema, "key_properties": []})]
    for number, record in enumerate(records):
        rest = "}" if record == "{}" else "," + record[1:]
        said.append(f'{{"type":"RECORD","stream":"{name}","record":{{"{NUMBER}":{number}{rest}}}')
    return "".join(line + "\n" for line in said).encode()


def commit(committer: Committer, data: bytes) -> dict[str, str]:
    """Have ``data`` written, inspected and committed; return the tables by stream."""
    plans: list[Event] = []

    def plan(schema: Event) -> Event:
        committer.send(**schema)
        plans.append(committer.receive())
        assert plans[-1]["type"] == "stream_plan", plans[-1]
        return plans[-1]

    open_ = opening("singer", committer.staging, [], undeclared="accept")
    with Writer(open_, plan=plan) as writer:
        writer.feed_all(iter([data]))
        writer.finish()
        sealed = writer.expect("sealed")
        with Inspector(opening_inspector(committer.staging)) as inspector:
            inspector.expect("hello")
            for told in plans:
                inspector.send(told)
            inspector.order(*sealed["files"])
            for _ in sealed["files"]:
                committer.send(**inspector.expect("inspected"))
        committer.send(**sealed, inspected=False)
        committed = committer.receive()
        assert committed["type"] == "committed", committed
        writer.send(committed)
        writer.drain()
    assert (writer.status, committer.close()) == (0, 0)
    return {told["stream"]["name"]: told["table"].rpartition(".")[2] for told in plans}


def named(got: Any, kind: Any) -> Any:
    """Return a value that was read with the names that its schema has; a map as its pairs."""
    if got is None or isinstance(kind, str):
        return got
    match kind:
        case ("struct", members):
            values = zip(members, got.values(), strict=True)
            return {name: named(value, of) for (name, of), value in values}
        case ("list", of):
            return [named(value, of) for value in got]
        case ("map", _, of):
            return [(key, named(value, of)) for key, value in got.items()]
    raise AssertionError(kind)


DUCKDB = functools.cache(reader)


def by_duckdb(warehouse: Warehouse, table: str) -> list[Any]:
    if warehouse.plugin == "iceberg":
        source = f"iceberg_scan('{warehouse.pointer(table)}')"
    else:
        source = f"read_parquet({[str(path) for path in warehouse.live_files(table)]})"
    return DUCKDB().execute(f"SET TimeZone = 'UTC'; FROM {source} ORDER BY 1").fetchall()


def by_polars(warehouse: Warehouse, table: str) -> list[Any]:
    if warehouse.plugin == "iceberg":
        frame = polars_reader.iceberg(warehouse.pointer(table).removeprefix("file://"))
    else:
        frame = polars_reader.files([str(path) for path in warehouse.live_files(table)])
    read = frame.collect()
    return read.sort(read.columns[0]).rows()


@pytest.mark.parametrize("plugin", ["iceberg", "parquet"])
# Each example starts processes for a second, so that none is made smaller: what differs is told with its place.
@settings(
    max_examples=50 if os.environ.get("DATIVO_NIGHTLY") else 2,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(st.data())
def test_any_tree_is_read_back(plugin: str, data: st.DataObject) -> None:
    trees = [data.draw(streams("double")) for _ in range(STREAMS)]
    records = [data.draw(st.lists(tree.texts, min_size=1, max_size=4)) for tree in trees]
    outputs = [
        output(f"t{number}", tree, lines)
        for number, (tree, lines) in enumerate(zip(trees, records, strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder:
        warehouse = Warehouse(Path(folder), plugin)
        try:
            tables = commit(warehouse.opened(), b"".join(outputs))
        finally:
            warehouse.end()
        for read in (by_duckdb, by_polars):
            for number, (tree, lines) in enumerate(zip(trees, records, strict=True)):
                rows = read(warehouse, tables[f"t{number}"])
                assert [row[0] for row in rows] == list(range(len(lines)))
                for row, line in zip(rows, lines, strict=True):
                    got = named(dict(enumerate(row[1:])), tree.kind)
                    assert differences(got, tree.meaning(read_json(line)), line) == []
