"""What is started and what it may do: plain values, checked when a launch is planned."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from dativo.sandbox.network import Network
from dativo.sandbox.system import SYSTEM

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one process and all that it starts.

    ``memory_bytes`` and ``pids`` (processes and threads, two of them the walls' own) are of the whole tree; ``cpus`` is a
    share of time, 1.0 for one core; ``open_files`` is of each process; ``file_bytes`` is of each file written;
    ``tmp_bytes`` and ``shm_bytes`` size /tmp and /dev/shm, which count as memory too; ``wall_time_s`` None is no end; of
    stderr the last ``stderr_bytes`` are kept, and where it comes to the launcher it may be ``output_bytes`` in all, None for any
    number. Who reads stdout counts what comes there.
    """

    memory_bytes: int = 512 * MIB
    cpus: float = 1.0
    pids: int = 512
    open_files: int = 1024
    file_bytes: int = 16 * 1024 * MIB
    tmp_bytes: int = 256 * MIB
    shm_bytes: int = 64 * MIB
    wall_time_s: float | None = None
    stderr_bytes: int = 64 * 1024
    output_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Grants:
    """What the operator gave. A granted path is seen inside at the same absolute path.

    ``protected`` are existing files and folders below a ``write`` path that stay read-only; they are opened without following a
    link, so each is written as its real path. ``exchange`` are (host source, path inside) of folders that are written for another
    process: files and folders alone can be made there, no link that would lead him elsewhere. ``execute`` is what may be executed
    beside the program's runtime, seen at the same path too; without ``/usr`` the machine's programs are not even there, but for
    the program's own interpreter. ``environment`` is name and value, over HOME, TMPDIR, LANG and PATH, which are always set.
    ``network`` None is a namespace with nothing but a loopback that nobody may listen on. ``host_network`` is the launcher's own
    network, for dativo's broker alone.
    """

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    protected: tuple[Path, ...] = ()
    exchange: tuple[tuple[Path, str], ...] = ()
    execute: tuple[Path, ...] = (SYSTEM,)
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    network: Network | None = None
    host_network: bool = False
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class PrivateFile:
    """A file of mode 0600 on a tmpfs that only this process sees: below /tmp or /run. Writable, gone with the process."""

    path: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Container:
    """An image that lies in a Docker Engine: its id (``sha256:…``), and the engine's socket."""

    image: str
    engine: Path


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. ``name`` is for messages and the cgroup; ``argv[0]`` is an absolute path inside.

    ``runtime`` are trees that are read and executed (an environment, an interpreter's prefix). ``root`` is the
    root file system of an image (docs/spec/images.md), read and executed instead of the host's /usr, links and certificates.
    ``container`` has Docker Engine run it in the image's own root (docs/spec/docker.md), without ``root`` and ``runtime``.
    ``binds`` are (host source, path inside, writable) for folders that are seen under another name. ``bare``: nothing of the host
    but ``runtime`` and what is granted, no /etc, no limits to look at; for dativo's own executables, linked statically.
    """

    name: str
    argv: tuple[str, ...]
    runtime: tuple[Path, ...] = ()
    cwd: str = "/tmp"  # noqa: S108 - inside, a tmpfs of its own
    files: tuple[PrivateFile, ...] = ()
    binds: tuple[tuple[Path, str, bool], ...] = ()
    root: Path | None = None
    bare: bool = False
    container: Container | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a process becomes when the launcher is root. Never 0."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Walls:
    """Which walls may be weaker, each by name.

    ``cgroup="degraded"`` permits a launch where no cgroup can be written: memory, pids and CPU are then watched and
    limited by rlimits instead. Where a cgroup can be written it is used all the same.
    """

    cgroup: Literal["required", "degraded"] = "required"
