"""Selection, and what a connector is given back."""

import json
import os
from pathlib import Path

import pytest

from dativo.protocol import catalog
from dativo.protocol.errors import ConfigError, ProtocolViolation

AIRBYTE = json.dumps(
    {
        "streams": [
            {
                "name": name,
                "namespace": namespace,
                "json_schema": {
                    "type": "object",
                    "properties": {"id": {}, "ssn": {}, "name": {"multipleOf": 1e-20}},
                },
                "supported_sync_modes": ["full_refresh", "incremental"],
                "default_cursor_field": ["id"],
                "source_defined_primary_key": [["id"]],
                "future_field": {"kept": True},
            }
            for name, namespace in [("users", None), ("purchases", None), ("a.b", "x")]
        ]
    }
)


def chosen(*rules: str) -> dict[str, frozenset[str]]:
    picked = catalog.select(catalog.from_airbyte(AIRBYTE), rules)
    return {str(entry.stream): entry.deselected for entry in picked.streams}


def test_rules() -> None:
    none: frozenset[str] = frozenset()
    assert chosen() == {"users": none, "purchases": none, "x.a.b": none}
    assert chosen("users") == {"users": none}
    assert chosen("*", "!users.ssn") == {
        "users": frozenset({"ssn"}),
        "purchases": none,
        "x.a.b": none,
    }
    assert chosen("!purchases") == {"users": none, "x.a.b": none}
    assert chosen("x.a.b") == {"x.a.b": none}
    assert chosen("users.*", "!users.n*") == {"users": frozenset({"name"})}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (("user",), "meets no stream"),
        (("users", "!users.nope"), "meets no field"),
        (("users", "!users"), "selects no stream"),
        (("users", "!users.id"), "key or cursor"),
    ],
)
def test_rules_that_meet_nothing_say_what_there_is(rules: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        chosen(*rules)


def test_configured_catalog_keeps_unknown_fields_and_drops_deselected_ones() -> None:
    picked = catalog.select(catalog.from_airbyte(AIRBYTE), ["users", "!users.ssn"])
    [stream] = json.loads(catalog.configured_airbyte(picked))["streams"]
    assert stream["stream"]["future_field"] == {"kept": True}
    assert list(stream["stream"]["json_schema"]["properties"]) == ["id", "name"]
    assert "1e-20" in catalog.configured_airbyte(picked).lower()
    assert (stream["sync_mode"], stream["destination_sync_mode"]) == ("incremental", "append")
    assert stream["cursor_field"] == ["id"] and stream["primary_key"] == [["id"]]


def test_singer_selection_is_written_in_metadata_and_schema() -> None:
    text = json.dumps(
        {
            "streams": [
                {
                    "tap_stream_id": name,
                    "stream": name,
                    "schema": {
                        "type": "object",
                        "properties": {"id": {"type": "integer"}, "b": {}},
                    },
                    "metadata": [
                        {
                            "breadcrumb": [],
                            "metadata": {"table-key-properties": ["id"], "odd-key": 1},
                        }
                    ],
                    "key_properties": ["id"],
                }
                for name in ("one", "two")
            ]
        }
    )
    found = catalog.from_singer(text)
    out = json.loads(catalog.configured_singer(found, catalog.select(found, ["one", "!one.b"])))
    one, two = out["streams"]
    flat = {tuple(m["breadcrumb"]): m["metadata"] for m in one["metadata"]}
    assert flat[()] == {"table-key-properties": ["id"], "odd-key": 1, "selected": True}
    assert (
        flat["properties", "id"]["selected"] is True
        and flat["properties", "b"]["selected"] is False
    )
    assert (
        two["metadata"][0]["metadata"]["selected"] is False and two["schema"]["selected"] is False
    )


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"streams":{}}',
        '{"streams":[1]}',
        '{"streams":[{"name":"a"}]}',
        '{"streams":[{"name":"a","json_schema":{}},{"name":"a","namespace":"","json_schema":{}}]}',
        '{"streams":[{"name":"","json_schema":{}}]}',
    ],
)
def test_bad_catalogues_are_violations(text: str) -> None:
    with pytest.raises(ProtocolViolation):
        catalog.from_airbyte(text)


def test_captured_catalogues_are_read() -> None:
    folder = os.environ.get("DATIVO_CAPTURES")
    if folder is None:
        pytest.skip("DATIVO_CAPTURES is not set: captured output of public connectors")
    tap = catalog.from_singer(Path(folder, "tap-jsonl/discover.stdout").read_text())
    assert [str(entry.stream) for entry in tap.streams] == ["jsonl"]
    mysql = catalog.from_singer(Path(folder, "pipelinewise-tap-mysql/discover.stdout").read_text())
    assert all(entry.properties() for entry in mysql.streams)


@pytest.mark.parametrize("files", [True, False])
def test_only_streams_of_files_are_asked_for_them(files: bool) -> None:
    """`include_files` and `is_file_based` of Airbyte's protocol; who knows neither is sent neither."""
    document = json.loads(AIRBYTE)
    document["streams"][0]["is_file_based"] = True
    document["streams"][1]["is_file_based"] = False
    text = catalog.configured_airbyte(catalog.from_airbyte(json.dumps(document)), files=files)
    asked = [entry.get("include_files") for entry in json.loads(text)["streams"]]
    assert asked == [True if files else None, None, None]
