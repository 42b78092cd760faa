"""JSONL to Arrow and back, at the speed of dativo's own data plane.

Arrow data goes in and out through the `Arrow PyCapsule interface
<https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html>`_: pyarrow, Polars, DuckDB and pandas
take and give such objects, and none of them is imported here. docs/guide/native.md has examples.
"""

from ._errors import DecodeError, EncodeError
from ._native import Batch, Batches, Reader, Schema, read_jsonl, schema_of, write_jsonl

__all__ = [
    "Batch",
    "Batches",
    "DecodeError",
    "EncodeError",
    "Reader",
    "Schema",
    "read_jsonl",
    "schema_of",
    "write_jsonl",
]
