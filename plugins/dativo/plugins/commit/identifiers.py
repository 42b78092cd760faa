"""Names of tables and columns out of names that a source chose (docs/spec/commit.md, Names).

A name that is legal stays as it is. Any other is folded to ``[a-z0-9_]``, which every catalogue and engine takes without quotes.
Folding loses something, so two names may meet: the later one gets a suffix of the hash of its original.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Collection

from dativo.plugins.commit.faults import config_fault
from dativo.protocol.state import Stream

# The longest that Hive and Glue, Spark's metastore and a Linux file name all take.
MAX_IDENTIFIER_CHARS = 128
HASH_CHARS = 6
RESERVED_PREFIX = "_dativo"
REJECTS = Stream("", "_dativo_rejects")
"""What the writer rejected. No source has a stream of that name, so its table can have it too."""

_ILLEGAL = re.compile(r"[^a-z0-9_]")
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]*")
_METADATA = re.compile(r"_(?:dativo|sdc|airbyte)_[a-z_]{1,64}")


def is_identifier(name: str) -> bool:
    """Tell whether ``name`` may stand as it is."""
    return (
        _IDENTIFIER.fullmatch(name) is not None
        and len(name) <= MAX_IDENTIFIER_CHARS
        and not name.startswith(RESERVED_PREFIX)
        and name.strip("_") != ""
    )


def is_metadata(name: str) -> bool:
    """Tell whether a metadata column (docs/spec/metadata.md) may have the name ``name``."""
    return _METADATA.fullmatch(name) is not None


def is_reserved(name: str) -> bool:
    """Tell whether only a column of ours can have the name ``name``."""
    return name.startswith(RESERVED_PREFIX)


def fold(name: str) -> str:
    """Return the identifier of ``name``: NFKC, lower case, ``_`` for all that is not ``[a-z0-9_]``."""
    text = _ILLEGAL.sub("_", unicodedata.normalize("NFKC", name).lower())
    if not text.strip("_"):
        return f"_{_hash(name, HASH_CHARS)}"
    if text.startswith(RESERVED_PREFIX):
        text = text.lstrip("_")
    if text[0].isdigit():
        text = f"_{text}"
    if len(text) > MAX_IDENTIFIER_CHARS:
        text = _suffixed(text, name, HASH_CHARS)
    return text


def hashed(name: str, original: str | None = None) -> str:
    """Return the identifier of ``name`` with a suffix that keeps it apart from others that fold alike.

    The suffix is of ``original`` where ``name`` itself was put together from parts.
    """
    return _suffixed(fold(name), name if original is None else original, HASH_CHARS)


def table_names(stream: Stream) -> tuple[str, str]:
    """Return the plain name of a stream's table, and the one it gets when another stream has that.

    A source's namespace is a part of the name: it is a stranger's text and never chooses a folder or a namespace of ours.
    """
    if stream == REJECTS:
        return stream.name, stream.name
    text = f"{stream.namespace}__{stream.name}" if stream.namespace else stream.name
    return fold(text), hashed(text, json.dumps([stream.namespace, stream.name]))


def check_namespace(namespace: str) -> None:
    """Raise ``config.namespace`` unless the job's namespace is an identifier as it stands."""
    if not is_identifier(namespace):
        raise config_fault(
            "namespace",
            "the namespace is no identifier",
            value=namespace,
            hint=f"Write it as {fold(namespace)}.",
        )


def unused(name: str, taken: Collection[str]) -> str:
    """Return the identifier of ``name`` that is not in ``taken``: the same answer for the same ``taken``."""
    candidate = fold(name)
    if candidate in taken:
        candidate = hashed(name)
    salted = name
    while candidate in taken:
        # Whoever picks names can occupy the suffixes of another, never all of them.
        salted += "\0"
        candidate = _suffixed(fold(name), salted, 2 * HASH_CHARS)
    return candidate


def _hash(name: str, chars: int) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:chars]


def _suffixed(text: str, name: str, chars: int) -> str:
    suffix = f"_{_hash(name, chars)}"
    return text[: MAX_IDENTIFIER_CHARS - len(suffix)] + suffix
