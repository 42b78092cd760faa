"""What may be a value of a file's partition, by transform and type."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from dativo.plugins.commit.faults import CommitFault
from dativo.plugins.commit.layouts import Layout, PartitionField, Placement
from dativo.plugins.commit.partitions import fits, partition_from, placed

FITS: list[tuple[str, str, list[Any], list[Any]]] = [
    ("identity", "boolean", [True, False], [0, 1, "true"]),
    ("identity", "int", [-(2**31), 2**31 - 1], [2**31, -(2**31) - 1, True, "1"]),
    ("identity", "long", [-(2**63), 2**63 - 1], [False, "1"]),
    ("identity", "date", [-719_162, 0], [2**31, "2026-01-01"]),
    ("identity", "time", [0, 86_399_999_999], [-1, 86_400_000_000]),
    ("identity", "timestamp", [-1, 2**62], [True, "0"]),
    ("identity", "string", ["", "x" * 256, "ü" * 128], ["x" * 257, "ü" * 129, "\ud800", 1]),
    (
        "identity",
        "binary",
        ["", "AA==", base64.b64encode(bytes(256)).decode()],
        ["AA", "A===", "AB==", "AA==\n", base64.b64encode(bytes(257)).decode(), 0],
    ),
    (
        "identity",
        "decimal(9,2)",
        ["0", "-999999999", "999999999"],
        ["-0", "01", "1.5", "1e3", "", "٣", 5, "1000000000", "-1000000000"],
    ),
    ("identity", "decimal(38,0)", ["9" * 38, "-" + "9" * 38], ["1" + "0" * 38]),
    ("truncate[10]", "decimal(3,0)", ["-990"], ["-1000"]),
    ("truncate[3]", "string", ["abc"], [3]),
    ("bucket[16]", "string", [0, 15], [16, -1, "1", True]),
    ("bucket[2147483647]", "long", [2**31 - 2], [2**31 - 1]),
    ("year", "date", [-1969, 8029], ["2026", 2**31]),
    ("hour", "timestamptz", [-(2**31)], [-(2**31) - 1]),
]


@pytest.mark.parametrize(("transform", "of", "good", "bad"), FITS)
def test_values_that_fit(transform: str, of: str, good: list[Any], bad: list[Any]) -> None:
    assert fits(None, transform, of)
    assert [value for value in good if not fits(value, transform, of)] == []
    assert [value for value in bad if fits(value, transform, of)] == []


@pytest.mark.parametrize("value", [[], "x", {}, [1.5], [[1]], [2**63], ["x" * 345], [1] * 17])
def test_what_is_no_partition(value: Any) -> None:
    with pytest.raises(CommitFault) as caught:
        partition_from(value)
    assert caught.value.code.startswith("protocol.")


def test_a_file_is_placed_by_the_table() -> None:
    layout = Layout((PartitionField(3, "day"), PartitionField(1, "identity")), spec_id=2)
    assert placed(layout, ("date", "string"), (5, None), "a") == Placement((5, None), 2)
    for wrong in (None, (5,), (5, "a", "b"), (5, 5), ("5", "a")):
        with pytest.raises(CommitFault) as caught:
            placed(layout, ("date", "string"), wrong, "a.parquet")
        assert caught.value.code == "protocol.staged_file"
        assert "a.parquet" in caught.value.message


@pytest.mark.parametrize(
    "placement", [Placement(), Placement(spec_id=3), Placement((None, 1, True, "é"), 1, 4)]
)
def test_kept_placements_are_read_back(placement: Placement) -> None:
    assert Placement.from_record(placement.to_record()) == placement


def test_files_of_older_versions_have_no_placement() -> None:
    assert Placement.from_record({"path": "x", "rows": 1}) == Placement()
    assert Placement().to_record() == {}
