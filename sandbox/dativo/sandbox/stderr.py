"""The stderr of a confined process: read without blocking, kept as a bounded tail, cut into bounded lines."""

from __future__ import annotations

import os
from typing import Final

MAX_LINE_BYTES: Final = 4096
MAX_READ_BYTES: Final = 256 * 1024
MAX_KEPT_LINES: Final = 1000
_CHUNK_BYTES: Final = 65536


class StderrTail:
    """Reads ``fd`` (made non-blocking here). What it holds is bounded by ``kept_bytes`` and one line.

    ``total`` is how many bytes have come.
    """

    def __init__(self, fd: int, kept_bytes: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.closed = False
        self.total = 0
        self._kept_bytes = kept_bytes
        self._tail = bytearray()
        self._line = bytearray()
        self._kept_lines: list[bytes] = []

    def read(self) -> list[bytes]:
        """Take at most 256 KiB and return the lines that ended, without their newline, each cut at 4 KiB."""
        lines, self._kept_lines = self._kept_lines, []
        taken = 0
        while taken < MAX_READ_BYTES and not self.closed:
            try:
                chunk = os.read(self.fd, _CHUNK_BYTES)
            except BlockingIOError:
                break
            taken += len(chunk)
            self.total += len(chunk)
            self._keep(chunk)
            if chunk:
                self._split(chunk, lines)
            else:
                self.closed = True
                if self._line:
                    lines.append(bytes(self._line))
                    self._line.clear()
        return lines

    def drain(self) -> None:
        """Take what is there, and keep its last 1,000 lines for the next :meth:`read`."""
        self._kept_lines = self.read()[-MAX_KEPT_LINES:]

    def tail(self) -> bytes:
        """Return the last bytes read."""
        return bytes(self._tail)

    def _keep(self, chunk: bytes) -> None:
        self._tail += chunk
        del self._tail[: max(0, len(self._tail) - self._kept_bytes)]

    def _split(self, chunk: bytes, lines: list[bytes]) -> None:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            self._add(part)
            lines.append(bytes(self._line))
            self._line.clear()
        self._add(rest)

    def _add(self, part: bytes) -> None:
        self._line += part[: MAX_LINE_BYTES - len(self._line)]
