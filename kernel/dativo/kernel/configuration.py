"""A connector's configuration in a file of its own, as the command line names it: one JSON object.

Secrets stand in it as references, ``{"secret": "env://NAME"}``, as in a job; what stands there plainly is taken too, since the
file is the operator's. The connector gets its configuration as a private file and in no other way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from dativo.kernel import secrets
from dativo.kernel.document import Location, load_json, pointer, read_bounded
from dativo.kernel.expansion import SECRET_KEY
from dativo.kernel.limits import MAX_DOCUMENT_BYTES
from dativo.kernel.secrets import SecretRef
from dativo.protocol import jsontext
from dativo.protocol.airbyte import Spec
from dativo.protocol.errors import ConfigError, Where


@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration as it is written. ``identity`` tells this version of the file from every other, without its contents."""

    file: Path | None
    value: dict[str, Any] = field(repr=False)
    references: tuple[SecretRef, ...]
    identity: bytes

    def where(self, location: Location = ()) -> Where:
        """Return the place of a part of it."""
        return Where(
            file=str(self.file) if self.file is not None else None,
            pointer=pointer(location) or None,
        )

    def filled(self, values: secrets.Secrets) -> bytes:
        """Return the JSON for the connector's private file."""
        return secrets.inject(self.value, values)

    def plain_secrets(self, spec: Spec) -> Iterator[str]:
        """Yield the values that the connector's SPEC calls secret and the file holds plainly."""
        for path in spec.secrets:
            yield from _strings_at(self.value, path)


def load(file: Path | None) -> Configuration:
    """Read the configuration ``file``; None is the empty one. Raises ConfigError with file and place."""
    if file is None:
        return Configuration(None, {}, (), b"")
    if str(file) == "-":
        raise ConfigError("a configuration is a file, not stdin", hint="Write its path")
    value = load_json(file, "config", MAX_DOCUMENT_BYTES).value
    where = Where(file=str(file))
    if not isinstance(value, dict) or value.keys() == {SECRET_KEY}:
        raise ConfigError("the configuration is not one JSON object", where)
    found: dict[SecretRef, None] = {}
    filled = _with_references(value, (), file, found)
    status = file.stat()
    facts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    identity = hashlib.sha256(f"{file.resolve()}\0{facts}".encode("utf-8", "surrogateescape"))
    return Configuration(file, filled, tuple(found), identity.digest())


def _with_references(
    value: Any, location: Location, file: Path, found: dict[SecretRef, None]
) -> Any:
    """Return ``value`` with every ``{"secret": reference}`` as a SecretRef; each is added to ``found``."""
    if isinstance(value, dict):
        if value.keys() == {SECRET_KEY}:
            place = pointer((*location, SECRET_KEY))
            reference = SecretRef.parse(value[SECRET_KEY], Where(file=str(file), pointer=place))
            found[reference] = None
            return reference
        return {
            key: _with_references(item, (*location, key), file, found)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [
            _with_references(item, (*location, index), file, found)
            for index, item in enumerate(value)
        ]
    return value


def _strings_at(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    """Yield every text at ``path`` and below it."""
    if path:
        if isinstance(value, dict) and path[0] in value:
            yield from _strings_at(value[path[0]], path[1:])
    elif isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings_at(inner, ())


def document_of_user(file: Path, what: str) -> str:
    """Return the text of a catalogue or state file. Raises ConfigError."""
    if str(file) == "-":
        raise ConfigError(f"a {what} is a file, not stdin", hint="Write its path")
    try:
        return read_bounded(file, what, MAX_DOCUMENT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the {what} is not UTF-8", Where(file=str(file))) from error


def check_types(spec: Spec, filled: bytes, where: Where, name: str) -> None:
    """Hold a configuration, ``name`` in errors, against the connector's SPEC: top-level keys that are missing or mistyped.

    A full JSON Schema of a plugin is hostile (patterns, references), so only what is linear is looked at; the connector's own
    ``check`` does the rest. Raises ConfigError that names the key and never its value.
    """
    schema = spec.connection_specification
    given = jsontext.loads(filled.decode(), name)
    if not isinstance(schema, dict) or not isinstance(given, dict):
        return
    required = schema.get("required")
    for key in required if isinstance(required, list) else ():
        if isinstance(key, str) and key not in given:
            raise ConfigError(f"{name} lacks {key!r}, which the connector requires", where)
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return
    for key, value in given.items():
        node = properties.get(key)
        kind = node.get("type") if isinstance(node, dict) else None
        if isinstance(kind, str) and not _is(kind, value):
            raise ConfigError(f"{name}.{key} is not of type {kind}", where)


def _is(kind: str, value: jsontext.Json) -> bool:
    if kind in ("integer", "number"):
        numbers = int if kind == "integer" else int | Decimal
        return isinstance(value, numbers) and not isinstance(value, bool)
    known = {"boolean": bool, "string": str, "object": dict, "array": list}
    return isinstance(value, known.get(kind, object))
