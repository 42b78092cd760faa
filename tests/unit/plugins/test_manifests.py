"""Avro schemas of manifests: no name is defined twice."""

from typing import Any

from dativo.plugins.iceberg.manifests import named_once


def fixed(name: str) -> dict[str, Any]:
    return {"type": "fixed", "size": 16, "name": name}


def test_only_what_is_defined_again_gets_another_name() -> None:
    def fields(*names: str) -> dict[str, Any]:
        return {"type": "record", "fields": [{"type": ["null", fixed(name)]} for name in names]}

    before = fields("a", "b", "a", "a_2", "a")
    assert named_once(before, set()) == fields("a", "b", "a_2", "a_2_2", "a_3")
    assert before == fields("a", "b", "a", "a_2", "a")
