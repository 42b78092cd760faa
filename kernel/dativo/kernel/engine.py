"""The archive of an image that lies in a Docker Engine. Another process speaks to the engine: docker_save.py of the sandbox."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dativo.kernel import limits, show
from dativo.protocol.errors import ConfigError, LimitExceeded, Where

_CHUNK_BYTES: Final = 1 << 20
_SAID_BYTES: Final = 4096


@contextmanager
def saved(name: str, engine: Path) -> Iterator[Callable[[], bytes]]:
    """Give a function that returns the next part of an image's archive, b"" at its end. ``name`` is the engine's for the image.

    It raises ConfigError with what the engine said, LimitExceeded after INSTALL_TIME_S.
    """
    command = [sys.executable, "-I", "-m", "dativo.sandbox.docker_save", str(engine), name]
    deadline_s = time.monotonic() + limits.INSTALL_TIME_S
    out, into = os.pipe2(os.O_CLOEXEC)
    with (
        open(out, "rb", buffering=0) as archive,  # noqa: PTH123  # a descriptor
        tempfile.TemporaryFile() as told,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=into, stderr=told, env={}
        ) as saver,
    ):
        os.close(into)
        poll = select.poll()
        poll.register(archive, select.POLLIN)

        def part() -> bytes:
            if not poll.poll(max(0.0, deadline_s - time.monotonic()) * 1000):
                raise LimitExceeded(
                    f"the engine at {engine} did not send {show.foreign(name)} within {limits.INSTALL_TIME_S:.0f} s"
                )
            if data := archive.read(_CHUNK_BYTES):
                return data
            if saver.wait():
                said = os.pread(told.fileno(), _SAID_BYTES, 0).decode("utf-8", "backslashreplace")
                raise ConfigError(
                    f"the engine at {engine} does not give {show.foreign(name)}",
                    Where(file=str(engine)),
                    value=show.foreign(said.strip()),
                    hint="`docker images` lists what it has; `docker.engine` of the policy names its socket",
                )
            return b""

        try:
            yield part
        finally:
            saver.kill()
