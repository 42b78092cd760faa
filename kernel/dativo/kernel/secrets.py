"""Secrets: references in a job, values from where the operator keeps them, and their removal from every text that is shown.

A value goes into one private file and nowhere else: not into arguments, an environment, a log, the ledger or a report.
``vault://`` and cloud secret stores are not built yet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from dativo.kernel import limits
from dativo.kernel.document import read_bounded
from dativo.protocol import jsontext
from dativo.protocol.errors import ConfigError, DativoError, NotPermitted, Where

_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
REDACTED: Final = "[secret]"
SHORTEST_CUT_OFF: Final = 3


@dataclass(frozen=True, slots=True, order=True)
class SecretRef:
    """Where a secret is: ``env://NAME`` or ``file:///absolute/path``. Never its value."""

    scheme: str
    name: str

    @classmethod
    def parse(cls, text: object, where: Where | None = None) -> SecretRef:
        """Return the reference that ``text`` writes. Raises ConfigError, never showing ``text``."""
        where = where or Where()
        hint = "Write env://NAME or file:///absolute/path; a secret itself never stands in a job"
        if not isinstance(text, str):
            raise ConfigError("`secret` must be a reference", where, hint=hint)
        scheme, separator, name = text.partition("://")
        if separator and scheme == "env" and _ENV_NAME.fullmatch(name):
            return cls(scheme, name)
        if separator and scheme == "file" and name.startswith("/") and "\0" not in name:
            if os.path.normpath(name) != name or name == "/":
                raise ConfigError("the path of a secret must be absolute and plain", where)
            return cls(scheme, name)
        if separator and scheme in ("vault", "openbao", "aws", "gcp"):
            raise ConfigError(f"secrets from {scheme}:// are not built yet", where, hint=hint)
        raise ConfigError("`secret` is not a reference that dativo knows", where, hint=hint)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.name}"


@dataclass(frozen=True, slots=True)
class Secrets:
    """The values of one process's references. They are shown by no ``repr``."""

    values: Mapping[SecretRef, str] = field(default_factory=dict, repr=False)

    def redactor(self) -> Redactor:
        """Return the redactor of these values."""
        return Redactor(self.values.values())


def resolve(
    refs: Iterable[SecretRef],
    env: Mapping[str, str],
    permitted: frozenset[str],
) -> Secrets:
    """Read the value of each of ``refs``.

    ``permitted`` holds the references that policy and approval list, as text. Raises NotPermitted for any other one, ConfigError
    when one is not set, empty, too large, or in a file that others can read.
    """
    values: dict[SecretRef, str] = {}
    for ref in refs:
        if str(ref) not in permitted:
            raise NotPermitted(
                f"secret {ref} is not approved", hint="The operator approves it: dativo grants show"
            )
        values[ref] = _environment(ref, env) if ref.scheme == "env" else _file(ref)
    return Secrets(values)


def _environment(ref: SecretRef, env: Mapping[str, str]) -> str:
    value = env.get(ref.name, "")
    if not value:
        raise ConfigError(f"secret {ref} is not set", hint=f"Set {ref.name} in the environment")
    if len(value.encode("utf-8", "surrogateescape")) > limits.SECRET_BYTES:
        raise ConfigError(f"secret {ref} has more than {limits.SECRET_BYTES} bytes")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"secret {ref} is not UTF-8") from None
    return value


def _file(ref: SecretRef) -> str:
    # A link is refused: where others may write its folder, they would choose which file root reads.
    data = read_bounded(
        Path(ref.name), f"secret {ref}", limits.SECRET_BYTES, private=True, follow=False
    )
    try:
        value = data.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"secret {ref} is not UTF-8") from None
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise ConfigError(f"secret {ref} is empty")
    return value


