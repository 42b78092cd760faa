"""Layouts: what a job may say of partitions and sort orders, which one holds for a stream, and what the committer is told."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dativo.kernel import limits
from dativo.kernel.contracts import REJECTS
from dativo.kernel.job import load_job
from dativo.kernel.landing import Input, Table, rules_of_tables
from dativo.kernel.layouts import (
    Layout,
    Layouts,
    PartitionField,
    SortField,
    partition_field,
    sort_field,
)
from dativo.kernel.target_config import json_schema
from dativo.kernel.target_config import load as load_config
from dativo.protocol.catalog import CatalogStream
from dativo.protocol.errors import ConfigError, Where
from dativo.protocol.layouts import is_transform
from dativo.protocol.state import Stream

ORDERS = Stream("", "orders")
JOB = """\
pipeline: shop
source: {connector: ./plugins/mine}
target: {connector: iceberg, config: {warehouse: ./lake, namespace: shop}}
layout:
"""


def load(folder: Path, text: str, head: str = JOB) -> Layouts:
    (folder / "job.yaml").write_text(head + text)
    return load_job(folder / "job.yaml", {}).layouts


def test_a_layout_of_a_job(tmp_path: Path) -> None:
    layout = load(
        tmp_path,
        '  orders: {partition_by: [day(created_at), "bucket(16, id)"], sort_by: [id, created_at desc]}\n',
    ).of(ORDERS)
    assert layout.to_committer() == {
        "partition": [
            {"property": "created_at", "transform": "day"},
            {"property": "id", "transform": "bucket[16]"},
        ],
        "sort": [
            {"property": "id", "descending": False, "nulls_first": True},
            {"property": "created_at", "descending": True, "nulls_first": False},
        ],
    }
    assert layout.document() == {
        "partition_by": ["day(created_at)", "bucket(16, id)"],
        "sort_by": ["id", "created_at desc"],
    }


def test_the_job_of_the_guide(tmp_path: Path) -> None:
    guide = Path(__file__).parents[3] / "docs/guide/layout.md"
    job = re.search(r"^```yaml\n(.*?)^```$", guide.read_text(), re.M | re.S)
    assert job is not None
    assert load(tmp_path, job[1], "").of(ORDERS).document() == {
        "partition_by": ["day(created_at)", "bucket(16, id)"],
        "sort_by": ["country", "id desc"],
    }


def test_what_is_absent_is_not_said_and_an_empty_list_is(tmp_path: Path) -> None:
    layouts = load(tmp_path, "  a: {}\n  b: {sort_by: []}\n  c: {partition_by: []}\n")
    said = [layouts.of(Stream("", name)).to_committer() for name in "abcd"]
    assert said == [{}, {"sort": []}, {"partition": []}, {}]


def test_the_last_pattern_that_meets_a_stream_holds_as_a_whole(tmp_path: Path) -> None:
    layouts = load(tmp_path, '  "*": {partition_by: [a], sort_by: [b]}\n  ord*: {sort_by: [c]}\n')
    assert layouts.of(ORDERS) == Layout(sort=(SortField("c"),))
    assert layouts.of(Stream("x", "orders")).partition == (PartitionField("a"),)
    assert layouts.of(REJECTS) == Layout()


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("country", PartitionField("country")),
        (" année ", PartitionField("année")),
        ("day", PartitionField("day")),
        ('"order id"', PartitionField("order id")),
        ('"say ""a"""', PartitionField('say "a"')),
        ("year(at)", PartitionField("at", "year")),
        ("month( at )", PartitionField("at", "month")),
        ('day("day")', PartitionField("day", "day")),
        ("hour (at)", PartitionField("at", "hour")),
        ("bucket(016,id)", PartitionField("id", "bucket[16]")),
        ("bucket( 2147483647 , id)", PartitionField("id", "bucket[2147483647]")),
        ('truncate(1, "a, b")', PartitionField("a, b", "truncate[1]")),
    ],
)
def test_items_of_partition_by(text: str, field: PartitionField) -> None:
    assert partition_field(text) == field


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("id", SortField("id")),
        ("id asc", SortField("id")),
        ("id desc", SortField("id", descending=True, nulls_first=False)),
        ("id nulls last", SortField("id", nulls_first=False)),
        ("id  DESC  NULLS FIRST", SortField("id", descending=True)),
        ("desc desc", SortField("desc", descending=True, nulls_first=False)),
        ('"a desc" asc', SortField("a desc")),
    ],
)
def test_items_of_sort_by(text: str, field: SortField) -> None:
    assert sort_field(text) == field


