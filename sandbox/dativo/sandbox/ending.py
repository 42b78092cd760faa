"""How a confined process ended, and what it used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Cause = Literal[
    "exited",
    "signaled",
    "memory",
    "pids",
    "wall_time",
    "file_size",
    "output",
    "killed",
    "lost",
]


@dataclass(frozen=True, slots=True)
class Usage:
    """Of the whole tree, from the cgroup where there is one; None where nobody counted.

    ``throttled_s``: how long its share of CPU was used up. ``read_bytes`` and ``written_bytes`` are of block devices
    (:class:`dativo.sandbox.cgroup.Counted`). ``events`` tell in words what its limits did to it.
    """

    peak_memory_bytes: int
    cpu_s: float
    pids_peak: int | None = None
    throttled_s: float | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a confined process; by then nothing that it started lives.

    ``code`` or ``signal`` is the program's own raw status, both None when nobody could tell it. ``cause``: ``exited`` and
    ``signaled`` by itself; ``memory``, ``pids``, ``wall_time``, ``file_size`` are limits; ``killed`` by the launcher;
    ``lost`` when stage 2 vanished without a report. ``detail`` is one line for a report.
    """

    code: int | None
    signal: int | None
    cause: Cause
    usage: Usage
    detail: str = ""

    @property
    def hit_limit(self) -> bool:
        """Whether it was ended by a limit that it was given; ``detail`` says which."""
        return self.cause in ("memory", "pids", "wall_time", "file_size", "output")

    @property
    def succeeded(self) -> bool:
        """Whether the program ended by itself with status 0."""
        return self.cause == "exited" and self.code == 0
