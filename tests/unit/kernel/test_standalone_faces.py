"""The two faces of the standalone targets: states in their order, statuses, configured catalogues, messages of the protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dativo.kernel import standalone_airbyte, standalone_singer, target_config
from dativo.kernel.limits import ReadLimits
from dativo.kernel.standalone_airbyte import States, Statuses
from dativo.protocol import events
from dativo.protocol.errors import ConfigError, Conflict, LimitExceeded
from dativo.protocol.state import Stream

USERS, ORDERS = Stream("", "users"), Stream("shop", "orders")


def sealed(*echo: tuple[int, str]) -> events.Sealed:
    return events.Sealed(
        "0", 1, False, (), (), (), echo=tuple(events.Echo(number, text) for number, text in echo)
    )


def status(stream: Stream, said: str) -> events.SourceMessage:
    text = json.dumps({"stream_descriptor": stream.to_event(), "status": said})
    return events.SourceMessage("0", "trace_status", "INFO", text, 1, 0)


# --- states ----------------------------------------------------------------------------------------------------------------


def test_singer_prints_the_newest_state_of_an_epoch_as_it_was_written() -> None:
    assert standalone_singer.states(sealed((1, '{"a": 1.0}'), (2, '{"a":  2e0}'))) == (
        '{"a":  2e0}',
    )
    assert standalone_singer.states(sealed()) == ()


def test_airbyte_echoes_every_state_in_the_order_of_the_input() -> None:
    states = States()
    assert list(states(sealed((1, '{"n":1}'), (3, '{"n":3}')))) == [
        '{"type":"STATE","state":{"n":1}}'
    ]
    assert list(states(sealed((4, '{"n":4}')))) == []
    assert list(states(sealed((2, '{"n": 2.50}'), (5, '{"n":5}')))) == [
        '{"type":"STATE","state":{"n": 2.50}}',
        '{"type":"STATE","state":{"n":3}}',
        '{"type":"STATE","state":{"n":4}}',
        '{"type":"STATE","state":{"n":5}}',
    ]


def test_states_that_wait_for_an_earlier_one_are_bounded() -> None:
    states = States(max_held_bytes=10)
    list(states(sealed((2, "x" * 10))))
    with pytest.raises(LimitExceeded, match=r"limit\.withheld_states"):
        list(states(sealed((3, "x"))))


# --- statuses --------------------------------------------------------------------------------------------------------------


def test_complete_is_what_every_stream_said() -> None:
    statuses = Statuses((USERS, ORDERS))
    assert not statuses.complete
    statuses.take(status(USERS, "COMPLETE"))
    statuses.take(status(ORDERS, "RUNNING"))
    assert not statuses.complete
    statuses.take(status(ORDERS, "COMPLETE"))
    assert statuses.complete


def test_incomplete_stays_incomplete() -> None:
    statuses = Statuses((USERS,))
    statuses.take(status(USERS, "INCOMPLETE"))
    statuses.take(status(USERS, "COMPLETE"))
    assert not statuses.complete


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"status":"COMPLETE"}',
        '{"status":"COMPLETE","stream_descriptor":{"name":"users","namespace":"other"}}',
        '{"status":"complete","stream_descriptor":{"name":"users"}}',
    ],
)
def test_what_is_no_status_completes_nothing(text: str) -> None:
    statuses = Statuses((USERS,))
    statuses.take(events.SourceMessage("0", "trace_status", "INFO", text, 1, 0))
    assert not statuses.complete


def test_only_a_status_is_a_status() -> None:
    statuses = Statuses((USERS,))
    said = status(USERS, "COMPLETE")
    statuses.take(events.SourceMessage("0", "log", "INFO", said.text, 1, 0))
    assert not statuses.complete
    statuses.take(status(Stream("", "users"), "COMPLETE"))
    assert statuses.complete


# --- catalogues ------------------------------------------------------------------------------------------------------------


def config(folder: Path, **changed: Any) -> target_config.TargetConfig:
    return target_config.TargetConfig(folder / "c.json", "parquet", folder, "main", **changed)


def load(folder: Path, *streams: dict[str, Any], **changed: Any) -> standalone_airbyte.Configured:
    (folder / "cat.json").write_text(json.dumps({"streams": streams}))
    return standalone_airbyte.load_catalog(folder / "cat.json", config(folder, **changed))


def configured(name: str = "users", **more: Any) -> dict[str, Any]:
    return {
        "stream": {"name": name, "json_schema": {"type": "object", "properties": {}}},
        "sync_mode": "full_refresh",
        "destination_sync_mode": "append",
        **more,
    }


def test_a_catalogue_keeps_schemas_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "cat.json").write_text(
        '{"streams":[{"stream":{"name":"users","namespace":null,"json_schema":{"a":1.0,"b" : [ ]}},'
        '"destination_sync_mode":"append","primary_key":[["id"]]}]}'
    )
    found = standalone_airbyte.load_catalog(tmp_path / "cat.json", config(tmp_path))
    [table] = found.tables
    assert table.json_schema == '{"a":1.0,"b" : [ ]}'
    assert (table.stream, table.key) == (USERS, ("id",))
    assert found.overwrites == () and found.warnings == ()


GENERATIONS = [
    # sync mode, generation_id, minimum_generation_id → whether it overwrites, by which number
    ("append", None, None, ()),
    ("append", 7, 0, ()),
    ("append", 7, 7, (7,)),
    ("overwrite", None, None, (None,)),
    ("overwrite", 3, None, (3,)),
    ("overwrite", 3, 3, (3,)),
    ("overwrite", 3, 0, ()),
    ("append", 0, 0, ()),
]


@pytest.mark.parametrize(("mode", "generation", "minimum", "wanted"), GENERATIONS)
def test_generations_decide_what_is_overwritten(
    tmp_path: Path, mode: str, generation: int | None, minimum: int | None, wanted: tuple[Any, ...]
) -> None:
    found = load(
        tmp_path,
        configured(
            destination_sync_mode=mode,
            generation_id=generation,
            minimum_generation_id=minimum,
        ),
    )
    assert found.overwrites == tuple((USERS, number) for number in wanted)


BAD: list[tuple[str, dict[str, Any]]] = [
    ("append_dedup is not built", configured(destination_sync_mode="append_dedup")),
    ("update is not built", configured(destination_sync_mode="update")),
    ("soft_delete is not built", configured(destination_sync_mode="soft_delete")),
    ("is not known", configured(destination_sync_mode="merge")),
    ("is not known", {"stream": configured()["stream"]}),
    ("minimum_generation_id is 3", configured(generation_id=5, minimum_generation_id=3)),
    ("minimum_generation_id is 3", configured(minimum_generation_id=3)),
    ("generation_id is not", configured(generation_id="5", minimum_generation_id=5)),
    ("generation_id is not", configured(generation_id=-1)),
    ("without json_schema", {"stream": {"name": "a"}, "destination_sync_mode": "append"}),
    ("has no stream", {"destination_sync_mode": "append"}),
]


@pytest.mark.parametrize(("message", "stream"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_a_catalogue_that_cannot_be_carried_out_is_refused(
    tmp_path: Path, message: str, stream: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, stream)
    assert caught.value.where.file == str(tmp_path / "cat.json")


def test_a_stream_twice_and_too_many_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="twice"):
        load(tmp_path, configured(), configured())
    with pytest.raises(ConfigError, match="the limit is 1"):
        load(tmp_path, configured(), configured("b"), limits=ReadLimits(max_streams=1))
    for text in ("", "[]", "{}", '{"streams":{}}', "\xff"):
        (tmp_path / "cat.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(ConfigError):
            standalone_airbyte.load_catalog(tmp_path / "cat.json", config(tmp_path))


def test_rows_of_append_dedup_are_appended_where_the_user_says_so(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        configured(destination_sync_mode="append_dedup", generation_id=1, minimum_generation_id=1),
        append_dedup="append",
    )
    assert found.overwrites == ((USERS, 1),)
    assert "users" in found.warnings[0]


def test_mode_is_the_catalogue_s_to_say(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`mode` is for Singer"):
        load(tmp_path, configured(), mode="overwrite")


# --- messages --------------------------------------------------------------------------------------------------------------


def test_a_failure_is_a_trace_with_its_kind() -> None:
    kinds = []
    for error in (ConfigError("x"), Conflict("x"), LimitExceeded('half "a\nline')):
        message = json.loads(standalone_airbyte.trace_error(error))
        assert message["type"] == "TRACE" and message["trace"]["type"] == "ERROR"
        assert message["trace"]["error"]["message"] == error.message
        kinds.append(message["trace"]["error"]["failure_type"])
    assert kinds == ["config_error", "transient_error", "system_error"]


def test_about_in_every_form() -> None:
    facts = json.loads(standalone_singer.about("iceberg", "json"))
    assert facts["name"] == "dativo-target-iceberg"
    assert {"name", "description", "version", "capabilities", "settings"} == facts.keys()
    assert facts["settings"]["required"] == ["warehouse", "namespace"]
    for form in ("text", "markdown"):
        told = standalone_singer.about("iceberg", form)
        for name in facts["settings"]["properties"]:
            assert name in told
