"""The peer of the benches of the writer: DuckDB's COPY of JSON lines or CSV to Parquet, in an environment of its own.

    duckdb_copy.py SOURCE DIALECT SCHEMA FOLDER THREADS GROUP_ROWS [--same-as FOLDER]

zstd level 1; row groups of GROUP_ROWS; statistics of row groups and nothing more; every column with the type that the writer
gives it. Prints one JSON object: CPU and wall time of the COPY alone (no import, no connection), peak RSS, rows, bytes.
``--same-as`` then compares all rows, whatever their order, with those of the Parquet files of another folder; it fails when they
differ.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import duckdb

PARQUET = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, WRITE_BLOOM_FILTER false"


def struct_type(properties: dict[str, Any]) -> str:
    """Return DuckDB's name of an object's type."""
    fields = ", ".join(f'"{name}" {column_type(node)}' for name, node in properties.items())
    return f"STRUCT({fields})"


def column_type(node: dict[str, Any]) -> str:
    """Return DuckDB's name of a node's type."""
    by_format = {"singer.decimal": "DECIMAL(38,9)", "date-time": "TIMESTAMPTZ"}
    by_type = {"string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}
    kind = next(name for name in node["type"] if name != "null")
    if kind == "object":
        return struct_type(node["properties"])
    if kind == "array":
        return column_type(node["items"]) + "[]"
    return by_format.get(node.get("format", ""), by_type[kind])


def query(source: str, dialect: str, schema: dict[str, Any]) -> str:
    """Return a SELECT of a stream's records out of their envelopes."""
    if dialect == "csv":
        types = {name: column_type(node) for name, node in schema["properties"].items()}
        columns = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())
        return f"SELECT * FROM read_csv('{source}', header = true, auto_detect = false, columns = {{{columns}}})"
    record = struct_type(schema["properties"])
    data = "record"
    if dialect == "airbyte":
        record, data = f"STRUCT(data {record})", "record.data"
    return (
        f"SELECT unnest({data}) FROM read_json('{source}', format = 'newline_delimited', "
        f"columns = {{type: 'VARCHAR', record: '{record}'}}) WHERE type = 'RECORD'"
    )


def digest(connection: duckdb.DuckDBPyConnection, folder: str) -> object:
    """Return the number of rows and a sum over their hashes."""
    rows = f"read_parquet('{folder}/*.parquet')"
    return connection.execute(f"SELECT count(*), sum(hash(t)::HUGEINT) FROM {rows} t").fetchone()


def main() -> None:
    """Copy, tell, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("dialect", choices=["singer", "airbyte", "csv"])
    parser.add_argument("schema")
    parser.add_argument("folder")
    parser.add_argument("threads", type=int)
    parser.add_argument("group_rows", type=int)
    parser.add_argument("--same-as")
    options = parser.parse_args()
    schema = json.loads(Path(options.schema).read_text())
    target = Path(options.folder, "duckdb.parquet")
    connection = duckdb.connect()
    connection.execute(f"SET threads = {options.threads}")
    rows = query(options.source, options.dialect, schema)
    copy = f"COPY ({rows}) TO '{target}' ({PARQUET}, ROW_GROUP_SIZE {options.group_rows})"
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    done = connection.execute(copy).fetchone()
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    assert done is not None
    told = {
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "rows": done[0],
        "bytes": target.stat().st_size,
    }
    if options.same_as is not None:
        ours, theirs = digest(connection, options.same_as), digest(connection, options.folder)
        if ours != theirs:
            raise SystemExit(f"not the same rows: writer {ours}, DuckDB {theirs}")
    print(json.dumps(told))


main()
