"""The real inspector holds the partition and the order that a file is said to have against its rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.inspector_kernel import NAME, Inspector, claimed, column, opening, write

COLUMNS = [column("id", "long", 1), column("name", "string", 2)]
PARTITION = [
    {"field_id": 1, "transform": "truncate[10]"},
    {"field_id": 2, "transform": "bucket[1]"},
    {"field_id": 9, "transform": "day"},
]
SORT = [{"field_id": 1, "descending": True, "nulls_first": False}]
# Two rows to a row group.
IDS = [19, 17, 17, 10]


@pytest.fixture
def inspector(tmp_path: Path) -> Iterator[Inspector]:
    with Inspector(opening(tmp_path)) as inspector:
        inspector.expect("hello")
        inspector.plan(COLUMNS, partition=PARTITION, sort=SORT)
        yield inspector


def answer(inspector: Inspector, ids: list[int], **said: Any) -> Any:
    path = Path(inspector.open_["staging"]) / NAME
    rows = [{"id": number, "name": f"n{number}"} for number in ids]
    write(path, COLUMNS, rows, row_group_size=2)
    return inspector.answer_to(claimed(path, len(ids), **said))


def test_a_file_that_is_laid_out_as_it_is_said(inspector: Inspector) -> None:
    told = answer(inspector, IDS, partition=[10, 0, None])
    assert told["type"] == "inspected" and told["rows"] == len(IDS)


LIES: dict[str, tuple[list[int], dict[str, Any], str]] = {
    "another partition": (IDS, {"partition": [0, 0, None]}, "another partition"),
    "a row of another": ([*IDS, 9], {"partition": [10, 0, None]}, "another partition"),
    "no bucket": (IDS, {"partition": [10, 1, None]}, "another partition"),
    "a value of no column": (IDS, {"partition": [10, 0, 1]}, "does not have"),
    "another type": (IDS, {"partition": ["10", 0, None]}, "another type"),
    "too few values": (IDS, {"partition": [10, 0]}, "2 values, its table has 3"),
    "no partition": (IDS, {}, "0 values, its table has 3"),
    "not sorted": ([17, 19, 17, 10], {"partition": [10, 0, None]}, "not sorted"),
    "groups in disorder": ([17, 16, 19, 10], {"partition": [10, 0, None]}, "not sorted"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_is_not(inspector: Inspector, lie: str) -> None:
    ids, said, message = LIES[lie]
    error = answer(inspector, ids, **said)
    assert error["type"] == "error", error
    assert error["code"] == "protocol.staged_file" and message in error["message"]
    inspector.drain()
    assert inspector.status == 7
