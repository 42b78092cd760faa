from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal, Protocol, Self, TypeAlias, final

class _ExportsSchema(Protocol):
    def __arrow_c_schema__(self) -> object: ...

class _ExportsStream(Protocol):
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

class _ExportsArray(Protocol):
    def __arrow_c_array__(
        self, requested_schema: object | None = None
    ) -> tuple[object, object]: ...

class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...

class _Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...

_Schema: TypeAlias = Mapping[str, Any] | str | bytes | _ExportsSchema
_Dialect: TypeAlias = Literal["singer", "airbyte"]
_Numbers: TypeAlias = Literal["double", "decimal", "text"]

@final
class Schema:
    """An Arrow schema: `pyarrow.schema(it)`."""

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
    def __arrow_c_schema__(self) -> object: ...

@final
class Batch:
    """Some rows: `pyarrow.record_batch(it)`."""

    def __len__(self) -> int: ...
    def __arrow_c_array__(
        self, requested_schema: object | None = None
    ) -> tuple[object, object]: ...
    def __arrow_c_schema__(self) -> object: ...

@final
class Batches:
    """All rows, decoded: `pyarrow.table(it)`, as often as is wanted."""

    def __len__(self) -> int: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...
    def __arrow_c_schema__(self) -> object: ...

@final
class Reader:
    """Decodes lines while it is read: batch by batch in a `for`, with `read_all`, or as an Arrow stream.

    All three raise what `read_jsonl` lists. A consumer of the stream raises an error of its own with that text, and
    `error` is the exception itself. After an error there is nothing but that error. It can be read in one place at a
    time: RuntimeError elsewhere.
    """

    @property
    def schema(self) -> Schema:
        """The columns that the batches have."""
    @property
    def error(self) -> BaseException | None:
        """What ended it, if not the end of the source."""
    @property
    def oddities(self) -> dict[str, int]:
        """How many lines showed what is tolerated (docs/spec/wire.md): `crlf`, `nan`, `duplicate_key` …"""
    def read_all(self) -> Batches:
        """Decode all that is left."""
    def __iter__(self) -> Self: ...
    def __next__(self) -> Batch: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...
    def __arrow_c_schema__(self) -> object: ...

def read_jsonl(
    source: str | PathLike[str] | bytes | bytearray | _Readable,
    schema: _Schema,
    *,
    dialect: _Dialect | None = None,
    stream: str | None = None,
    namespace: str | None = None,
    numbers: _Numbers = "double",
    strict: bool = False,
    batch_rows: int = 8192,
    max_line_bytes: int = 33554432,
    max_depth: int = 64,
    max_columns: int = 2000,
) -> Reader:
    """Read lines of JSON objects into Arrow.

    `source` is a path, the bytes themselves or a binary file that is open for reading. `schema` is a JSON Schema, whose
    properties become columns (docs/spec/validation.md), or any object that exports an Arrow schema, which is then met exactly;
    what it does not name is passed over, and what is missing is null.

    Without a `dialect` each line is a record. With one each line is a message, and the records of `stream` (in Airbyte's
    `namespace`) are taken; other messages are checked and passed over. `numbers` says what a JSON Schema's plain `number`
    becomes. `strict` refuses what is tolerated otherwise and counted in `oddities`. Memory is bounded by `batch_rows`, or
    16 MiB, and the longest line.

    Raises DecodeError for a schema here, and for a line when it is read; OSError for a file that cannot be opened or read; what
    the file object raises. The interpreter's lock is free while lines are decoded.
    """

def schema_of(
    schema: _Schema,
    *,
    numbers: _Numbers = "double",
    max_depth: int = 64,
    max_columns: int = 2000,
) -> Schema:
    """Return the Arrow schema that `read_jsonl` makes of a JSON Schema.

    Raises DecodeError.
    """

def write_jsonl(
    table: _ExportsStream | _ExportsArray,
    target: str | PathLike[str] | _Writable,
    *,
    dialect: _Dialect | None = None,
    stream: str | None = None,
    namespace: str | None = None,
    nonfinite: Literal["error", "null", "token"] = "error",
    decimals: Literal["string", "number"] = "string",
) -> int:
    """Write rows as lines of JSON objects, and return their number.

    `table` is whatever exports an Arrow stream or struct array; `target` a path, which is made or emptied, or a binary file that
    is open for writing, which is neither flushed nor closed. With a `dialect` each line is a RECORD message of `stream`.

    Decimals are strings, which no reader rounds, or numbers; times are as RFC 3339 writes them, in UTC where they have a zone;
    bytes are base64; columns of the extension type `arrow.json` are written as the JSON they hold. `nonfinite` says what becomes
    of NaN and the infinities: an error, null, or the words that Python's json reads.

    Raises EncodeError for a value or a type that JSON cannot hold, with what was written before it left in the target;
    OSError and what the file object raises.
    """
