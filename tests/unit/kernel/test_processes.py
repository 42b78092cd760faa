"""What the kernel does to descriptors that it hands on."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dativo.kernel.processes import PIPE_BYTES, widen


def test_a_pipe_of_somebody_elses_is_widened() -> None:
    out, into = os.pipe()
    try:
        assert fcntl.fcntl(out, fcntl.F_GETPIPE_SZ) < PIPE_BYTES
        widen(into)
        assert fcntl.fcntl(out, fcntl.F_GETPIPE_SZ) == PIPE_BYTES
    finally:
        os.close(out)
        os.close(into)


def test_what_is_no_pipe_stays_as_it_is(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        widen(file.fileno())
        file.write(b"still written")
    assert (tmp_path / "file").read_bytes() == b"still written"
