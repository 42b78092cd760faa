"""Play the kernel's part to the real dativo-inspector, with Parquet files made by another writer (pyarrow)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from tests.contract.played import Event as Event
from tests.contract.played import Fed
from tests.faults.committers import arrow_field

STREAM: Event = {"namespace": None, "name": "users"}
NAME = "000001-0000.parquet"
# What dativo's writer leaves out, and the inspector refuses.
SETTINGS: Event = {"compression": "zstd", "store_schema": False, "store_decimal_as_integer": True}


def column(name: str, kind: Any, field_id: int) -> Event:
    """Return a column of a plan."""
    return {
        "property": name,
        "column": name,
        "type": kind,
        "field_id": field_id,
        "required": False,
    }


def write(path: Path, columns: list[Event], rows: list[Event], **settings: Any) -> None:
    """Write ``rows`` as the plan ``columns`` says."""
    schema = pa.schema([arrow_field(each) for each in columns])
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, path, **{**SETTINGS, **settings})


def claimed(path: Path, rows: int, **more: Any) -> Event:
    """Return what an honest writer says of the file at ``path``."""
    data = path.read_bytes()
    return {
        "stream": STREAM,
        "revision": 1,
        "path": path.name,
        "rows": rows,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "version": None,
        **more,
    }


def opening(staging: Path) -> Event:
    """Return the ``open`` of an inspector."""
    return {"type": "open", "input": "0", "staging": str(staging)}


@dataclass
class Inspector(Fed):
    """One inspector process of the folder ``staging``; ``peak_bytes`` is of its memory."""

    program: ClassVar[str] = "dativo-inspector"

    sequence: int = field(default=0, init=False)

    def plan(
        self, columns: list[Event], *, revision: int = 1, stream: Event = STREAM, **layout: Any
    ) -> None:
        """Tell of a table; ``layout`` is its ``partition`` and ``sort``."""
        self.send(
            {
                "type": "stream_plan",
                "input": "0",
                "stream": stream,
                "revision": revision,
                "table": "t.users",
                "schema_id": 0,
                "columns": columns,
                **layout,
            }
        )

    def order(self, *files: Event) -> None:
        """Have ``files`` inspected."""
        self.sequence += 1
        event = {"type": "inspect", "input": "0", "sequence": self.sequence}
        self.send({**event, "files": list(files)})

    def answer_to(self, *files: Event) -> Event:
        """Have ``files`` inspected; return the last answer."""
        self.order(*files)
        answer: Event = {}
        for _ in files:
            answer = self.next() or {}
            if answer.get("type") != "inspected":
                break
        return answer


def bounds(told: Event) -> tuple[bytes | None, bytes | None]:
    """Return the bounds of one of ``inspected.columns``."""
    lower, upper = told["lower"], told["upper"]
    decoded = [None if bound is None else base64.b64decode(bound) for bound in (lower, upper)]
    return decoded[0], decoded[1]
