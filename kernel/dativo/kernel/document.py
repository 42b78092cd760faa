"""Files that people write: bounded YAML whose every value knows its line, and canonical JSON.

The grammar is the JSON-shaped part of YAML 1.2 (core schema): strings, numbers, true, false, null, lists and mappings with
string keys. Anchors, aliases, tags, duplicate keys and second documents are refused, and so are words and numbers that YAML 1.1
and 1.2 read differently (``no``, ``010``): a job must not change its meaning with the reader. Dates stay text. Numbers keep the
text they were written in.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias

from dativo.kernel import limits
from dativo.protocol import jsontext
from dativo.protocol.errors import ConfigError, Where

Tree: TypeAlias = "dict[str, Tree] | list[Tree] | str | int | Decimal | bool | None"
Location: TypeAlias = "tuple[str | int, ...]"


class Number(Decimal):
    """A number that prints as it was written: ``1.10`` stays ``1.10``, ``1e3`` stays ``1e3``."""

    text: str

    def __new__(cls, text: str) -> Number:
        """Return the number of ``text``, which must be a JSON number."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[type[Number], tuple[str]]:
        return (Number, (self.text,))


@dataclass(frozen=True, slots=True)
class Document:
    """The parsed value of a file and the place (line, column; from 1) of each part of it."""

    file: Path
    value: Tree
    places: Mapping[Location, tuple[int, int]] = field(repr=False)

    def where(self, location: Sequence[str | int] = ()) -> Where:
        """Return the place of ``location``, or of its nearest parent that is in the file."""
        found = tuple(location)
        while found not in self.places and found:
            found = found[:-1]
        line, column = self.places.get(found, (1, 1))
        return Where(
            file=str(self.file), pointer=pointer(location) or None, line=line, column=column
        )

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the canonical JSON of the value."""
        return digest(self.value)


def pointer(location: Sequence[str | int]) -> str:
    """Return the JSON Pointer (RFC 6901) of ``location``; "" is the whole document."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in location)


def canonical(value: Tree) -> str:
    """Return ``value`` as compact JSON with sorted keys; numbers as they were written."""
    return jsontext.dumps(_sorted(value))


def digest(value: Tree) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _sorted(value: Tree) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


