"""What a foreign target is told and who it becomes; who held a run up."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dativo.kernel import foreign, report
from dativo.kernel.passage import passed_streams
from dativo.kernel.report import ProcessReport
from dativo.kernel.tally import Tally
from dativo.kernel.warehouse import WAREHOUSE_UID
from dativo.protocol import events
from dativo.protocol.catalog import from_airbyte, from_singer, select
from dativo.protocol.errors import ConfigError
from dativo.protocol.state import Stream

AIRBYTE = json.dumps(
    {
        "streams": [
            {
                "name": name,
                "namespace": namespace,
                "json_schema": {
                    "properties": {"id": {"type": "integer"}, "ssn": {"type": "string"}}
                },
                "supported_sync_modes": ["full_refresh", "incremental"],
                "source_defined_primary_key": [["id"]],
                "default_cursor_field": ["id"],
            }
            for namespace, name in ((None, "users"), ("a", "users"), ("a-b", "c"), ("a", "b-c"))
        ]
    }
)
SINGER = json.dumps(
    {
        "streams": [
            {
                "tap_stream_id": "main-users",
                "stream": "users",
                "key_properties": ["id"],
                "schema": {"properties": {"id": {"type": "integer"}, "ssn": {"type": "string"}}},
                "replication_key": "id",
                "replication_method": "INCREMENTAL",
            }
        ]
    }
)


def configured(text: str) -> list[dict[str, Any]]:
    streams: list[dict[str, Any]] = json.loads(text)["streams"]
    return streams


@pytest.mark.parametrize("text", [AIRBYTE, SINGER])
def test_a_destination_appends_and_truncates_nothing(text: str) -> None:
    catalog = from_airbyte(text) if text is AIRBYTE else from_singer(text)
    chosen = select(catalog, ["users", "!users.ssn"])
    [stream] = configured(foreign.destination_catalog(chosen, sync_id=17))
    assert stream["stream"]["name"] == "users"
    assert "ssn" not in stream["stream"]["json_schema"]["properties"]
    assert (stream["sync_mode"], stream["destination_sync_mode"]) == ("incremental", "append")
    assert (stream["generation_id"], stream["minimum_generation_id"]) == (1, 0)
    assert (stream["sync_id"], stream["primary_key"], stream["cursor_field"]) == (
        17,
        [["id"]],
        ["id"],
    )


def test_streams_have_names_of_their_own_in_a_singer_output() -> None:
    catalog = from_airbyte(AIRBYTE)
    passed = list(passed_streams(catalog, catalog, "singer"))
    assert [entry.name for entry in passed] == ["users", "a-users", "a-b-c", "a-b-c-2"]
    assert all(entry.schema is not None and entry.key == ("id",) for entry in passed)


def test_deselected_fields_are_dropped_on_the_way() -> None:
    catalog = from_singer(SINGER)
    [entry] = passed_streams(catalog, select(catalog, ["!users.ssn"]), "airbyte")
    assert (entry.stream, entry.drop, entry.schema) == (Stream("", "users"), ("ssn",), None)


def test_a_folder_to_write_is_made_and_goes_if_nothing_came_of_it(tmp_path: Path) -> None:
    used, unused, there = tmp_path / "used", tmp_path / "un/used", tmp_path / "there"
    there.mkdir()
    if os.geteuid() == 0:
        os.chown(there, WAREHOUSE_UID, WAREHOUSE_UID)
    with foreign.writing_identity((used, unused, there)) as identity:
        assert used.is_dir() and unused.is_dir()
        assert (identity is None) == (os.geteuid() != 0)
        if identity is not None:
            assert {used.stat().st_uid, unused.stat().st_uid} == {identity.uid} != {0}
        (used / "rows.jsonl").write_text("")
    assert used.is_dir() and there.is_dir() and not unused.exists()


def test_what_root_owns_or_several_own_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("as a plain user everything runs as that user")
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for name in ("file", "folder"):
        with (
            pytest.raises(ConfigError, match="belongs to root"),
            foreign.writing_identity((tmp_path / name,)),
        ):
            raise AssertionError("it was let in")
    os.chown(tmp_path / "file", 1000, 1000)
    os.chown(tmp_path / "folder", 1001, 1001)
    with (
        pytest.raises(ConfigError, match="several owners"),
        foreign.writing_identity((tmp_path / "file", tmp_path / "folder")),
    ):
        raise AssertionError("it was let in")


@pytest.mark.parametrize(
    ("waited_s", "blocked_s", "cpu_s", "slowest"),
    [(2.0, 1.0, 0.5, "source"), (1.0, 2.0, 0.5, "target"), (0.1, 0.2, 3.0, "relay")],
)
def test_who_was_waited_for_most(
    waited_s: float, blocked_s: float, cpu_s: float, slowest: str
) -> None:
    processes = [
        ProcessReport("acks", "exit 0", None, 9.0, ()),
        ProcessReport("relay", "exit 0", None, cpu_s, ()),
    ]
    assert report.slowest(waited_s, blocked_s, processes) == slowest


def test_a_report_of_a_foreign_target() -> None:
    tally = Tally(acknowledged=3)
    tally.passed = (events.Counts(Stream("", "users"), 10, 8, 0, 2),)
    tally.stats = events.Stats(
        "0", 1000, 12, 0, 0.0, 0.3, 0, True, (), waited_s=12.1, oddities=(("blank_line", 2),)
    )
    told = report.Course("r1", "shop", "singer:tap-x==1", "singer:target-y==2", tally=tally).report(
        None
    )
    assert [(s.stream, s.read, s.written, s.filtered) for s in told.streams] == [
        ("users", 10, 8, 2)
    ]
    assert json.loads(told.to_json())["oddities"] == {"blank_line": 2}
    text = report.render(told, reader=None)
    assert "acknowledged by the target: 3 states; kept: 0 states" in text
    assert "waited 12.1 s for the source, 0.3 s for the target; slowest: source" in text
    assert "tolerated: blank_line 2" in text
    assert "committed" not in text
