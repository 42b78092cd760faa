"""The benchmark's table and its verdict."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from bench import many_streams, run
from bench.measure import Bar, command, table
from bench.streams import shuffle


def test_a_bar_is_met_up_to_itself() -> None:
    assert Bar("a", 10.0, "ms", 10.0).met
    assert not Bar("a", 10.001, "ms", 10.0).met
    assert Bar("information", 1e9, "MB").met
    assert Bar("a", 10.0, "×", 10.0, least=True).met
    assert not Bar("a", 9.999, "×", 10.0, least=True).met


def test_the_table_tells_what_was_missed() -> None:
    shown = table(
        [
            Bar("start", 12.34, "ms", 15.0),
            Bar("rows", 1e6, ""),
            Bar("rss", 129, "MB", 128),
            Bar("speed", 71.0, "×", 70.0, least=True),
        ]
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown.splitlines()]
    assert rows[0] == ["what", "measured", "bar", "met"]
    assert rows[2:] == [
        ["start", "12.3 ms", "≤ 15.0", "yes"],
        ["rows", "1,000,000", "", ""],
        ["rss", "129 MB", "≤ 128", "NO"],
        ["speed", "71.0 ×", "≥ 70.0", "yes"],
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


def test_a_command_reads_what_it_is_given(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_text("a\nb\n")
    assert command(["cat"], stdin=given).stdout == "a\nb\n"
    assert command(["cat"]).stdout == ""


RECORD = rb'{"type":"RECORD","stream":"orders","record":{"a":%d,"b":"x,\"y\":1","c":null,"d":1.50},"time_extracted":"t"}'


def test_shuffled_records_are_the_same_but_for_the_order_of_their_keys() -> None:
    lines = [
        b'{"type":"SCHEMA","stream":"orders","schema":{}}\n',
        *(RECORD % number + b"\n" for number in range(50)),
        b'{"type":"STATE","value":{"a":{"b":1}}}\n',
    ]
    shuffled = list(shuffle(iter(lines)))
    assert shuffled == list(shuffle(iter(lines)))
    assert [line for line in shuffled if b"RECORD" not in line] == [lines[0], lines[-1]]
    assert [sorted(line) for line in shuffled] == [sorted(line) for line in lines]
    assert list(map(json.loads, shuffled)) == list(map(json.loads, lines))
    assert len({line.find(b'"a":') for line in shuffled[1:-1]}) > 2
    assert b'"d":1.50' in shuffled[1]


def test_a_record_that_is_not_flat_is_not_shuffled_wrongly() -> None:
    with pytest.raises(ValueError, match="not a flat record"):
        list(shuffle(iter([RECORD.replace(b"null", b"[1, 2]") % 1])))


def test_rows_are_dealt_out_in_turn() -> None:
    lines = [b'{"type":"SCHEMA","stream":"orders"}\n', *(RECORD % n + b"\n" for n in range(5))]
    block, schemas = many_streams.deal(iter([*lines, many_streams.STATE]), 2)
    assert [json.loads(line)["stream"] for line in schemas.splitlines()] == ["s000", "s001"]
    rows = [json.loads(line) for line in block.splitlines()]
    assert [row["stream"] for row in rows] == ["s000", "s001", "s000", "s001", "s000"]
    assert [row["record"]["a"] for row in rows] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("group", "met"),
    [
        ((122_880, 1, False), True),
        ((1, 16 << 20, False), True),
        ((1, 1, True), True),
        ((122_879, (16 << 20) - 1, False), False),
    ],
)
def test_a_row_group_is_full_by_rows_by_bytes_or_as_all_of_its_stream(
    group: tuple[int, int, bool], met: bool
) -> None:
    assert many_streams.fullness("it", [group]).met == met
