"""Strategies: JSON Schemas as trees, JSON texts that fit them, and what Python's json reads in these.

A number keeps its text until its column's type says what it means (int, float, Decimal), and an object keeps its keys as they
came; nothing of ours takes part. The types are those of docs/spec/validation.md.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

import pyarrow as pa
from hypothesis import strategies as st
from tests.unit.native.tables import DOUBLES, JSON_TEXTS, LONGS, NAMES, TEXT, decimals

Numbers: TypeAlias = Literal["double", "decimal", "text"]
Texts: TypeAlias = st.SearchStrategy[str]
Node: TypeAlias = dict[str, Any]

JSON: Final = "json"
NULL: Final = {"type": "null"}
SPACE: Final = st.sampled_from(["", "", "", " ", "\t "])
WELL_KNOWN: Final = "https://example.com/WellKnownTypes.json#/definitions/"


# --- reading ---------------------------------------------------------------------------------------------------------------


class Number(str):
    """A number's own text."""

    __slots__ = ()


class Object(list[tuple[str, Any]]):
    """An object's members, in order, with those that stand twice."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """What a column of JSON text must hold."""

    value: Any


def read_json(text: str) -> Any:
    """Read JSON and lose nothing but spaces and the spelling of strings."""
    return json.loads(
        text,
        parse_float=Number,
        parse_int=Number,
        parse_constant=Number,
        object_pairs_hook=Object,
    )


def exact(value: Any) -> Decimal:
    """Read a number, or the string that holds it."""
    return Decimal(str(value))


def whole(value: Any) -> int:
    """Read a number that is an integer in whatever notation."""
    number = exact(value)
    assert number == int(number)
    return int(number)


def moment(value: str) -> dt.datetime:
    """Read a date-time as the same moment in UTC."""
    at = dt.datetime.fromisoformat(value)
    return (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)


# --- trees -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tree:
    """A node of a schema. ``kind`` is its column's type as ``kind_of`` tells it; ``texts`` are values of it, null not among them.

    ``definitions`` are what its references point to, by name.
    """

    node: Any
    kind: Any
    texts: Texts
    read: Callable[[Any], Any]
    definitions: Mapping[str, Any] = field(default_factory=dict)

    def meaning(self, parsed: Any) -> Any:
        """Return the value that must come back for one that json has read."""
        return None if parsed is None else self.read(parsed)


def kind_of(kind: pa.DataType) -> Any:
    """Tell an Arrow type in the words of ``Tree.kind``."""
    if isinstance(kind, pa.BaseExtensionType):
        return JSON
    if pa.types.is_struct(kind):
        return "struct", tuple((member.name, kind_of(member.type)) for member in kind)
    if pa.types.is_map(kind):
        return "map", kind_of(kind.key_type), kind_of(kind.item_type)
    if pa.types.is_list(kind):
        return "list", kind_of(kind.value_type)
    return str(kind)


def stored(kind: Any) -> Any:
    """Return the kind that a Parquet file has for ``kind``: JSON text is text there."""
    if isinstance(kind, tuple):
        return tuple(map(stored, kind))
    return "string" if kind == JSON else kind


def typed(node: Node, kind: str, texts: Texts, read: Callable[[Any], Any]) -> Tree:
    """Return a leaf whose node has a type, or something else that says it."""
    return Tree(node, kind, texts, read)


def untyped(node: Any, texts: Texts = JSON_TEXTS) -> Tree:
    """Return a leaf that is kept as JSON text."""
    return Tree(node, JSON, texts, Kept)


def quoted(values: st.SearchStrategy[Any]) -> Texts:
    """Write values as JSON strings, with escapes beyond ASCII or without."""
    return st.builds(
        lambda value, plain: json.dumps(str(value), ensure_ascii=plain), values, st.booleans()
    )


def plain_or_quoted(numbers: Texts) -> Texts:
    """Write numbers as such or as strings."""
    return numbers | numbers.map(lambda text: f'"{text}"')


def fixed(precision: int, scale: int) -> Texts:
    """Write decimals in plain notation, with an exponent, or with more zeros than the scale has digits."""
    values = decimals(precision, scale)
    zeros = values.map(lambda value: f"{value:f}" + ("000" if scale else ".000"))
    return values.map(lambda value: f"{value:f}") | values.map(lambda value: f"{value:E}") | zeros


ANY = JSON_TEXTS | st.sampled_from(
    ["-0", "1.10", "1E400", '{ "b" : 1.10, "b":[ 1e2,12345678901234567890123 ] }', '"\\u00e9"']
)
FLOATS = (
    DOUBLES.map(repr)
    | LONGS.map(str)
    | decimals(25, 12).map(lambda value: f"{value:f}")
    | st.sampled_from(["-0", "-0.0", "1E+2", "5e-324", "1e-400", "Infinity", "-Infinity", "NaN"])
)
INTEGERS = (
    LONGS.map(str)
    | st.integers(-(10**6), 10**6).map(lambda value: f"{value}.0")
    | st.integers(-(10**15), 10**15).map(lambda value: f"{value}E+3")
    | st.sampled_from(["-0", "0e9", "-0.0"])
)
WIDE = st.integers(1 - 10**38, 10**38 - 1).map(str)
ZONES = st.integers(-1439, 1439).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
SEPARATORS = st.sampled_from(["T", " "])
LOCAL = st.builds(lambda at, sep: at.isoformat(sep=sep), st.datetimes(), SEPARATORS)
MOMENTS = st.builds(
    lambda at, zone, sep: at.replace(tzinfo=zone).isoformat(sep=sep),
    st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29)),
    st.none() | ZONES,
    SEPARATORS,
)
BASE64 = st.binary(max_size=12).map(lambda data: base64.b64encode(data).decode())
STAMP = "timestamp[us, tz=UTC]"
WORDS = quoted(TEXT)


def number(numbers: Numbers) -> tuple[str, Texts, Callable[[Any], Any]]:
    """Return what a number becomes whose schema says nothing of its digits."""
    if numbers == "decimal":
        return "decimal128(38, 9)", fixed(38, 9), exact
    if numbers == "text":
        return JSON, FLOATS.filter(lambda text: not text.endswith(("N", "y"))), Kept
    return "double", FLOATS, float


def leaves(numbers: Numbers) -> st.SearchStrategy[Tree]:
    """Trees of one value."""
    any_number = number(numbers)
    text = {"type": "string"}
    money = {"type": "number", "multipleOf": 0.01}
    exactly = {"type": "string", "format": "singer.decimal"}
    trees = [
        typed({"type": "boolean"}, "bool", st.sampled_from(["true", "false"]), bool),
        typed({"enum": [True, None]}, "bool", st.sampled_from(["true", "false"]), bool),
        typed({"type": "integer"}, "int64", INTEGERS, whole),
        typed({"type": "number", "airbyte_type": "integer"}, "int64", INTEGERS, whole),
        typed({"type": "integer", "maximum": 2**63 - 1}, "int64", INTEGERS, whole),
        typed({"type": "integer", "maximum": 2**63}, "decimal128(38, 0)", WIDE, exact),
        typed({"type": "integer", "minimum": -1e30}, "decimal128(38, 0)", WIDE, exact),
        typed({"type": "string", "airbyte_type": "big_integer"}, "decimal128(38, 0)", plain_or_quoted(WIDE), exact),
        typed({"type": "number"}, *any_number),
        typed({"type": ["integer", "number"]}, *any_number),
        typed({"oneOf": [{"type": "integer"}, {"type": "number"}]}, *any_number),
        typed({"type": "number", "multipleOf": 0.05}, *any_number),
        typed(money, "decimal128(38, 2)", fixed(38, 2), exact),
        typed({"anyOf": [{"type": "integer"}, money]}, "decimal128(38, 2)", fixed(38, 2), exact),
        typed({"type": "number", "multipleOf": 1e-07}, "decimal128(38, 7)", fixed(38, 7), exact),
        typed({"type": "number", "multipleOf": 1}, "decimal128(38, 0)", fixed(38, 0), exact),
        typed(exactly, "decimal128(38, 9)", plain_or_quoted(fixed(38, 9)), exact),
        typed({**exactly, "multipleOf": 0.001}, "decimal128(38, 3)", plain_or_quoted(fixed(38, 3)), exact),
        typed({"type": "number", "airbyte_type": "big_number"}, "decimal128(38, 9)", fixed(38, 9), exact),
        typed(text, "string", WORDS, str),
        typed({**text, "format": "uuid"}, "string", WORDS, str),
        typed({"enum": ["a", "b"]}, "string", WORDS, str),
        typed({"const": "a"}, "string", WORDS, str),
        typed({"anyOf": [{**text, "format": "date"}, text]}, "string", WORDS, str),
        typed({**text, "airbyte_type": "time_with_timezone"}, "string", WORDS, str),
        typed({**text, "format": "date"}, "date32[day]", quoted(st.dates()), dt.date.fromisoformat),
        typed({**text, "format": "time"}, "time64[us]", quoted(st.times()), dt.time.fromisoformat),
        typed({**text, "format": "date-time"}, STAMP, quoted(MOMENTS), moment),
        typed({**text, "airbyte_type": "timestamp_with_timezone"}, STAMP, quoted(MOMENTS), moment),
        typed({**text, "airbyte_type": "timestamp_without_timezone", "format": "date-time"}, "timestamp[us]",
              quoted(LOCAL), dt.datetime.fromisoformat),
        typed({**text, "contentEncoding": "base64"}, "binary", quoted(BASE64), base64.b64decode),
        typed({**text, "airbyte_type": "binary_data"}, "binary", quoted(BASE64), base64.b64decode),
        typed({"$ref": WELL_KNOWN + "Number"}, "double", plain_or_quoted(FLOATS), float),
        typed({"$ref": WELL_KNOWN + "Integer"}, "int64", plain_or_quoted(INTEGERS), whole),
        typed({"$ref": WELL_KNOWN + "Date"}, "date32[day]", quoted(st.dates()), dt.date.fromisoformat),
        untyped({}, ANY),
        untyped(True, ANY),
        untyped({"type": "object"}),
        untyped({"type": "array", "items": {}}),
        untyped({"type": ["string", "integer"]}, ANY),
        untyped({"type": "object", "patternProperties": {"^a": {"type": "integer"}}}),
        untyped({"type": "object", "properties": {"a": text}, "additionalProperties": text}),
        untyped({"anyOf": [text, {"type": "object", "properties": {"a": text}}]}),
    ]  # fmt: skip
    return st.sampled_from(trees) | st.just(chain()) | declared()


@st.composite
def declared(draw: st.DrawFn) -> Tree:
    """Draw a decimal whose digits its schema says."""
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision))
    node = {"type": "string", "format": "x-singer.decimal", "precision": precision, "scale": scale}
    kind = f"decimal128({precision}, {scale})"
    return typed(node, kind, plain_or_quoted(fixed(precision, scale)), exact)


def chain() -> Tree:
    """Return an object that holds itself: from there on it is JSON text."""
    link = {"$ref": "#/definitions/link"}
    whole_link: Node = {"type": "object", "properties": {"v": {"type": "integer"}, "next": link}}
    inside = struct(
        {"v": typed({"type": "integer"}, "int64", INTEGERS, whole), "next": untyped({})}
    )
    return replace(inside, node=link, definitions={"link": whole_link})


# --- nesting ---------------------------------------------------------------------------------------------------------------


@st.composite
def key(draw: st.DrawFn, name: str) -> str:
    """Write a key, now and then with escapes where none are needed."""
    if draw(st.integers(0, 7)):
        return json.dumps(name, ensure_ascii=False)
    units = name.encode("utf-16-be")
    escapes = (f"\\u{units[at]:02x}{units[at + 1]:02X}" for at in range(0, len(units), 2))
    return '"' + "".join(escapes) + '"'


@st.composite
def objects(draw: st.DrawFn, members: Mapping[str, Tree]) -> str:
    """Write an object: some of the members in any order, null at times, other keys, and a key twice."""
    names = draw(st.permutations(list(members)))
    present = names[: draw(st.integers(0, len(names)))] if draw(st.booleans()) else names
    parts = [(name, draw(st.just("null") | members[name].texts)) for name in present]
    if present and not draw(st.integers(0, 7)):
        again = draw(st.sampled_from(present))
        parts.insert(0, (again, draw(ANY)))
    if not draw(st.integers(0, 3)):
        other = draw(NAMES.filter(lambda name: name not in members))
        parts.insert(draw(st.integers(0, len(parts))), (other, draw(ANY)))
    return joined("{}", [f"{draw(key(name))}{draw(SPACE)}:{text}" for name, text in parts], draw)


def joined(brackets: str, parts: list[str], draw: st.DrawFn) -> str:
    """Write members or elements with spaces around them, the same everywhere in one value."""
    space = draw(SPACE)
    return brackets[0] + ",".join(f"{space}{part}{space}" for part in parts) + brackets[1]


def struct(members: Mapping[str, Tree], **more: Any) -> Tree:
    """Return an object with properties."""

    def read(parsed: Object) -> dict[str, Any]:
        found = dict(parsed)
        return {name: tree.meaning(found.get(name)) for name, tree in members.items()}

    properties = {name: tree.node for name, tree in members.items()}
    kind = "struct", tuple((name, tree.kind) for name, tree in members.items())
    definitions = {k: v for tree in members.values() for k, v in tree.definitions.items()}
    node = {"type": "object", "properties": properties, **more}
    return Tree(node, kind, objects(members), read, definitions)


@st.composite
def arrays(draw: st.DrawFn, element: Tree) -> str:
    """Write an array, null among its elements."""
    return joined("[]", draw(st.lists(st.just("null") | element.texts, max_size=3)), draw)


def array(element: Tree) -> Tree:
    """Return an array of one type, or of what is kept as JSON text."""
    node = {"type": "array", "items": element.node}
    texts = arrays(element)
    if element.kind == JSON:
        return Tree(node, JSON, texts, Kept, element.definitions)

    def read(parsed: list[Any]) -> list[Any]:
        return [element.meaning(one) for one in parsed]

    return Tree(node, ("list", element.kind), texts, read, element.definitions)


@st.composite
def entries(draw: st.DrawFn, value: Tree) -> str:
    """Write an object with any keys, each once."""
    told = draw(st.dictionaries(NAMES, st.just("null") | value.texts, max_size=3))
    return joined("{}", [f"{draw(key(name))}:{text}" for name, text in told.items()], draw)


def mapping(value: Tree) -> Tree:
    """Return a map of one type, or of what is kept as JSON text."""
    node = {"type": "object", "additionalProperties": value.node}
    texts = entries(value)
    if value.kind == JSON:
        return Tree(node, JSON, texts, Kept, value.definitions)

    def read(parsed: Object) -> list[tuple[str, Any]]:
        return [(name, value.meaning(one)) for name, one in parsed]

    return Tree(node, ("map", "string", value.kind), texts, read, value.definitions)


@st.composite
def said_otherwise(draw: st.DrawFn, trees: st.SearchStrategy[Tree]) -> Tree:
    """Draw a tree and write its node in another way: with null in some place, as an alternative, by reference."""
    tree = draw(trees)
    node = tree.node
    way = draw(st.integers(0, 7))
    if way == 0 and isinstance(node, dict) and isinstance(node.get("type"), str | list):
        kinds = [node["type"]] if isinstance(node["type"], str) else node["type"]
        kinds = ["null", *kinds] if draw(st.booleans()) else [*kinds, "null"]
        return replace(tree, node={**node, "type": kinds})
    if way == 1:
        alternatives = draw(st.permutations([node, NULL] if draw(st.booleans()) else [node, node]))
        return replace(tree, node={draw(st.sampled_from(["anyOf", "oneOf"])): alternatives})
    if way == 2:
        return replace(tree, node={"allOf": [node]})
    if way == 3:
        name = "~/" + hashlib.sha256(json.dumps(node).encode()).hexdigest()[:8]
        reference = "#/definitions/" + name.replace("~", "~0").replace("/", "~1")
        return replace(tree, node={"$ref": reference}, definitions={**tree.definitions, name: node})
    return tree


def trees(numbers: Numbers) -> st.SearchStrategy[Tree]:
    """Trees of any shape."""

    def nested(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
        members = st.dictionaries(NAMES, inner, min_size=1, max_size=3)
        deeper = members.map(struct) | inner.map(array) | inner.map(mapping)
        return said_otherwise(deeper)

    return st.recursive(said_otherwise(leaves(numbers)), nested, max_leaves=6)


@st.composite
def streams(draw: st.DrawFn, numbers: Numbers, names: Texts = NAMES) -> Tree:
    """Draw the schema of a stream, its texts being records."""
    members = draw(st.dictionaries(names, trees(numbers), min_size=1, max_size=4))
    root = struct(members)
    definitions = {"unused": {"$ref": "nowhere.json"}, **root.definitions}
    return replace(root, node={**root.node, "definitions": definitions})


# --- comparing -------------------------------------------------------------------------------------------------------------


def differences(got: Any, wanted: Any, text: str, where: str = "") -> list[str]:
    """Return where a value read back is not what json read in the line ``text``. -0.0 is not 0.0, and NaN is NaN."""
    if isinstance(wanted, Kept):
        kept = isinstance(got, str) and got in text and read_json(got) == wanted.value
        return [] if kept else [f"{where}: {got!r} instead of {wanted}"]
    if type(got) is not type(wanted):
        return [f"{where}: {got!r} instead of {wanted!r}"]
    if isinstance(wanted, dict):
        if list(got) != list(wanted):
            return [f"{where}: {list(got)} instead of {list(wanted)}"]
        return [
            found
            for name in wanted
            for found in differences(got[name], wanted[name], text, f"{where}.{name}")
        ]
    if isinstance(wanted, list | tuple):
        if len(got) != len(wanted):
            return [f"{where}: {got!r} instead of {wanted!r}"]
        return [
            found
            for at, (one, other) in enumerate(zip(got, wanted, strict=True))
            for found in differences(one, other, text, f"{where}.{at}")
        ]
    same = repr(got) == repr(wanted) if isinstance(wanted, float) else got == wanted
    return [] if same else [f"{where}: {got!r} instead of {wanted!r}"]
