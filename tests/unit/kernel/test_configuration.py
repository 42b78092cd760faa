"""Configurations in files of their own: references, places, and what tells one version of a file from the next."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dativo.kernel import configuration
from dativo.kernel.secrets import SecretRef, Secrets
from dativo.protocol.airbyte import Spec
from dativo.protocol.errors import ConfigError, Where


def written(tmp_path: Path, value: Any, name: str = "c.json") -> Path:
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_references_are_found_and_filled(tmp_path: Path) -> None:
    token, key = SecretRef("env", "TOKEN"), SecretRef("file", "/run/key")
    value = {
        "a": {"secret": "env://TOKEN"},
        "deep": [{"b": {"secret": "file:///run/key"}}, {"secret": "env://TOKEN"}],
        "secret": "a plain text",
        "number": 1,
    }
    found = configuration.load(written(tmp_path, value))
    assert found.references == (token, key)
    filled = json.loads(found.filled(Secrets({token: "t", key: 'k"'})))
    assert filled == {"a": "t", "deep": [{"b": 'k"'}, "t"], "secret": "a plain text", "number": 1}
    assert "a plain text" not in repr(found)


def test_numbers_keep_their_digits(tmp_path: Path) -> None:
    found = configuration.load(written(tmp_path, '{"a": 1.50, "b": 12345678901234567890123}'))
    assert found.filled(Secrets()) == b'{"a":1.50,"b":12345678901234567890123}'


def test_no_file_is_the_empty_configuration() -> None:
    assert configuration.load(None).filled(Secrets()) == b"{}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "not one JSON object"),
        ('{"secret": "env://X"}', "not one JSON object"),
        ("{", "not JSON"),
        ('{"a": 1, "a": 2}', "duplicate key"),
        ('{"a": NaN}', "NaN"),
        ('{"a": {"b": [{"secret": "hunter2-hunter2"}]}}', "not a reference"),
        ('{"a": {"secret": "vault://x"}}', "not built yet"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as error:
        configuration.load(path)
    assert error.value.where.file == str(path)
    assert "hunter2" not in str(error.value) + str(error.value.value)
    if "hunter2" in text:
        assert error.value.where.pointer == "/a/b/0/secret"


def test_stdin_is_no_file(tmp_path: Path) -> None:
    for call in (configuration.load, lambda file: configuration.document_of_user(file, "state")):
        with pytest.raises(ConfigError, match="not stdin"):
            call(Path("-"))
    (tmp_path / "bad").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="the state is not UTF-8"):
        configuration.document_of_user(tmp_path / "bad", "state")


def test_the_identity_is_that_of_the_file_and_not_of_its_contents(tmp_path: Path) -> None:
    path = written(tmp_path, {"password": "one"})
    first = configuration.load(path).identity
    assert configuration.load(path).identity == first
    status = path.stat()
    path.write_text(json.dumps({"password": "two"}))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert configuration.load(path).identity != first
    same = written(tmp_path, {"password": "one"}, "other.json")
    assert configuration.load(same).identity != first


SPEC = Spec.from_text(
    json.dumps(
        {
            "connectionSpecification": {
                "type": "object",
                "required": ["rows"],
                "properties": {
                    "rows": {"type": "integer"},
                    "rate": {"type": "number"},
                    "token": {"type": "string", "airbyte_secret": True},
                    "auth": {
                        "oneOf": [
                            {"properties": {"key": {"type": "string", "airbyte_secret": True}}}
                        ]
                    },
                },
            }
        }
    )
)


def test_plain_values_that_the_spec_calls_secret_are_known(tmp_path: Path) -> None:
    value = {"rows": 1, "token": "t0ken", "auth": {"key": ["k1", {"x": "k2"}], "user": "me"}}
    found = configuration.load(written(tmp_path, value))
    assert sorted(found.plain_secrets(SPEC)) == ["k1", "k2", "t0ken"]
    reference = configuration.load(written(tmp_path, {"token": {"secret": "env://T"}}))
    assert list(reference.plain_secrets(SPEC)) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "lacks 'rows'"),
        ({"rows": "seven-and-secret"}, "config.rows is not of type integer"),
        ({"rows": True}, "config.rows is not of type integer"),
        ({"rows": 1, "rate": "fast"}, "config.rate is not of type number"),
        ({"rows": 1, "rate": 1.5, "token": "x", "more": None}, None),
        ({"rows": 1, "rate": 2}, None),
    ],
)
def test_types_are_held_against_the_spec(value: Any, message: str | None) -> None:
    filled = json.dumps(value).encode()
    if message is None:
        configuration.check_types(SPEC, filled, Where(file="c.json"), "config")
        return
    with pytest.raises(ConfigError, match=message) as error:
        configuration.check_types(SPEC, filled, Where(file="c.json"), "config")
    assert "secret" not in str(error.value)
