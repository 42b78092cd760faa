from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.committers import Warehouse


@pytest.fixture(params=["iceberg", "parquet"])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Warehouse]:
    root = tmp_path / "lake"
    root.mkdir()
    warehouse = Warehouse(root, request.param)
    yield warehouse
    warehouse.end()
