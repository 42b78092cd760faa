"""The benchmark's table and its verdict."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from bench import run
from bench.measure import Bar, table


def test_a_bar_is_met_up_to_itself() -> None:
    assert Bar("a", 10.0, "ms", 10.0).met
    assert not Bar("a", 10.001, "ms", 10.0).met
    assert Bar("information", 1e9, "MB").met


def test_the_table_tells_what_was_missed() -> None:
    shown = table(
        [Bar("start", 12.34, "ms", 15.0), Bar("rows", 1e6, ""), Bar("rss", 129, "MB", 128)]
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown.splitlines()]
    assert rows[0] == ["what", "measured", "bar", "met"]
    assert rows[2:] == [
        ["start", "12.3 ms", "≤ 15.0", "yes"],
        ["rows", "1,000,000", "", ""],
        ["rss", "129 MB", "≤ 128", "NO"],
    ]
    assert len({len(line) for line in shown.splitlines()}) == 1


def test_every_part_with_a_bar_is_measured() -> None:
    here = Path(run.__file__).parent
    parts = {path.stem for path in here.glob("*.py") if "def measure(" in path.read_text()}
    assert parts == {part.__name__.removeprefix("bench.") for part in run.PARTS}


@pytest.mark.parametrize(("value", "status"), [(1.0, 0), (2.0, 1)])
def test_the_status_tells_whether_every_bar_is_met(
    value: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part = SimpleNamespace(__name__="part", measure=lambda: [Bar("it", value, "s", 1.0)])
    monkeypatch.setattr(run, "PARTS", (part, part))
    assert run.main() == status
    told = capsys.readouterr()
    assert told.out.count("| it ") == 2
    assert ("not met: it" in told.err) == bool(status)
