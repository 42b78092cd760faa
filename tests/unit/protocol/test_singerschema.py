"""An Airbyte schema in a SCHEMA message: every record that Airbyte takes fits, by draft 4 and by draft 7."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator, Draft7Validator

from dativo.protocol import catalog
from dativo.protocol.errors import ProtocolViolation
from dativo.protocol.singerschema import WELL_KNOWN, singer_schema
from dativo.protocol.state import Stream

USERS = Stream("", "users")


ZONED = {
    "type": ["null", "string"],
    "airbyte_type": "timestamp_with_timezone",
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": ["null", "string"]}],
}


def translated(schema: Any) -> Any:
    found = json.loads(singer_schema(json.dumps(schema), USERS))
    for draft in (Draft4Validator, Draft7Validator):
        draft.check_schema(found)
    assert "$ref" not in json.dumps(found)
    return found


def column(schema: Any) -> Any:
    return translated({"type": "object", "properties": {"c": schema}})["properties"]["c"]


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"type": "string"}, {"type": ["null", "string"]}),
        ({"type": ["string", "null"]}, {"type": ["null", "string"]}),
        ({"type": ["integer", "string"]}, {"type": ["null", "integer", "string"]}),
        ({}, {}),
        (True, {}),
        (False, {}),
        ({"type": "integer", "minimum": 0, "exclusiveMaximum": 5}, {"type": ["null", "integer"], "minimum": 0}),
        ({"type": "number", "multipleOf": 0.01}, {"type": ["null", "number"], "multipleOf": 0.01}),
        ({"enum": ["a", "b", None]}, {"type": ["null", "string"]}),
        ({"enum": [1, 1.5]}, {"type": ["null", "integer", "number"]}),
        ({"const": True}, {"type": ["null", "boolean"]}),
        ({"type": "string", "enum": ["a"], "pattern": "^a$", "minLength": 1}, {"type": ["null", "string"]}),
        ({"type": "string", "maxLength": 5, "title": "T"}, {"type": ["null", "string"], "maxLength": 5, "title": "T"}),
        (
            {"type": "object", "required": ["a"], "additionalProperties": False, "properties": {"a": {"type": "integer"}}},
            {"type": ["null", "object"], "properties": {"a": {"type": ["null", "integer"]}}},
        ),
        ({"properties": {"a": {}}}, {"properties": {"a": {}}, "type": ["null", "object"]}),
        ({"items": {"type": "string"}}, {"items": {"type": ["null", "string"]}, "type": ["null", "array"]}),
        ({"type": "array", "items": [{"type": "string"}], "minItems": 1}, {"type": ["null", "array"]}),
        (
            {"oneOf": [{"type": "string"}, {"type": "null"}]},
            {"anyOf": [{"type": ["null", "string"]}, {"type": ["null"]}]},
        ),
        (
            {"type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone"},
            {"type": ["null", "string"], "airbyte_type": "timestamp_without_timezone"},
        ),
        (
            {"type": "string", "format": "date-time", "airbyte_type": "timestamp_with_timezone"},
            ZONED,
        ),
        (
            {"type": "string", "format": "time", "airbyte_type": "time_without_timezone"},
            {"type": ["null", "string"], "airbyte_type": "time_without_timezone"},
        ),
        ({"type": "string", "format": "date-time"}, ZONED),
        ({"type": ["string", "null"], "airbyte_type": "timestamp_with_timezone"}, ZONED),
        ({"type": "string", "format": "date"}, {"type": ["null", "string"], "format": "date"}),
        (
            {"type": "string", "format": "time"},
            {"type": ["null", "string"], "airbyte_type": "time_without_timezone"},
        ),
        ({"type": "string", "format": "email"}, {"type": ["null", "string"]}),
        ({"type": "number", "airbyte_type": "integer"}, {"type": ["null", "number"], "airbyte_type": "integer"}),
        ({"$id": "x", "id": "y", "$comment": "z", "type": "string"}, {"type": ["null", "string"]}),
    ],
)  # fmt: skip
def test_types_stay_and_assertions_go(schema: Any, wanted: Any) -> None:
    assert column(schema) == wanted


@pytest.mark.parametrize("name", WELL_KNOWN)
def test_well_known_types_are_written_out(name: str) -> None:
    found = column({"$ref": f"WellKnownTypes.json#/definitions/{name}", "description": "d"})
    assert found["description"] == "d"
    assert found["type"] == ["null", "boolean" if name == "Boolean" else "string"]


def test_the_protocols_own_list_is_covered() -> None:
    folder = os.environ.get("DATIVO_CORPORA")
    if folder is None:
        pytest.skip("DATIVO_CORPORA is not set: airbyte-protocol/well_known_types.yaml")
    import yaml

    text = Path(folder, "airbyte-protocol/well_known_types.yaml").read_text()
    assert set(yaml.safe_load(text)["definitions"]) == set(WELL_KNOWN)


def test_references_into_the_schema_are_written_out() -> None:
    found = translated(
        {
            "definitions": {"a/b": {"type": "string"}, "tree": {"properties": {"left": {"$ref": "#/definitions/tree"}}}},
            "properties": {"c": {"$ref": "#/definitions/a~1b"}, "t": {"$ref": "#/definitions/tree"}},
        }
    )  # fmt: skip
    assert found["properties"]["c"] == {"type": ["null", "string"]}
    assert found["properties"]["t"]["properties"] == {"left": {}}
    assert found["type"] == "object" and "definitions" not in found


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$ref": "http://example.com/x.json"}, "another document"),
        ({"$ref": "other.json#/definitions/x"}, "another document"),
        ({"$ref": "#/definitions/none"}, "refers to nothing"),
        ({"$ref": "#none"}, "refers to nothing"),
        ({"$ref": "WellKnownTypes.json#/definitions/Nope"}, "well-known"),
        ({"type": "strnig"}, "no type of JSON Schema"),
        ({"properties": {"a": 7}}, "not a schema"),
    ],
)
def test_what_cannot_be_translated(schema: Any, message: str) -> None:
    with pytest.raises(ProtocolViolation, match=message) as error:
        column(schema)
    assert error.value.where.stream == "users"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, -1.5])
    | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYWORDS = [
    *("type", "format", "title", "minimum", "maximum", "multipleOf", "maxLength", "airbyte_type", "enum", "const"),
    *("required", "default", "examples", "readOnly", "contentEncoding", "id", "$id", "$schema", "exclusiveMinimum"),
    *("additionalProperties", "pattern", "not", "dependencies", "description", "x-odd", "items", "properties"),
]  # fmt: skip
TYPES = st.sampled_from(["string", "null", "integer", "object", "array", "number", "boolean"])


def nodes(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    known = st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, max_size=3),
            "format": st.sampled_from(["date-time", "date", "time", "email", "singer.decimal"]),
            "properties": st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
            "items": inner,
            "anyOf": st.lists(inner, max_size=2),
            "oneOf": st.lists(inner, max_size=2),
        },
    )
    odd = st.dictionaries(st.sampled_from(KEYWORDS), JSON, max_size=3)
    return st.tuples(known, odd).map(lambda both: {**both[0], **both[1]})


@given(nodes(st.recursive(st.booleans() | st.just({}), nodes, max_leaves=5)))
def test_whatever_a_source_says_is_a_schema_of_both_drafts_or_an_error(schema: Any) -> None:
    try:
        found = translated(schema)
    except ProtocolViolation:
        return
    for draft in (Draft4Validator, Draft7Validator):
        draft(found).validate({})
        draft(found).validate(dict.fromkeys(found["properties"]))


@pytest.mark.parametrize(
    "schema", [{"type": "string"}, {"type": ["null", "array"]}, {"enum": ["a"]}]
)
def test_a_stream_is_of_objects(schema: Any) -> None:
    with pytest.raises(ProtocolViolation, match="not that of an object"):
        translated(schema)
    assert translated({"type": ["null", "object"], "anyOf": [{"type": "string"}]}) == {
        "type": "object",
        "properties": {},
    }


def test_a_bomb_of_references_is_bounded() -> None:
    levels: dict[str, object] = {
        f"l{n}": {"properties": {f"p{i}": {"$ref": f"#/definitions/l{n + 1}"} for i in range(10)}}
        for n in range(20)
    }
    levels["l20"] = {"type": "string"}
    with pytest.raises(ProtocolViolation, match="more than"):
        translated({"definitions": levels, "properties": {"c": {"$ref": "#/definitions/l0"}}})


def test_half_a_surrogate_pair_stays_json() -> None:
    found = singer_schema('{"properties":{"\\ud800":{"type":"string","title":"\\udfff"}}}', USERS)
    assert json.loads(found.encode())["properties"] == {
        "\ud800": {"type": ["null", "string"], "title": "\udfff"}
    }


@pytest.mark.parametrize("capture", ["airbyte-source-faker/discover.stdout"])
def test_captured_records_fit_by_both_drafts(capture: str) -> None:
    folder = os.environ.get("DATIVO_CAPTURES")
    if folder is None:
        pytest.skip("DATIVO_CAPTURES is not set: captured output of public connectors")
    lines = Path(folder, capture).read_text().splitlines()
    text = next(json.dumps(json.loads(line)["catalog"]) for line in lines if '"CATALOG"' in line)
    found = catalog.from_airbyte(text)
    schemas = {
        entry.stream.name: json.loads(singer_schema(entry.json_schema, entry.stream))
        for entry in found.streams
    }
    seen = 0
    for line in Path(folder, capture).with_name("read.stdout").read_text().splitlines():
        message = json.loads(line)
        if message["type"] != "RECORD":
            continue
        record = message["record"]
        for draft in (Draft4Validator, Draft7Validator):
            checker = draft.FORMAT_CHECKER
            draft(schemas[record["stream"]], format_checker=checker).validate(record["data"])
            nulls = dict.fromkeys(record["data"])
            draft(schemas[record["stream"]], format_checker=checker).validate(nulls)
        seen += 1
    assert seen > 100