def inject(config: Any, secrets: Secrets) -> bytes:
    """Return ``config`` as JSON with every reference replaced by its value, for a private file.

    Numbers are written as they stand in the job. Raises KeyError for a reference that was not resolved.
    """

    def fill(value: Any) -> Any:
        if isinstance(value, SecretRef):
            return secrets.values[value]
        if isinstance(value, Mapping):
            return {key: fill(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [fill(item) for item in value]
        return value

    return jsontext.dumps(fill(config)).encode()


class Redactor:
    """Takes secret values out of texts that are shown or kept: logs, errors, reports; never out of state or data.

    Finds a value of at least 8 characters as it is, in base64 and base64url (at any offset of a longer text), percent-encoded,
    in JSON and Python string escapes, in hexadecimal, and each line of a value of several lines. Not a wall: a plugin that was
    given a secret can write it in ways that nobody looks for.
    """

    __slots__ = ("_bytes", "_forms", "_text")

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._set(
            {
                form
                for value in values
                for part in _parts(value)
                for form in _forms(part)
                if len(form) >= limits.SECRET_REDACTED_CHARS
            }
        )

    def _set(self, found: set[str]) -> None:
        forms = sorted(found, key=lambda form: (-len(form), form))
        self._forms = tuple(forms)
        self._text = re.compile("|".join(map(re.escape, forms))) if forms else None
        self._bytes = (
            re.compile(b"|".join(re.escape(form.encode()) for form in forms)) if forms else None
        )

    def joined(self, other: Redactor) -> Redactor:
        """Return the redactor of the values of both."""
        both = Redactor()
        both._set({*self._forms, *other._forms})
        return both

    def redact(self, text: str) -> str:
        """Return ``text`` with every form of every value replaced by ``[secret]``."""
        return self._without_cut_off(self._text.sub(REDACTED, text)) if self._text else text

    def _without_cut_off(self, text: str) -> str:
        """Take out the beginning of a value that clipping has left before a final ``…``: a whole form no longer matches there."""
        if not text.endswith("…"):
            return text
        body = text[:-1]
        for length in range(min(len(self._forms[0]), len(body)), SHORTEST_CUT_OFF - 1, -1):
            if any(form.startswith(body[-length:]) for form in self._forms):
                return f"{body[:-length]}{REDACTED}…"
        return text

    def redact_bytes(self, data: bytes) -> bytes:
        """Return ``data`` with every form of every value replaced by ``[secret]``."""
        return self._bytes.sub(REDACTED.encode(), data) if self._bytes else data

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Redact what an error that passes through says: a plugin's last words may hold what it was given."""
        try:
            yield
        except DativoError as error:
            self.redact_error(error)
            raise

    def redact_error(self, error: DativoError) -> None:
        """Redact the texts of ``error`` in place."""
        error.message = self.redact(error.message)
        error.value = None if error.value is None else self.redact(error.value)
        error.hint = None if error.hint is None else self.redact(error.hint)
        if error.where.stream is not None:
            error.where = replace(error.where, stream=self.redact(error.where.stream))

    def __repr__(self) -> str:
        return "Redactor(…)"


def _parts(value: str) -> Iterator[str]:
    """Yield the value and, where it has several lines, each of them: logs are cut into lines."""
    yield value
    if "\n" in value:
        yield from (line.strip() for line in value.splitlines())


def _forms(value: str) -> Iterator[str]:
    if len(value) < limits.SECRET_REDACTED_CHARS:
        return
    import json
    from urllib.parse import quote, quote_plus

    data = value.encode()
    yield value
    for percent in (quote(value), quote(value, safe=""), quote_plus(value)):
        yield percent
        yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), percent)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield json.dumps(value)[1:-1].replace("/", "\\/")
    yield repr(value)[1:-1]
    yield repr(data)[2:-1]
    yield data.hex()
    yield data.hex().upper()
    for base64 in _base64(data):
        yield base64
        yield base64.replace("+", "-").replace("/", "_")


def _base64(data: bytes) -> Iterator[str]:
    """Yield what every base64 text holds that encodes something around ``data``, for its three offsets."""
    from base64 import b64encode

    for offset in range(3):
        encoded = b64encode(b"\0" * offset + data).decode()
        # The characters at the ends also hold bits of the neighbours (RFC 4648 section 4).
        first = (offset * 8 + 5) // 6
        last = (offset + len(data)) * 8 // 6
        yield encoded[first:last]
