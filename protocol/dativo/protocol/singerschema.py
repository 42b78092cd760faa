"""An Airbyte stream's JSON Schema as the SCHEMA message of a Singer tap carries it.

To Airbyte a schema is a hint for types and nobody holds a record to it; to a Singer target it is a contract that every record
is validated against, by draft 4 (singer-python) or draft 7 and later (singer-sdk). So the types are kept and what would refuse
records that Airbyte takes is not: null is allowed everywhere, ``required``, ``enum``, ``pattern`` and their like are left out,
and so are most formats. A ``date-time`` is a branch beside any other text, as Stitch writes it:
connectors send times without a zone, too, and call them times with one. ``airbyte_type`` and every annotation stay.
References are written out, Airbyte's well-known types too: few targets follow a ``$ref``, and none may be made to fetch one.
Sources: airbyte-protocol 0.18, well_known_types.yaml; JSON Schema drafts 4 and 7; docs/spec/dialects.md.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from dativo.protocol import jsontext
from dativo.protocol.errors import ProtocolViolation, Where
from dativo.protocol.state import Stream

MAX_NODES: Final = 100_000
"""Nodes of one schema with its references written out."""
MAX_DEPTH: Final = 64
"""Nesting of one schema with its references written out."""

WELL_KNOWN: Final[dict[str, dict[str, jsontext.Json]]] = {
    "String": {"type": "string"},
    "BinaryData": {"type": "string", "contentEncoding": "base64"},
    "Date": {"type": "string", "format": "date"},
    "TimestampWithTimezone": {"type": "string", "airbyte_type": "timestamp_with_timezone"},
    "TimestampWithoutTimezone": {"type": "string", "airbyte_type": "timestamp_without_timezone"},
    "TimeWithTimezone": {"type": "string", "airbyte_type": "time_with_timezone"},
    "TimeWithoutTimezone": {"type": "string", "airbyte_type": "time_without_timezone"},
    # Written as strings, which may also say Infinity or NaN.
    "Number": {"type": "string"},
    "Integer": {"type": "string"},
    "Boolean": {"type": "boolean"},
}

_LEFT_OUT: Final = frozenset(
    {"$schema", "$id", "id", "$anchor", "$ref", "$defs", "definitions", "$comment"}
    # Assertions; those of numbers that tell a type (minimum, maximum, multipleOf) and maxLength stay.
    | {"required", "enum", "const", "pattern", "minLength", "exclusiveMinimum", "exclusiveMaximum"}
    | {"minItems", "maxItems", "uniqueItems", "contains", "additionalItems", "prefixItems"}
    | {"minProperties", "maxProperties", "propertyNames", "patternProperties", "dependencies"}
    | {"dependentRequired", "dependentSchemas", "not", "if", "then", "else"}
    | {"unevaluatedProperties", "unevaluatedItems"}
)
_TYPES: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
_PARTS: Final = frozenset(
    {"properties", "additionalProperties", "items", "anyOf", "oneOf", "allOf"}
)


def _is_text(value: jsontext.Json) -> bool:
    return isinstance(value, str)


def _is_flag(value: jsontext.Json) -> bool:
    return isinstance(value, bool)


def _is_number(value: jsontext.Json) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _is_step(value: jsontext.Json) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool) and value > 0


def _is_length(value: jsontext.Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_KEYWORDS: Final[dict[str, Callable[[jsontext.Json], bool]]] = {
    **dict.fromkeys(("title", "description", "contentEncoding", "contentMediaType"), _is_text),
    **dict.fromkeys(("readOnly", "writeOnly"), _is_flag),
    **dict.fromkeys(("minimum", "maximum"), _is_number),
    "examples": lambda value: isinstance(value, list),
    "multipleOf": _is_step,
    "maxLength": _is_length,
}
"""What validators expect of the keywords that stay; with any other value one is left out."""
_KEPT_FORMATS: Final = ("date", "singer.decimal", "x-singer.decimal")
_ZONED: Final = "timestamp_with_timezone"


def singer_schema(json_schema: str, stream: Stream) -> str:
    """Return the text of the SCHEMA's ``schema`` for a stream. Raises ProtocolViolation with the place in the schema."""
    root = jsontext.loads(json_schema, f"schema of {stream}")
    if not isinstance(root, dict):
        raise ProtocolViolation("the schema is not an object", Where(stream=str(stream)))
    node = _Translation(root, stream).node(root, (), ())
    kinds = node.pop("type", None)
    if isinstance(kinds, list) and "object" not in kinds:
        raise ProtocolViolation("the schema is not that of an object", Where(stream=str(stream)))
    # Columns are the properties of the first level; what else could refuse a record there says nothing about them.
    said = {
        key: value for key, value in node.items() if key not in _PARTS and key != "airbyte_type"
    }
    return jsontext.dumps({"type": "object", "properties": node.get("properties", {}), **said})


