"""The real inspector: what it finds in honest files, and what it refuses of others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.contract.inspector_kernel import (
    NAME,
    STREAM,
    Inspector,
    bounds,
    claimed,
    column,
    opening,
    write,
)
from tests.faults.committers import arrow_field

COLUMNS = [column("id", "long", 1), column("name", "string", 2)]
ROWS: list[dict[str, Any]] = [
    {"id": 1, "name": "Ann"},
    {"id": 7, "name": None},
    {"id": 3, "name": "Zoë"},
]
MEMORY_BYTES = 256 << 20


@pytest.fixture
def inspector(tmp_path: Path) -> Iterator[Inspector]:
    staging = tmp_path / "staging"
    staging.mkdir()
    with Inspector(opening(staging)) as inspector:
        inspector.expect("hello")
        yield inspector


@pytest.fixture
def staged(inspector: Inspector) -> Path:
    """An honest file, whose plan the inspector knows."""
    path = Path(inspector.open_["staging"]) / NAME
    write(path, COLUMNS, ROWS)
    inspector.plan(COLUMNS)
    return path


def refused(inspector: Inspector, *files: Any) -> Any:
    """Have ``files`` inspected, of which the last is not what it should be."""
    error = inspector.answer_to(*files)
    assert error["type"] == "error", error
    inspector.drain()
    assert inspector.status == 7, error
    assert error["code"] == "protocol.staged_file" and error["blame"] == "dativo"
    assert error["stream"] == STREAM and error["value"] == NAME
    return error


def test_it_tells_what_a_file_holds(inspector: Inspector, staged: Path) -> None:
    file = claimed(staged, 3)
    told = inspector.answer_to(file)
    assert {key: told[key] for key in ("sequence", "path", "rows", "bytes", "sha256")} == {
        **{key: file[key] for key in ("path", "rows", "bytes", "sha256")},
        "sequence": 1,
    }
    first, second = told["columns"]
    assert (first["field_id"], first["values"], first["nulls"], first["nans"]) == (1, 3, 0, None)
    assert bounds(first) == ((1).to_bytes(8, "little"), (7).to_bytes(8, "little"))
    assert (second["field_id"], second["values"], second["nulls"]) == (2, 3, 1)
    assert bounds(second) == (b"Ann", "Zoë".encode())
    metadata = pq.read_metadata(staged)
    sizes = [metadata.row_group(0).column(n).total_compressed_size for n in (0, 1)]
    assert [first["bytes"], second["bytes"]] == sizes
    inspector.send({"type": "close"})
    inspector.drain()
    assert inspector.status == 0


def test_epochs_follow_one_another(inspector: Inspector, staged: Path) -> None:
    other = staged.with_name("000002-0000.parquet")
    changed = [*COLUMNS, column("more", "date", 3)]
    write(other, changed, [])
    inspector.order()
    assert inspector.answer_to(claimed(staged, 3))["sequence"] == 2
    inspector.plan(changed, revision=2)
    told = inspector.answer_to(claimed(staged, 3), claimed(other, 0, revision=2))
    assert told["path"] == other.name and told["rows"] == 0
    assert [(each["values"], each["lower"]) for each in told["columns"]] == [(0, None)] * 3
    # Files of an older revision come no more.
    error = inspector.answer_to(claimed(staged, 3))
    assert error["code"] == "protocol.unplanned"


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "more rows": ({"rows": 4}, "has 3 rows, the manifest says 4"),
    "fewer rows": ({"rows": 2}, "has 3 rows, the manifest says 2"),
    "no rows": ({"rows": 0}, "has 3 rows"),
    "another hash": ({"sha256": "0" * 64}, "hashes to"),
    "a byte more": ({"bytes": 10_000}, "the manifest says 10000"),
    "a few bytes": ({"bytes": 3}, "the manifest says 3"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_claim_that_is_not_so(inspector: Inspector, staged: Path, lie: str) -> None:
    changes, message = LIES[lie]
    error = refused(inspector, claimed(staged, 3) | changes)
    assert message in error["message"] and NAME in error["message"]


def test_a_name_that_leads_elsewhere(inspector: Inspector, staged: Path) -> None:
    for name in ("../staging/" + NAME, "/etc/passwd", "A.parquet", ".parquet", "a/b.parquet"):
        file = claimed(staged, 3) | {"path": name}
        with Inspector(inspector.open_) as another:
            another.plan(COLUMNS)
            another.expect("hello")
            assert "no name of a staged file" in another.answer_to(file)["message"]


def test_what_is_no_file_of_its_own(inspector: Inspector, staged: Path) -> None:
    file = claimed(staged, 3)
    elsewhere = staged.with_name("elsewhere")

    def symlink() -> None:
        staged.rename(elsewhere)
        staged.symlink_to(elsewhere)

    def link() -> None:
        os.link(staged, elsewhere)

    def fifo() -> None:
        staged.unlink()
        os.mkfifo(staged)

    def folder() -> None:
        staged.unlink()
        staged.mkdir()

    acts = [
        ("cannot be opened", symlink),
        ("has 2 links", link),
        ("is not a regular file", fifo),
        ("is not a regular file", folder),
        ("cannot be opened", staged.unlink),
    ]
    for message, act in acts:
        act()
        with Inspector(inspector.open_) as another:
            another.plan(COLUMNS)
            another.expect("hello")
            assert message in refused(another, file)["message"]
        if staged.is_dir():
            staged.rmdir()
        staged.unlink(missing_ok=True)
        elsewhere.unlink(missing_ok=True)
        write(staged, COLUMNS, ROWS)
        file = claimed(staged, 3)


WRITTEN: dict[str, tuple[list[Any], dict[str, Any], str, str | None]] = {
    "another type": ([column("id", "double", 1), COLUMNS[1]], {}, "not stored as", "id"),
    "another id": ([column("id", "long", 9), COLUMNS[1]], {}, "field id 9", "id"),
    "another name": ([column("ID", "long", 1), COLUMNS[1]], {}, "not named", "ID"),
    "a column more": ([*COLUMNS, column("x", "long", 3)], {}, "3 columns", None),
    "a column less": (COLUMNS[:1], {}, "1 columns", None),
    "a codec of others": (COLUMNS, {"compression": "snappy"}, "codec 1", "id"),
    "a schema of Arrow": (COLUMNS, {"store_schema": True}, "key-value metadata", None),
    "an encoding of others": (
        COLUMNS,
        {"use_dictionary": False, "column_encoding": "DELTA_BINARY_PACKED"},
        "encoding",
        "id",
    ),
}


@pytest.mark.parametrize("what", WRITTEN)
def test_a_file_that_was_not_planned(inspector: Inspector, staged: Path, what: str) -> None:
    columns, settings, message, named = WRITTEN[what]
    if "column_encoding" in settings:
        columns = columns[:1]
        inspector.plan(columns, revision=2)
    write(staged, columns, ROWS, **settings)
    revision = 2 if "column_encoding" in settings else 1
    error = refused(inspector, claimed(staged, 3, revision=revision))
    assert message in error["message"], error
    assert error.get("field") == named


def test_a_file_without_a_plan(inspector: Inspector, staged: Path) -> None:
    error = inspector.answer_to(claimed(staged, 3, revision=2))
    assert error["code"] == "protocol.unplanned" and "no plan" in error["message"]


def test_bytes_that_changed_since_they_were_told_of(inspector: Inspector, staged: Path) -> None:
    file = claimed(staged, 3)
    write(staged, COLUMNS, [{"id": 1, "name": "Amy"}, *ROWS[1:]])
    assert staged.stat().st_size == file["bytes"]
    assert "hashes to" in refused(inspector, file)["message"]


def test_many_columns_are_measured_as_far_as_iceberg_does(inspector: Inspector) -> None:
    columns = [column(f"c{n}", "long", n + 1) for n in range(150)]
    path = Path(inspector.open_["staging"]) / NAME
    write(path, columns, [{f"c{n}": n for n in range(150)}])
    inspector.plan(columns)
    told = inspector.answer_to(claimed(path, 1))
    assert [each["field_id"] for each in told["columns"]] == list(range(1, 101))


def test_a_big_file_takes_little_memory(inspector: Inspector) -> None:
    columns = [column("n", "long", 1), column("text", "string", 2)]
    path = Path(inspector.open_["staging"]) / NAME
    rows = 400_000
    texts = [os.urandom(24).hex() for _ in range(rows)]
    schema = pa.schema([arrow_field(each) for each in columns])
    table = pa.table([pa.array(range(rows)), pa.array(texts)], schema=schema)
    pq.write_table(table, path, compression="zstd", store_schema=False, use_dictionary=False)
    inspector.plan(columns)
    told = inspector.answer_to(claimed(path, rows))
    assert [each["values"] for each in told["columns"]] == [rows, rows]
    assert inspector.peak_bytes < 48 << 20


# --- what others found in other readers: apache/parquet-testing, bad_data -------------------------------------------------


def bad_files() -> list[Path]:
    corpora = os.environ.get("DATIVO_CORPORA")
    folder = Path(corpora) / "parquet-bad" if corpora else None
    return sorted(folder.glob("*.parquet")) if folder else []


@pytest.mark.skipif(not bad_files(), reason="DATIVO_CORPORA holds no parquet-bad")
@pytest.mark.parametrize("path", bad_files(), ids=lambda path: path.name)
def test_a_bad_file_is_an_error(inspector: Inspector, path: Path) -> None:
    staged = Path(inspector.open_["staging"]) / NAME
    shutil.copy(path, staged)
    inspector.plan([column("a", "long", 1)])
    error = refused(inspector, claimed(staged, 1))
    assert inspector.peak_bytes < MEMORY_BYTES
    assert len(error["message"]) < 1000
