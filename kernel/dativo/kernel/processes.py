"""What one run has started: every process behind its walls, gone when the run is over."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dativo.kernel import trust
from dativo.kernel.limits import FILE_BYTES, OPEN_FILES, STDERR_TAIL_BYTES, TOOL_PIDS
from dativo.protocol.errors import Conflict, Where
from dativo.sandbox import (
    Confined,
    Grants,
    Identity,
    Launching,
    Limits,
    Network,
    Program,
    WallMissing,
    Walls,
    allocate_identity,
    begin_launch,
)

PIPE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Service:
    """The broker as launches need it: the socket that takes what listens, and the network of each process that it serves.

    ``ready`` waits for it, and is called before anything is handed over; ``refused`` raises what became of it, where it is gone,
    and is called when nothing could be handed over; ``taken`` waits until it has taken what was, and raises when it does not.
    ``trust``: the folder of the operator's authorities, for each process that it serves.
    """

    sockets: int
    networks: Mapping[str, Network | None]
    ready: Callable[[], None]
    refused: Callable[[], None]
    taken: Callable[[], None]
    trust: Path | None = None


@dataclass(slots=True)
class Processes:
    """The processes of one run. What is entered into ``stack`` is left when the run is over, whatever happens.

    ``service`` is there once a broker is; the processes that it serves, by the names of their programs, get their network.
    """

    stack: contextlib.ExitStack
    walls: Walls
    run_id: str
    env: Mapping[str, str] = field(repr=False)
    started: list[Confined] = field(default_factory=list)
    service: Service | None = None

    def start(
        self,
        program: Program,
        grants: Grants,
        identity: Identity | None,
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        control: int | None = None,
    ) -> Confined:
        """Start one confined process. Raises the sandbox's errors."""
        service = self.service
        network = service.networks.get(program.name) if service is not None else None
        if network is not None:
            grants = replace(grants, network=network)
        served = service if network is not None and network.named else None
        if served is not None and served.trust is not None:
            program, grants = trust.shown(program, grants, served.trust)
        launching = self.begin(
            program,
            grants,
            identity,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            control=control,
            sockets=served.sockets if served is not None else None,
        )
        if served is None:
            return self.finish(launching)
        served.ready()
        try:
            confined = self.finish(launching)
        except WallMissing as error:
            if error.wall == "network":
                served.refused()
            raise
        served.taken()
        return confined

    def begin(
        self,
        program: Program,
        grants: Grants,
        identity: Identity | None,
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        control: int | None = None,
        sockets: int | None = None,
    ) -> Launching:
        """Begin to start one confined process; it is abandoned with the run where it is not finished."""
        launching = begin_launch(
            program,
            grants,
            identity=identity,
            walls=self.walls,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            control=control,
            run=self.run_id,
            sockets=sockets,
            client=program.name if sockets is not None else "",
        )
        return self.stack.enter_context(launching)

    def finish(self, launching: Launching) -> Confined:
        """Return a process that was begun once it has started. Raises the sandbox's errors."""
        confined = self.stack.enter_context(launching.finish())
        self.started.append(confined)
        return confined

    def start_tool(
        self,
        program: Program,
        grants: Grants,
        identity: Identity | None,
        *,
        stdin: int | None = None,
        stdout: int | None = None,
    ) -> tuple[Confined, socket.socket]:
        """Start one of dativo's own processes; returns it with our end of its control socket."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            control = theirs.fileno()
            confined = self.start(
                program, grants, identity, stdin=stdin, stdout=stdout, control=control
            )
        return confined, ours


def tool_limits(memory_bytes: int) -> Limits:
    """Return the limits of one of dativo's own processes."""
    return Limits(
        memory_bytes=memory_bytes,
        cpus=2.0,
        pids=TOOL_PIDS,
        open_files=OPEN_FILES,
        file_bytes=FILE_BYTES,
        wall_time_s=None,
        stderr_bytes=STDERR_TAIL_BYTES,
    )


@contextlib.contextmanager
def own_identity() -> Iterator[Identity | None]:
    """Give one process an own uid and gid as root, for as long as the context lasts; None as a plain user."""
    if os.geteuid() != 0:
        yield None
        return
    with allocate_identity() as lease:
        yield lease.identity


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Make a pipe, wide enough that its ends need not wait for each other at every turn; both ends are closed here.

    Whoever was handed an end has its own copy, so that end of file and SIGPIPE arrive only once ours are closed.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        yield read_end, write_end
    finally:
        os.close(read_end)
        os.close(write_end)


def widen(fd: int) -> None:
    """Have a pipe that somebody else made hold as much as ours. No process behind walls may do that itself.

    What is no pipe, or may not grow (the user's share is used up: pipe(7)), stays as it is: only speed depends on it.
    """
    with contextlib.suppress(OSError):
        if fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) < PIPE_BYTES:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


@contextlib.contextmanager
def pipeline_lock(
    folder: Path,
    target: str,
    pipeline: str,
    where: Where,
    hint: str = "Wait for it; see: dativo runs list",
) -> Iterator[None]:
    """Hold the lock of a pipeline and its target on this machine. Raises Conflict when another run has it."""
    name = hashlib.sha256(f"{target}\0{pipeline}".encode()).hexdigest()[:32]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"another run of pipeline {pipeline} into this target is under way",
                where,
                hint=hint,
            ) from None
        yield
    finally:
        os.close(fd)
