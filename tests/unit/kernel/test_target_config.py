"""The configuration of the standalone targets: what is taken, what is refused and by which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dativo.kernel import target_config
from dativo.kernel.target_config import Target
from dativo.protocol.errors import ConfigError


def load(folder: Path, said: Any, target: Target = "parquet") -> target_config.TargetConfig:
    (folder / "c.json").write_text(json.dumps(said))
    return target_config.load("c.json", target, folder)


def test_a_path_is_enough_for_parquet(tmp_path: Path) -> None:
    config = load(tmp_path, {"path": "./lake"})
    assert config.warehouse == tmp_path / "lake"
    assert (config.namespace, config.pipeline) == ("main", "pipe")
    assert (config.mode, config.eof, config.strict) == ("append", None, False)


def test_everything_can_be_said(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        {
            "warehouse": "/srv/lake",
            "namespace": "shop",
            "pipeline": "orders",
            "mode": "overwrite",
            "eof": "commit",
            "strict": True,
            "epoch": {"rows": 5, "bytes": "1MiB", "time": "10s"},
            "limits": {"max_line_bytes": "64KiB", "max_depth": 8},
        },
        "iceberg",
    )
    assert str(config.warehouse) == "/srv/lake" and config.namespace == "shop"
    assert (config.pipeline, config.mode, config.eof, config.strict) == (
        "orders",
        "overwrite",
        "commit",
        True,
    )
    assert (config.epoch.max_rows, config.epoch.max_bytes, config.epoch.max_seconds) == (
        5,
        1 << 20,
        10,
    )
    assert (config.limits.max_line_bytes, config.limits.max_depth) == (64 << 10, 8)


def test_a_relative_path_starts_at_the_current_folder_and_leads_through_links(
    tmp_path: Path,
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert load(tmp_path, {"path": "link/lake"}).warehouse == tmp_path / "real/lake"


BAD: list[tuple[Target, Any, str, str | None]] = [
    ("parquet", {}, "`path` is missing", None),
    ("parquet", [], "expected one JSON object", None),
    ("parquet", {"pat": "./x"}, "unknown key `pat`", "path"),
    ("parquet", {"path": "./x", "warehouse": "./y"}, "unknown key `warehouse`", None),
    ("iceberg", {"warehouse": "./x"}, "`namespace` is missing", None),
    ("iceberg", {"path": "./x", "namespace": "a"}, "unknown key `path`", None),
    ("parquet", {"path": 3}, "`path`: expected a path", None),
    ("parquet", {"path": "./x", "eof": "drop"}, "`eof`: is not known", "commit, checkpoint"),
    ("parquet", {"path": "./x", "strict": "yes"}, "`strict`: expected true or false", None),
    ("parquet", {"path": "./x", "pipeline": "A b"}, "`pipeline`: expected a name", None),
    ("parquet", {"path": "./x", "namespace": "../up"}, "`namespace`: expected a letter", None),
    ("parquet", {"path": "./x", "epoch": {"row": 1}}, "unknown key `row`", "rows"),
    ("parquet", {"path": "./x", "limits": {"max_depth": 1}}, "`max_depth`: expected a", None),
    ("parquet", {"path": "./x", "cgroup": "degraded"}, "unknown key `cgroup`", None),
    ("parquet", {"path": "./x", "load_method": "upsert"}, "not built yet", "append-only"),
    ("parquet", {"path": "./x", "mode": "overwrite", "load_method": "append-only"}, "says", None),
    ("parquet", {"path": "./x", "add_record_metadata": True, "metadata": "none"}, "says", None),
    ("parquet", {"path": "./x", "metadata": "sdc"}, "`metadata`: is not known", "singer"),
    ("parquet", {"path": "./x", "flattening_enabled": True}, "flattening is not built", None),
    ("parquet", {"path": "./x", "stream_maps": {"a": None}}, "stream maps", None),
    ("parquet", {"path": "./x", "batch_config": {"encoding": {}}}, "BATCH", None),
    ("parquet", {"path": "./x", "process_activate_version_messages": False}, "switched off", None),
    ("parquet", {"path": "./x", "add_record_metadata": 0}, "expected true or false", None),
]


@pytest.mark.parametrize(("target", "said", "message", "hint"), BAD, ids=[str(b[1]) for b in BAD])
def test_what_does_not_fit_is_refused_by_name(
    tmp_path: Path, target: Target, said: Any, message: str, hint: str | None
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, said, target)
    assert message in caught.value.message
    assert str(tmp_path / "c.json") == caught.value.where.file
    assert hint is None or hint in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["", "{", '{"path": "a", "path": "b"}', "{}x", "\xff"])
def test_what_is_no_json_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        target_config.load("c.json", "parquet", tmp_path)
    assert caught.value.where.file == str(tmp_path / "c.json")


def test_the_environment_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ENV"):
        target_config.load("ENV", "parquet", tmp_path)


@pytest.mark.parametrize(
    ("said", "metadata"),
    [
        ({}, "none"),
        ({"metadata": "airbyte"}, "airbyte"),
        ({"add_record_metadata": True}, "singer"),
        ({"add_record_metadata": True, "metadata": "singer"}, "singer"),
        ({"add_record_metadata": False, "metadata": "dativo"}, "dativo"),
    ],
)
def test_metadata_columns_go_by_our_name_or_by_the_sdk_s(
    tmp_path: Path, said: Any, metadata: str
) -> None:
    assert load(tmp_path, {"path": "./lake", **said}).metadata == metadata


def test_what_every_sdk_target_is_told_is_taken(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        {
            "path": "./lake",
            "add_record_metadata": False,
            "load_method": "append-only",
            "batch_size_rows": 10000,
            "validate_records": True,
            "hard_delete": True,
            "flattening_enabled": False,
            "flattening_max_depth": 3,
            "process_activate_version_messages": True,
            "stream_maps": {},
            "default_target_schema": "tap_shop",
            "stream_map_config": None,
        },
    )
    assert config.namespace == "tap_shop"
    assert config.epoch.max_rows == 10000
    assert any("validate_records" in notice for notice in config.notices)
    assert not any("stream_map_config" in notice for notice in config.notices)


def test_our_own_names_win_over_the_sdk_s(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        {
            "path": "x",
            "namespace": "ours",
            "default_target_schema": "theirs",
            "epoch": {"rows": 7},
            "batch_size_rows": 3,
        },
    )
    assert (config.namespace, config.epoch.max_rows) == ("ours", 7)
    assert load(tmp_path, {"path": "x", "load_method": "overwrite"}).mode == "overwrite"


@pytest.mark.parametrize("target", ["parquet", "iceberg"])
@pytest.mark.parametrize("dialect", ["singer", "airbyte"])
def test_the_schema_that_is_shown_is_one_and_every_setting_of_it_is_read(
    tmp_path: Path, target: Target, dialect: Any
) -> None:
    schema = target_config.json_schema(target, dialect)
    jsonschema.Draft7Validator.check_schema(schema)
    properties: Any = schema["properties"]
    assert ("mode" in properties) == (dialect == "singer")
    values = {"string": "x", "boolean": False, "integer": 5, "object": {}}
    said = {
        name: node.get("default", node.get("enum", [values.get(str(node["type"]), 5)])[0])
        for name, node in properties.items()
    }
    said = {key: value for key, value in said.items() if key != "mode"}
    jsonschema.validate(said, schema)
    assert load(tmp_path, said, target).warehouse == tmp_path / "x"


def test_every_setting_is_in_the_docs() -> None:
    told = (Path(__file__).parents[3] / "docs/spec/standalone.md").read_text()
    for target in ("parquet", "iceberg"):
        for dialect in ("singer", "airbyte"):
            for setting in target_config.settings(target, dialect):
                assert f"`{setting.name}" in told, setting.name