def read_bounded(
    file: Path,
    what: str,
    max_bytes: int,
    *,
    trusted: bool = False,
    private: bool = False,
    follow: bool = True,
) -> bytes:
    """Return the bytes of a regular file of at most ``max_bytes``. Raises ConfigError.

    ``trusted``: refuse a file that somebody besides root and this user owns or can write. ``private``: and one that
    others can read, or its group can write. ``follow``: the name itself may be a symbolic link.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    where = Where(file=str(file))
    try:
        fd = os.open(file, flags)
    except OSError as error:
        link = error.errno == errno.ELOOP and not follow
        raise ConfigError(
            f"cannot read {what}: {'it is a symbolic link' if link else error.strerror}", where
        ) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{what} is not a regular file", where)
        if trusted or private:
            check_owner(status, file, what)
        if private and status.st_mode & 0o007:
            raise ConfigError(
                f"{what} can be read by others (mode {stat.S_IMODE(status.st_mode):04o})",
                where,
                hint=f"chmod 600 {file}",
            )
        with open(fd, "rb", closefd=False) as stream:  # the descriptor is open already
            data = stream.read(max_bytes + 1)
    finally:
        os.close(fd)
    if len(data) > max_bytes:
        raise ConfigError(f"{what} has more than {max_bytes} bytes", where)
    return data


def check_owner(status: os.stat_result, file: Path, what: str) -> None:
    """Refuse what somebody besides root and this user owns or can write. Raises ConfigError."""
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{what} belongs to uid {status.st_uid}",
            Where(file=str(file)),
            hint="It must belong to root or to you",
        )
    if status.st_mode & 0o022:
        raise ConfigError(
            f"{what} can be written by others (mode {stat.S_IMODE(status.st_mode):04o})",
            Where(file=str(file)),
            hint=f"chmod go-w {file}",
        )


def load_yaml(file: Path, what: str, *, trusted: bool = False) -> Document:
    """Read ``file`` (at most 1 MiB). Raises ConfigError with line and column."""
    data = read_bounded(file, what, limits.JOB_BYTES, trusted=trusted)
    return parse_yaml(data, file, what)


def parse_yaml(data: bytes, file: Path, what: str) -> Document:
    """Parse the bytes of ``file``. Raises ConfigError with line and column."""
    import yaml

    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{what} is not UTF-8",
            Where(file=str(file), line=data.count(b"\n", 0, error.start) + 1, byte=error.start),
        ) from error
    composer = _Composer(file, what)
    try:
        value = composer.document(yaml.parse(text, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(
            f"{what} is not YAML: {error.problem or error.context}",
            Where(
                file=str(file),
                line=mark.line + 1 if mark else None,
                column=mark.column + 1 if mark else None,
            ),
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{what} is not YAML: {error}", Where(file=str(file))) from error
    return Document(file, value, composer.places)


_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
_JSON_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_OTHER_NUMBER: Final = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?0[xob][0-9a-fA-F_]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_WORDS: Final[dict[str, bool | None]] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
}
_AMBIGUOUS: Final = frozenset({"yes", "no", "on", "off", "true", "false", "null"})


class _Composer:
    """Builds the value from parse events, one loop, so that depth costs no stack."""

    def __init__(self, file: Path, what: str) -> None:
        self.file = file
        self.what = what
        self.places: dict[Location, tuple[int, int]] = {}
        self.nodes = 0

    def document(self, events: Any) -> Tree:
        import yaml

        root: list[Tree] = []
        # Open collections: the container, its location, and the key that waits for its value.
        stack: list[tuple[dict[str, Tree] | list[Tree], Location]] = []
        keys: list[str | None] = []
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self.error(f"{self.what} holds more than one document", event)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                stack.pop()
                keys.pop()
            elif isinstance(event, yaml.AliasEvent):
                raise self.error(
                    "aliases are not allowed", event, hint="Write the value out, or quote the text"
                )
            elif isinstance(event, yaml.NodeEvent):
                self.count(event, len(stack))
                container, location = stack[-1] if stack else (root, ())
                if isinstance(container, dict) and keys[-1] is None:
                    keys[-1] = self.key(event, container, location)
                    continue
                here: Location = location
                if isinstance(container, dict):
                    here = (*location, keys[-1] or "")
                elif stack:
                    here = (*location, len(container))
                # A key's place serves its value better: an empty value has no place of its own.
                self.places.setdefault(here, self.place(event))
                value: Tree
                if isinstance(event, yaml.ScalarEvent):
                    value = self.scalar(event)
                else:
                    value = {} if isinstance(event, yaml.MappingStartEvent) else []
                if isinstance(container, dict):
                    container[keys[-1] or ""] = value
                    keys[-1] = None
                else:
                    container.append(value)
                if isinstance(value, (dict, list)):
                    stack.append((value, here))
                    keys.append(None)
        return root[0] if root else None

    def count(self, event: Any, depth: int) -> None:
        self.nodes += 1
        if self.nodes > limits.JOB_NODES:
            raise self.error(f"{self.what} holds more than {limits.JOB_NODES} values", event)
        if depth >= limits.JOB_DEPTH:
            raise self.error(f"{self.what} is nested deeper than {limits.JOB_DEPTH}", event)
        if event.anchor is not None:
            raise self.error("anchors are not allowed", event, hint="Write the value out")
        if event.tag is not None:
            raise self.error(
                "tags are not allowed", event, value=str(event.tag), hint="Quote the text"
            )

    def key(self, event: Any, container: dict[str, Tree], location: Location) -> str:
        import yaml

        key = self.scalar(event) if isinstance(event, yaml.ScalarEvent) else None
        if not isinstance(key, str):
            shown = event.value if isinstance(event, yaml.ScalarEvent) else None
            raise self.error("a key must be a string", event, value=shown, hint="Quote it")
        if key in container:
            raise self.error(f"key {key!r} is there twice", event)
        self.places[(*location, key)] = self.place(event)
        return key

    def scalar(self, event: Any) -> Tree:
        text: str = event.value
        if event.style in ("'", '"', "|", ">"):
            return text
        if text in _WORDS:
            return _WORDS[text]
        if text.lower() in _AMBIGUOUS:
            raise self.error(
                "this word is true, false or null to some readers and text to others",
                event,
                value=text,
                hint="Write true, false or null, or quote it",
            )
        if len(text) > limits.NUMBER_CHARS or not _OTHER_NUMBER.fullmatch(text):
            return text
        if _INTEGER.fullmatch(text) and text != "-0":
            return int(text)
        if _JSON_NUMBER.fullmatch(text):
            return Number(text)
        raise self.error(
            "this number is not one in JSON, or readers differ on it",
            event,
            value=text,
            hint="Write it as JSON does, or quote it",
        )

    @staticmethod
    def place(event: Any) -> tuple[int, int]:
        return (event.start_mark.line + 1, event.start_mark.column + 1)

    def error(
        self, message: str, event: Any, *, value: str | None = None, hint: str | None = None
    ) -> ConfigError:
        line, column = self.place(event)
        return ConfigError(
            message, Where(file=str(self.file), line=line, column=column), value=value, hint=hint
        )


def load_json(file: Path, what: str, max_bytes: int, *, trusted: bool = False) -> Document:
    """Read a JSON file that dativo wrote (lock, record, approval). Raises ConfigError."""
    from dativo.protocol.errors import ProtocolViolation

    data = read_bounded(file, what, max_bytes, trusted=trusted)
    try:
        value = jsontext.loads(data.decode(), what, max_bytes=max_bytes)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} is not UTF-8", Where(file=str(file))) from error
    except ProtocolViolation as error:
        raise ConfigError(
            error.message, Where(file=str(file), byte=error.where.byte), value=error.value
        ) from error
    return Document(file, value, {})


def write_atomic(file: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace ``file`` by ``text``: a reader sees the old or the new one; durable when it returns."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with open(fd, "w", encoding="utf-8") as stream:  # noqa: PTH123  # as above
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror}", Where(file=str(file))) from error
