"""Airbyte's protocol as JSON Schema: set DATIVO_CORPORA to the folder of public test data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

PAYLOADS = {
    "RECORD": "record",
    "STATE": "state",
    "LOG": "log",
    "TRACE": "trace",
    "SPEC": "spec",
    "CATALOG": "catalog",
    "CONTROL": "control",
    "CONNECTION_STATUS": "connectionStatus",
}


@cache
def _validator() -> Draft7Validator:
    folder = os.environ.get("DATIVO_CORPORA")
    if not folder:
        pytest.skip("DATIVO_CORPORA names no folder of public test data")
    path = Path(folder, "airbyte-protocol/airbyte_protocol.yaml")
    schema: dict[str, Any] = yaml.safe_load(path.read_text())
    Draft7Validator.check_schema(schema)
    definitions = schema["definitions"]
    return Draft7Validator({"$ref": "#/definitions/AirbyteMessage", "definitions": definitions})


def check(lines: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Hold every line against the protocol; return the payloads by type."""
    validator = _validator()
    found: dict[str, list[dict[str, Any]]] = {}
    for number, line in enumerate(lines, 1):
        message = json.loads(line)
        wrong = [error.message for error in validator.iter_errors(message)]
        assert wrong == [], (number, line[:500])
        payload = message[PAYLOADS[message["type"]]]
        found.setdefault(message["type"], []).append(payload)
    return found