class _Translation:
    """One schema under way: its root for references, and what has been written so far."""

    def __init__(self, root: dict[str, jsontext.Json], stream: Stream) -> None:
        self._root = root
        self._stream = stream
        self._nodes = 0

    def node(
        self, schema: jsontext.Json, path: tuple[str, ...], references: tuple[str, ...]
    ) -> dict[str, jsontext.Json]:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            bound = f"{MAX_NODES} nodes" if self._nodes > MAX_NODES else f"{MAX_DEPTH} levels"
            raise self._violation(f"the schema has more than {bound}, references written out", path)
        if isinstance(schema, bool):
            return {}
        if not isinstance(schema, dict):
            raise self._violation("this is not a schema", path)
        reference = schema.get("$ref")
        if isinstance(reference, str):
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            return {
                **self._referenced(reference, path, references),
                **self._plain(beside, path, references),
            }
        return self._loosened(self._plain(schema, path, references), schema, path)

    def _referenced(
        self, reference: str, path: tuple[str, ...], references: tuple[str, ...]
    ) -> dict[str, jsontext.Json]:
        file, _, pointer = reference.partition("#")
        if file.rpartition("/")[2] == "WellKnownTypes.json":
            known = WELL_KNOWN.get(pointer.removeprefix("/definitions/"))
            if known is None:
                raise self._violation(
                    f"{reference!r} is not one of Airbyte's well-known types", path
                )
            return self._loosened(dict(known), known, path)
        if file:
            raise self._violation(f"{reference!r} refers to another document", path)
        if reference in references:
            return {}  # a schema that holds itself: any value, from the second time on
        target: jsontext.Json = self._root
        for token in pointer.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, dict) else None
        if target is None or (pointer and not pointer.startswith("/")):
            raise self._violation(f"{reference!r} refers to nothing", path)
        return self.node(target, path, (*references, reference))

    def _plain(
        self, schema: dict[str, jsontext.Json], path: tuple[str, ...], references: tuple[str, ...]
    ) -> dict[str, jsontext.Json]:
        found: dict[str, jsontext.Json] = {}
        for key, value in schema.items():
            if key == "properties" and isinstance(value, dict):
                found[key] = {
                    name: self.node(inner, (*path, name), references)
                    for name, inner in value.items()
                }
            elif key == "additionalProperties" and isinstance(value, dict):
                # The values of a map; beside properties it says nothing of them.
                if not schema.get("properties"):
                    found[key] = self.node(value, (*path, key), references)
            elif key == "items" and isinstance(value, dict | bool):
                found[key] = self.node(value, (*path, key), references)
            elif key in ("anyOf", "oneOf", "allOf") and isinstance(value, list) and value:
                # Once null fits every branch, exactly one of them can no longer fit.
                found["anyOf" if key == "oneOf" else key] = [
                    self.node(inner, (*path, key), references) for inner in value
                ]
            elif key in _LEFT_OUT or key in _PARTS:
                continue
            elif key not in _KEYWORDS or _KEYWORDS[key](value):
                found[key] = value
        return found

    def _loosened(
        self,
        node: dict[str, jsontext.Json],
        written: dict[str, jsontext.Json],
        path: tuple[str, ...],
    ) -> dict[str, jsontext.Json]:
        """Let null and any time fit ``node``; a type that only its values or parts tell is written."""
        kinds = node.get("type")
        if kinds is None:
            kinds = _implied(node, written)
        names = [kinds] if isinstance(kinds, str) else kinds
        if isinstance(names, list) and names:
            for name in names:
                if name not in _TYPES:
                    raise self._violation(f"{name!r} is no type of JSON Schema", path)
            node["type"] = list(dict.fromkeys(("null", *names)))
        else:
            node.pop("type", None)
        form, airbyte_type = node.pop("format", None), node.get("airbyte_type")
        if form in _KEPT_FORMATS:
            node["format"] = form
        elif form == "time" and airbyte_type is None:
            node["airbyte_type"] = "time_without_timezone"
        elif airbyte_type == _ZONED or (form == "date-time" and airbyte_type is None):
            node["airbyte_type"] = _ZONED
            if "type" in node:
                time: jsontext.Json = {"type": "string", "format": "date-time"}
                node["anyOf"] = [time, {"type": node["type"]}]
        return node

    def _violation(self, message: str, path: tuple[str, ...]) -> ProtocolViolation:
        return ProtocolViolation(
            message, Where(stream=str(self._stream), pointer="/" + "/".join(path[:8]))
        )


def _implied(
    node: dict[str, jsontext.Json], written: dict[str, jsontext.Json]
) -> list[jsontext.Json] | None:
    if "properties" in node:
        return ["object"]
    if "items" in node:
        return ["array"]
    values = written.get("enum") if "enum" in written else [written.get("const")]
    kinds = [_kind(value) for value in values] if isinstance(values, list) else []
    told: list[jsontext.Json] = list(dict.fromkeys(kind for kind in kinds if kind != "null"))
    return told or None


def _kind(value: jsontext.Json) -> str:
    if isinstance(value, bool):
        return "boolean"
    if value is None:
        return "null"
    return {int: "integer", str: "string", list: "array", dict: "object"}.get(type(value), "number")