NAMES = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=20)
NUMBERS = st.integers(1, 2**31 - 1)


@given(
    st.builds(
        PartitionField,
        NAMES,
        st.sampled_from(["identity", "year", "month", "day", "hour"])
        | NUMBERS.map("bucket[{}]".format)
        | NUMBERS.map("truncate[{}]".format),
    )
)
def test_every_partition_is_read_as_it_is_written(field: PartitionField) -> None:
    assert partition_field(str(field)) == field


@given(st.builds(SortField, NAMES, st.booleans(), st.booleans()))
def test_every_sort_is_read_as_it_is_written(field: SortField) -> None:
    assert sort_field(str(field)) == field


@given(st.text(max_size=40) | st.from_regex(r"\w*\((-?\d*,)? *\"?\w*\"?\)", fullmatch=True))
def test_any_text_is_a_field_or_an_error(text: str) -> None:
    try:
        field = partition_field(text)
    except ConfigError:
        return
    assert is_transform(field.transform) and field.property


@pytest.mark.parametrize(
    ("said", "message", "pointer", "value"),
    [
        ('{partition_by: ["day(a"]}', "expected a column, year", "partition_by/0", "day(a"),
        ('{partition_by: [a, "week(b)"]}', "'week' is no transform", "partition_by/1", "week(b)"),
        ('{partition_by: ["day(3, a)"]}', "a column alone", "partition_by/0", "day(3, a)"),
        ("{partition_by: [bucket(a)]}", "takes a number from 1", "partition_by/0", "bucket(a)"),
        ('{partition_by: ["bucket(0, a)"]}', "takes a number", "partition_by/0", "bucket(0, a)"),
        (
            '{partition_by: ["truncate(2147483648, a)"]}',
            "to 2147483647",
            "partition_by/0",
            "truncate(2147483648, a)",
        ),
        ("{partition_by: [address.zip]}", "expected a column", "partition_by/0", "address.zip"),
        ("{partition_by: [1]}", "expected a text", "partition_by/0", "1"),
        ("{partition_by: a}", "expected a list", "partition_by", "a"),
        ("{partition_by: [a, b, a]}", "'a' is named twice", "partition_by", None),
        ("{partition_by: [day(a), hour(a)]}", "'a' is named twice", "partition_by", None),
        ("{sort_by: [a down]}", "expected a column, then asc", "sort_by/0", "a down"),
        ("{sort_by: [day(a)]}", "expected a column, then asc", "sort_by/0", "day(a)"),
        ("{sort_by: [a, a desc]}", "'a' is named twice", "sort_by", None),
        ("{order_by: [a]}", "unknown key `order_by`", "order_by", None),
    ],
)
def test_what_no_layout_may_say(
    tmp_path: Path, said: str, message: str, pointer: str, value: str | None
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        load(tmp_path, f"  orders: {said}\n")
    assert error.value.where.pointer == f"/layout/orders/{pointer}"
    assert error.value.value == value


def test_a_comma_that_parted_an_item_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, "  orders: {partition_by: [bucket(16, id)]}\n")
    assert "put quotes around the whole" in str(error.value.hint)


def test_at_most_sixteen_fields(tmp_path: Path) -> None:
    many = [f"a{n}" for n in range(17)]
    assert len(load(tmp_path, f"  o: {{sort_by: {many[1:]}}}").of(Stream("", "o")).properties) == 16
    with pytest.raises(ConfigError, match="0 to 16 items"):
        load(tmp_path, f"  o: {{sort_by: {many}}}")
    with pytest.raises(ConfigError, match="at most 1024 characters"):
        load(tmp_path, f"  o: {{sort_by: [{'a' * 1025}]}}")


