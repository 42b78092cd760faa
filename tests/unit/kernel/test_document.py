"""Files that people write: what is read, what is refused, and where."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dativo.kernel import document, limits
from dativo.kernel.document import Number, parse_yaml
from dativo.protocol.errors import ConfigError

FILE = Path("job.yaml")


def parse(text: str) -> document.Document:
    return parse_yaml(text.encode(), FILE, "job")


def test_values_and_places() -> None:
    found = parse('a: 1\nb:\n  - {x: "2", y: null}\n  - 2026-01-01\nc: |\n  text\n')
    assert found.value == {"a": 1, "b": [{"x": "2", "y": None}, "2026-01-01"], "c": "text\n"}
    where = found.where(("b", 0, "y"))
    assert (where.line, where.column, where.pointer) == (3, 14, "/b/0/y")


def test_a_place_that_is_not_there_is_that_of_its_parent() -> None:
    where = parse("a:\n  b: 1\n").where(("a", "missing"))
    assert (where.line, where.pointer) == (1, "/a/missing")


def test_pointer_escapes() -> None:
    assert document.pointer(("a/b", "c~d", 0)) == "/a~1b/c~0d/0"


@pytest.mark.parametrize(
    "text", ["1.10", "1e3", "-0", "0.1", "1E+2", "123456789012345678901234567890.5"]
)
def test_numbers_keep_their_text(text: str) -> None:
    assert document.canonical(parse(f"n: {text}").value) == f'{{"n":{text}}}'


def test_big_integers_are_exact() -> None:
    assert parse("n: 123456789012345678901234567890").value == {"n": 123456789012345678901234567890}


def test_number_survives_a_copy() -> None:
    import copy

    assert str(copy.deepcopy(Number("1.10"))) == "1.10"


@pytest.mark.parametrize(
    ("text", "message", "line", "column"),
    [
        ("a: no", "this word is", 1, 4),
        ("a: On", "this word is", 1, 4),
        ("on: 1", "this word is", 1, 1),
        ("a: True", "this word is", 1, 4),
        ("a: 010", "this number is not one", 1, 4),
        ("a: 0x1F", "this number is not one", 1, 4),
        ("a: 1_000", "this number is not one", 1, 4),
        ("a: .inf", "this number is not one", 1, 4),
        ("a: .5", "this number is not one", 1, 4),
        ("a: &x 1", "anchors are not allowed", 1, 4),
        ("a: *x", "aliases are not allowed", 1, 4),
        ("a: !!str x", "tags are not allowed", 1, 4),
        ("a: !x 1", "tags are not allowed", 1, 4),
        ("a: 1\na: 2", "key 'a' is there twice", 2, 1),
        ("1: 2", "a key must be a string", 1, 1),
        ("[a]: 2", "a key must be a string", 1, 1),
        ("a: 1\n---\nb: 2", "more than one document", 2, 1),
        ("a: [", "not YAML", 2, 1),
        ("a: b: c", "not YAML", 1, 5),
        ("\ta: 1", "not YAML", 1, 1),
    ],
)
def test_refused_with_line_and_column(text: str, message: str, line: int, column: int) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        parse(text)
    assert (error.value.where.line, error.value.where.column) == (line, column)


@pytest.mark.parametrize(
    "text", ["a: 'no'", 'a: "010"', "a: 'true'", "a: n", "a: norway", "a: 10.0.0.1"]
)
def test_quotes_and_words_are_text(text: str) -> None:
    value = parse(text).value
    assert isinstance(value, dict)
    assert isinstance(value["a"], str)


def test_bounds() -> None:
    deep = "[" * (limits.JOB_DEPTH + 1) + "]" * (limits.JOB_DEPTH + 1)
    with pytest.raises(ConfigError, match="nested deeper"):
        parse(deep)
    with pytest.raises(ConfigError, match="more than 50000 values"):
        parse("[" + "1," * limits.JOB_NODES + "1]")


def test_laughs_are_refused_before_they_grow() -> None:
    laughs = "a: &a [x, x]\n" + "".join(
        f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdef", "bcdefg", strict=True)
    )
    with pytest.raises(ConfigError, match="anchors"):
        parse(laughs)


def test_not_utf8() -> None:
    with pytest.raises(ConfigError, match="UTF-8") as error:
        parse_yaml(b"a: 1\nb: \xff", FILE, "job")
    assert error.value.where.line == 2


def test_an_empty_file_is_null() -> None:
    assert parse("").value is None
    assert parse("# only a comment\n").value is None


def test_too_large(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_bytes(b"#" * (limits.JOB_BYTES + 1))
    with pytest.raises(ConfigError, match="more than 1048576 bytes"):
        document.load_yaml(file, "job")


def test_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "job.yaml")
    with pytest.raises(ConfigError, match="not a regular file"):
        document.load_yaml(tmp_path / "job.yaml", "job")


def test_digest_ignores_order_and_comments_but_no_value() -> None:
    one = parse("a: 1\nb: 2 # x\n").digest()
    assert parse("{b: 2, a: 1}").digest() == one
    assert parse("{b: 2.0, a: 1}").digest() != one


def test_write_atomic_leaves_nothing_behind(tmp_path: Path) -> None:
    document.write_atomic(tmp_path / "x", "one")
    document.write_atomic(tmp_path / "x", "two")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("x", "two")]


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    try:
        found = parse_yaml(data, FILE, "job")
    except ConfigError as error:
        assert error.where.file == "job.yaml"
    else:
        document.canonical(found.value)
