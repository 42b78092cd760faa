"""A writer in the wrong hands says of which partition a file is, and how it is sorted: what is not so ends the run."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.conftest import Workspace
from tests.integration.standalone_target import Target, configured
from tests.integration.test_lying_writer import (
    added,
    committed,
    instead,
    parquet,
    put,
    staged,
    write,
)

LAYOUT = {
    "users": {"partition_by": ["truncate(10, id)", "bucket(1, name)"], "sort_by": ["id desc"]}
}

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def target(workspace: Workspace, request: pytest.FixtureRequest) -> Target:
    found = Target(workspace, getattr(request, "param", "parquet"))
    found.configure(layout=LAYOUT)
    found.catalog(configured())
    return found


def sent(*ids: int, partition: Any, **settings: Any) -> list[str]:
    content = parquet(*ids, **settings)
    said = {} if partition is None else {"partition": partition}
    return instead(put(content), files=[staged(content, **said)])


@pytest.mark.parametrize("target", ["parquet", "iceberg"], indirect=True)
def test_an_honest_one_is_believed(target: Target) -> None:
    result = write(target, sent(13, 12, 11, partition=[10, 0], row_group_size=2))
    assert result.status == 0, result.stderr
    assert sorted(committed(target)) == [11, 12, 13]


LIES: dict[str, list[str]] = {
    "another partition": sent(13, 12, 11, partition=[0, 0]),
    "another bucket": sent(13, 12, 11, partition=[10, 1]),
    "no partition": sent(13, 12, 11, partition=None),
    "half a partition": sent(13, 12, 11, partition=[10]),
    "more than a partition": sent(13, 12, 11, partition=[10, 0, 0]),
    "of null": sent(13, 12, 11, partition=[None, 0]),
    "of a text": sent(13, 12, 11, partition=["10", 0]),
    "of a truth": sent(13, 12, 11, partition=[10, False]),
    "of what no column holds": sent(13, 12, 11, partition=[2**63 - 1, 2**40]),
    "a row of another partition": sent(20, 12, 11, partition=[10, 0]),
    "a row of another partition behind": sent(12, 11, 9, partition=[10, 0], row_group_size=1),
    "not sorted": sent(12, 13, 11, partition=[10, 0]),
    "sorted the other way": sent(11, 12, 13, partition=[10, 0]),
    "not sorted from group to group": sent(12, 11, 13, partition=[10, 0], row_group_size=2),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_ends_the_run(target: Target, lie: str) -> None:
    result = write(target, LIES[lie])
    assert result.status == 7, result.stderr
    assert "000001-0000.parquet" in result.stderr
    assert added(target) in ([[]], [])


def test_a_partition_of_a_table_without_any(target: Target) -> None:
    target.configure()
    result = write(target, sent(1, 2, 3, partition=[0]))
    assert result.status == 7, result.stderr
    assert added(target) in ([[]], [])