def test_a_foreign_target_has_no_layout(tmp_path: Path) -> None:
    head = "pipeline: shop\nsource: {connector: ./mine}\ntarget: {connector: ./other}\nlayout:\n"
    with pytest.raises(ConfigError, match="a foreign target has its own") as error:
        load(tmp_path, "  orders: {}", head)
    assert error.value.where.pointer == "/layout"


def test_a_pattern_that_meets_no_stream_is_an_error() -> None:
    layouts = Layouts((("*", Layout()), ("order", Layout())))
    with pytest.raises(ConfigError, match="the layout of 'order' meets no stream"):
        layouts.check([ORDERS, REJECTS], Where(pointer="/layout"))
    layouts.check([Stream("", "order")], Where())


ENTRY = CatalogStream(
    ORDERS, "{}", '{"properties": {"id": {}, "at": {}, "ssn": {}}}', ("id",), incremental=False
)


def test_properties_that_the_stream_has() -> None:
    Layouts(
        (("*", Layout((PartitionField("id"),), (SortField("_sdc_x"), SortField("at")))),)
    ).check_properties(ENTRY, Where())
    # What nobody knows is the committer's to say.
    unknown = replace(ENTRY, json_schema="{}")
    Layouts((("*", Layout((PartitionField("x"),))),)).check_properties(unknown, Where())
    # A key is read whatever the job says.
    Layouts((("*", Layout((PartitionField("id"),))),)).check_properties(
        replace(ENTRY, deselected=frozenset({"id"})), Where()
    )


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("ID", "no property 'ID'", "It has: id, at, ssn"),
        ("ssn", "'ssn' is left out", "source.streams"),
    ],
)
def test_properties_that_rows_will_not_have(name: str, message: str, hint: str) -> None:
    left_out = replace(ENTRY, deselected=frozenset({"ssn"}))
    for layout in (Layout((PartitionField(name),)), Layout(sort=(SortField(name),))):
        with pytest.raises(ConfigError, match=message) as error:
            Layouts((("ord*", layout),)).check_properties(left_out, Where())
        assert error.value.value == name and hint in str(error.value.hint)
    Layouts((("users", Layout((PartitionField(name),))),)).check_properties(left_out, Where())


def test_the_committer_is_told_of_streams_with_a_layout_alone() -> None:
    source = Input(
        "airbyte",
        (Table(Stream("", "users"), ()), Table(ORDERS, ("id",))),
        limits.ReadLimits(),
        layouts=Layouts((("users", Layout()), ("orders", Layout(sort=(SortField("id"),))))),
    )
    told: Any = rules_of_tables(source)
    assert [each["stream"]["name"] for each in told["contracts"]] == ["orders", "users"]
    assert told["layouts"] == [
        {
            "stream": ORDERS.to_event(),
            "sort": [{"property": "id", "descending": False, "nulls_first": True}],
        }
    ]


def test_a_standalone_target_takes_layouts(tmp_path: Path) -> None:
    said: dict[str, Any] = {"path": "lake", "layout": {"orders": {"partition_by": ["day(at)"]}}}
    (tmp_path / "c.json").write_text(json.dumps(said))
    config = load_config("c.json", "parquet", tmp_path)
    assert config.layouts.of(ORDERS) == Layout((PartitionField("at", "day"),))
    validator = jsonschema.Draft7Validator(json_schema("parquet", "singer"))
    validator.validate(said)
    said["layout"]["orders"]["partition_by"] = ["week(at)"]
    (tmp_path / "c.json").write_text(json.dumps(said))
    with pytest.raises(ConfigError, match="'week' is no transform") as error:
        load_config("c.json", "parquet", tmp_path)
    assert error.value.where.pointer == "/layout/orders/partition_by/0"
    said["layout"]["orders"]["partition_by"] = "at"
    assert not validator.is_valid(said)
