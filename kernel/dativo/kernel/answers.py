"""What a confined process of an installation answers: its stdout, read to the end while stderr and limits are watched."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from typing import Final

from dativo.sandbox import Confined, Exit

_CHUNK_BYTES: Final = 1 << 18


def listen(confined: Confined, take: Callable[[bytes], None], within_s: float) -> Exit:
    """Hand stdout to ``take`` piece by piece until it ends, and return how the process ended.

    ``take`` raises what is too much. Blocks for at most ``within_s``, then raises TimeoutError; the caller closes ``confined``.
    """
    deadline_s = time.monotonic() + within_s
    with selectors.DefaultSelector() as selector:
        selector.register(confined.stdout, selectors.EVENT_READ)
        selector.register(confined.stderr_fd, selectors.EVENT_READ)
        while confined.stdout in selector.get_map():
            for key, _ in selector.select(0.1):
                if key.fd == confined.stderr_fd:
                    confined.read_stderr()
                    if confined.stderr_closed:
                        selector.unregister(confined.stderr_fd)
                elif data := os.read(confined.stdout, _CHUNK_BYTES):
                    take(data)
                else:
                    selector.unregister(confined.stdout)
            confined.watch()
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{confined.name} still runs after {within_s:g} s")
    return confined.wait(max(1.0, deadline_s - time.monotonic()))
