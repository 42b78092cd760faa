"""Catalogues as files of the other dialect, and the choice that comes back."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dativo.protocol import catalog, catalogfile, translate
from dativo.protocol.catalog import Catalog
from dativo.protocol.errors import ConfigError, ProtocolViolation
from dativo.protocol.state import Stream


def airbyte(*streams: dict[str, Any]) -> Catalog:
    usual = {
        "json_schema": {"type": "object", "properties": {"id": {"type": "integer"}, "at": {}, "ssn": {}}},
        "supported_sync_modes": ["full_refresh", "incremental"],
        "source_defined_cursor": True,
        "default_cursor_field": ["at"],
        "source_defined_primary_key": [["id"]],
        "is_resumable": True,
    }  # fmt: skip
    return catalog.from_airbyte(
        json.dumps({"streams": [{**usual, **stream} for stream in streams]})
    )


SHOP = airbyte(
    {"name": "users", "namespace": "shop"},
    {"name": "logs", "supported_sync_modes": ["full_refresh"]},
)


def singer(found: Catalog) -> Any:
    return json.loads(translate.catalog_file(found, "singer"))["streams"]


def root(entry: Any) -> Any:
    return next(m["metadata"] for m in entry["metadata"] if m["breadcrumb"] == [])


def test_an_airbyte_catalogue_for_singer() -> None:
    users, logs = singer(SHOP)
    assert (users["tap_stream_id"], users["stream"]) == ("shop-users", "shop-users")
    assert users["key_properties"] == root(users)["table-key-properties"] == ["id"]
    assert (users["replication_method"], users["replication_key"]) == ("INCREMENTAL", "at")
    assert root(users)["schema-name"] == "shop" and root(users)["valid-replication-keys"] == ["at"]
    inclusion = {
        m["breadcrumb"][-1]: m["metadata"]["inclusion"]
        for m in users["metadata"]
        if m["breadcrumb"]
    }
    assert inclusion == {"id": "automatic", "at": "automatic", "ssn": "available"}
    assert root(logs)["forced-replication-method"] == "FULL_TABLE" and "replication_key" not in logs


def test_its_own_dialect_is_its_own_text() -> None:
    assert translate.catalog_file(SHOP, "airbyte") == SHOP.text


def test_names_in_a_singer_output_are_unique() -> None:
    found = airbyte(
        {"name": "b-c", "namespace": "a"}, {"name": "c", "namespace": "a-b"}, {"name": "a-b-c-2"}, {"name": "a-b-c"}
    )  # fmt: skip
    names = translate.singer_names(found)
    assert names[Stream("a", "b-c")] == "a-b-c" and names[Stream("a-b", "c")] == "a-b-c-2"
    assert len(set(names.values())) == 4


@given(
    st.lists(
        st.tuples(st.text("ab-2", max_size=4), st.text("ab-2", min_size=1, max_size=4)),
        unique=True,
        min_size=1,
    )
)
def test_names_are_unique_whatever_the_source_says(streams: list[tuple[str, str]]) -> None:
    found = airbyte(*({"namespace": namespace, "name": name} for namespace, name in streams))
    names = translate.singer_names(found)
    assert len(set(names.values())) == len(streams) == len(names)


def test_a_key_that_the_schema_lacks_is_no_key_of_a_schema_message() -> None:
    found = airbyte({"name": "x", "source_defined_primary_key": [["id"], ["other"]]})
    assert singer(found)[0]["key_properties"] == []
    (left_out,) = airbyte({"name": "x"}).streams
    assert translate.singer_key(left_out) == ("id",)
    assert translate.singer_key(replace(left_out, deselected=frozenset({"id"}))) == ()


# --- and back --------------------------------------------------------------------------------------------------------------


def choose(found: Catalog, text: str) -> dict[str, catalog.CatalogStream]:
    chosen = catalogfile.choose(text, found.dialect, lambda: found)
    return {str(entry.stream): entry for entry in chosen.selected.streams}


def test_a_translated_catalogue_chooses_everything() -> None:
    chosen = choose(SHOP, translate.catalog_file(SHOP, "singer"))
    assert list(chosen) == ["shop.users", "logs"]
    assert not any(entry.deselected for entry in chosen.values())
    assert [entry.mode for entry in chosen.values()] == ["incremental", "full_refresh"]
    assert [entry.text for entry in chosen.values()] == [entry.text for entry in SHOP.streams]


def test_marks_of_a_singer_catalogue_choose_airbyte_streams_and_fields() -> None:
    document = json.loads(translate.catalog_file(SHOP, "singer"))
    users, logs = document["streams"]
    root(users)["selected"], root(logs)["selected"] = True, False
    for entry in users["metadata"]:
        if entry["breadcrumb"]:
            entry["metadata"]["selected"] = False
    chosen = choose(SHOP, json.dumps(document))
    assert list(chosen) == ["shop.users"]
    assert chosen["shop.users"].deselected == {"ssn"}, "key and cursor stay"
    (configured,) = json.loads(
        catalog.configured_airbyte(replace(SHOP, streams=tuple(chosen.values())))
    )["streams"]
    assert list(configured["stream"]["json_schema"]["properties"]) == ["id", "at"]
    assert configured["stream"]["is_resumable"] is True


TAP = catalog.from_singer(
    json.dumps(
        {
            "streams": [
                {
                    "tap_stream_id": name,
                    "stream": name,
                    "schema": {"properties": {"id": {"type": "integer"}, "at": {}, "x": {}, "secret": {}}},
                    "key_properties": ["id"],
                    "metadata": [
                        {"breadcrumb": [], "metadata": {"valid-replication-keys": ["at", "x"]}},
                        {"breadcrumb": ["properties", "secret"], "metadata": {"inclusion": "unsupported"}},
                    ],
                    **more,
                }
                for name, more in [
                    ("orders", {"replication_method": "INCREMENTAL", "replication_key": "at"}),
                    ("notes", {"replication_method": "FULL_TABLE"}),
                ]
            ]
        }
    )
)  # fmt: skip


def test_a_singer_catalogue_for_airbyte() -> None:
    orders, notes = json.loads(translate.catalog_file(TAP, "airbyte"))["streams"]
    assert (orders["name"], orders["supported_sync_modes"]) == (
        "orders",
        ["full_refresh", "incremental"],
    )
    assert orders["default_cursor_field"] == ["at"] and orders["source_defined_cursor"] is False
    assert orders["source_defined_primary_key"] == [["id"]]
    assert list(orders["json_schema"]["properties"]) == ["id", "at", "x"], (
        "what is never sent is left out"
    )
    assert (
        notes["supported_sync_modes"] == ["full_refresh"] and "source_defined_cursor" not in notes
    )
    assert catalog.from_airbyte(json.dumps({"streams": [orders, notes]})).streams[0].key == ("id",)


def configured(*streams: Any) -> str:
    return json.dumps({"streams": list(streams)})


def test_a_configured_catalogue_chooses_streams_fields_and_modes_of_a_tap() -> None:
    orders, notes = json.loads(translate.catalog_file(TAP, "airbyte"))["streams"]
    del orders["json_schema"]["properties"]["x"]
    text = configured(
        {"stream": orders, "sync_mode": "incremental", "cursor_field": ["x"], "destination_sync_mode": "append"}
    )  # fmt: skip
    chosen = catalogfile.choose(text, "singer", lambda: TAP)
    given = json.loads(catalog.configured_singer(chosen.discovered, chosen.selected))["streams"]
    assert [root(entry)["selected"] for entry in given] == [True, False]
    flat = {tuple(m["breadcrumb"]): m["metadata"] for m in given[0]["metadata"]}
    assert flat[()]["replication-key"] == given[0]["replication_key"] == "x"
    assert flat["properties", "secret"]["selected"] is False
    text = configured(
        {"stream": orders, "sync_mode": "full_refresh"},
        {"stream": notes, "sync_mode": "full_refresh"},
    )
    chosen = catalogfile.choose(text, "singer", lambda: TAP)
    given = json.loads(catalog.configured_singer(chosen.discovered, chosen.selected))["streams"]
    assert [entry["replication_method"] for entry in given] == ["FULL_TABLE", "FULL_TABLE"]
    assert root(given[0])["replication-method"] == "FULL_TABLE"


def never() -> Catalog:
    raise AssertionError("the plugin was asked although the file is in its own dialect")


def test_in_the_plugins_own_dialect_the_file_is_the_catalogue() -> None:
    assert catalogfile.choose(SHOP.text, "airbyte", never).selected == SHOP
    assert len(catalogfile.choose(TAP.text, "singer", never).selected.streams) == 2
    stream = json.loads(SHOP.text)["streams"][0]
    text = configured(
        {
            "stream": stream,
            "sync_mode": "full_refresh",
            "primary_key": [["at"]],
            "cursor_field": ["id"],
        }
    )
    (entry,) = catalogfile.choose(text, "airbyte", never).selected.streams
    assert (entry.mode, entry.key, entry.cursor) == ("full_refresh", ("at",), ("id",))
    (sent,) = json.loads(catalog.configured_airbyte(Catalog("airbyte", (entry,), text)))["streams"]
    assert sent["sync_mode"] == "full_refresh" and sent["stream"] == stream
    message = json.dumps({"type": "CATALOG", "catalog": json.loads(SHOP.text)})
    assert catalogfile.choose(message, "airbyte", never).selected.streams == SHOP.streams


def test_full_refresh_is_written_for_either_dialect() -> None:
    sent = json.loads(catalog.configured_airbyte(SHOP, full_refresh=True))["streams"]
    assert {entry["sync_mode"] for entry in sent} == {"full_refresh"}
    given = json.loads(catalog.configured_singer(TAP, TAP, full_refresh=True))["streams"]
    assert {root(entry)["replication-method"] for entry in given} == {"FULL_TABLE"}


def mark(document: Any, index: int, **values: object) -> None:
    root(document["streams"][index]).update(values)


@pytest.mark.parametrize(
    ("marks", "wanted"),
    [
        ([{}, {}], ["orders", "notes"]),
        ([{"selected": True}, {}], ["orders"]),
        ([{"selected": "true"}, {"selected": "false"}], ["orders"]),
        ([{"selected-by-default": True}, {}], ["orders"]),
        ([{"selected-by-default": True, "selected": False}, {"selected": True}], ["notes"]),
        ([{"inclusion": "unsupported"}, {"selected": True}], ["notes"]),
    ],
)
def test_which_streams_a_singer_catalogue_selects(
    marks: list[dict[str, object]], wanted: list[str]
) -> None:
    document = json.loads(TAP.text)
    for index, values in enumerate(marks):
        mark(document, index, **values)
    chosen = catalogfile.choose(json.dumps(document), "singer", never)
    assert [entry.stream.name for entry in chosen.selected.streams] == wanted
    assert len(chosen.discovered.streams) == 2


def test_old_taps_mark_the_schema_itself() -> None:
    document = json.loads(TAP.text)
    document["streams"][0]["schema"]["selected"] = True
    document["streams"][0]["schema"]["properties"]["x"]["selected"] = False
    (entry,) = catalogfile.choose(json.dumps(document), "singer", never).selected.streams
    assert entry.deselected == {"x", "secret"}


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("[]", ProtocolViolation, "not an object"),
        ("{}", ProtocolViolation, "not an array"),
        ('{"streams":[]}', ProtocolViolation, "neither"),
        ('{"streams":[{"name":"a"}]}', ProtocolViolation, "neither"),
        ('{"streams":[{"stream":{"name":"a","json_schema":{}},"sync_mode":"sideways"}]}', ProtocolViolation, "sync_mode"),
        ('{"streams":[{"stream":"s","schema":{},"tap_stream_id":"s"}]}', ConfigError, "no stream of this name"),
        ('{"streams":[{"stream":"logs","schema":{},"replication_method":"INCREMENTAL"}]}', ConfigError, "incrementally"),
        (
            '{"streams":[{"stream":"logs","schema":{},"metadata":[{"breadcrumb":[],"metadata":{"selected":false}}]}]}',
            ConfigError,
            "selects no stream",
        ),
    ],
)  # fmt: skip
def test_files_that_choose_nothing_sensible(text: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        catalogfile.choose(text, "airbyte", lambda: SHOP)


@pytest.mark.parametrize(
    "capture",
    ["tap-jsonl", "pipelinewise-tap-mysql", "meltanolabs-tap-postgres", "airbyte-source-faker"],
)
def test_captured_catalogues_go_there_and_back(capture: str) -> None:
    folder = os.environ.get("DATIVO_CAPTURES")
    if folder is None:
        pytest.skip("DATIVO_CAPTURES is not set: captured output of public connectors")
    text = Path(folder, capture, "discover.stdout").read_text()
    if capture.startswith("airbyte"):
        line = next(line for line in text.splitlines() if '"CATALOG"' in line)
        found = catalog.from_airbyte(json.dumps(json.loads(line)["catalog"]))
        other = translate.catalog_file(found, "singer")
    else:
        found = catalog.from_singer(text)
        other = translate.catalog_file(found, "airbyte")
    assert other != text
    chosen = catalogfile.choose(other, found.dialect, lambda: found)
    assert [entry.text for entry in chosen.selected.streams] == [
        entry.text for entry in found.streams
    ]
    assert [entry.deselected for entry in chosen.selected.streams] == [
        entry.deselected for entry in found.streams
    ]
    assert [entry.cursor for entry in chosen.selected.streams] == [
        entry.cursor for entry in found.streams
    ]


@pytest.fixture(scope="module")
def airbyte_protocol() -> Any:
    folder = os.environ.get("DATIVO_CORPORA")
    if folder is None:
        pytest.skip("DATIVO_CORPORA is not set: airbyte-protocol/airbyte_protocol.yaml")
    import yaml

    return yaml.safe_load(Path(folder, "airbyte-protocol/airbyte_protocol.yaml").read_text())


def test_what_airbyte_tools_are_given_is_airbytes(airbyte_protocol: Any) -> None:
    import jsonschema

    def check(kind: str, text: str) -> None:
        schema = {**airbyte_protocol, "$ref": f"#/definitions/{kind}"}
        jsonschema.Draft7Validator(schema).validate(json.loads(text))

    check("AirbyteCatalog", translate.catalog_file(TAP, "airbyte"))
    for found in (SHOP, catalog.from_airbyte(translate.catalog_file(TAP, "airbyte"))):
        check("ConfiguredAirbyteCatalog", catalog.configured_airbyte(found))
        check("ConfiguredAirbyteCatalog", catalog.configured_airbyte(found, full_refresh=True))
    with pytest.raises(jsonschema.ValidationError):
        check("AirbyteCatalog", '{"streams":[{"name":"a"}]}')


def test_schemas_of_public_taps_become_airbyte_streams() -> None:
    folder = os.environ.get("DATIVO_CORPORA")
    if folder is None:
        pytest.skip("DATIVO_CORPORA is not set: singer-messages")
    seen = 0
    for file in sorted(Path(folder, "singer-messages").glob("*.json")):
        for line in file.read_text().splitlines():
            if '"SCHEMA"' not in line:
                continue
            message = json.loads(line)
            entry = {key: message[key] for key in ("stream", "schema", "key_properties")}
            found = catalog.from_singer(json.dumps({"streams": [entry]}))
            (stream,) = catalog.from_airbyte(translate.catalog_file(found, "airbyte")).streams
            assert json.loads(stream.json_schema) == message["schema"]
            assert (stream.stream.name, list(stream.key)) == (
                message["stream"],
                message["key_properties"],
            )
            seen += 1
    assert seen > 8
