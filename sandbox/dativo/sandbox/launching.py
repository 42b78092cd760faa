"""A launch under way: stage 1 is spawned, stage 2 attests, the broker is served, the program is let go."""

from __future__ import annotations

import os
import signal
import socket
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

from dativo.sandbox.attestation import Asked, Attestation, verify
from dativo.sandbox.cgroup import Leaf
from dativo.sandbox.confined import Confined, Handles
from dativo.sandbox.descriptors import Descriptors
from dativo.sandbox.errors import LimitsTooSmall, SandboxError, StartFailed, WallMissing
from dativo.sandbox.exchange import Exchange, abort
from dativo.sandbox.network import Network
from dativo.sandbox.program import Identity, Limits
from dativo.sandbox.sockets import RESET_SIGNALS, make_sockets
from dativo.sandbox.stages import sockets_plan
from dativo.sandbox.stderr import StderrTail


@dataclass(frozen=True, slots=True)
class Served:
    """A network and its broker: the socket to it, the name of this process there, and who owns the namespace (root only)."""

    network: Network
    broker: int
    client: str
    identity: Identity | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """Everything that the spawn needs, in descriptors. ``passed`` are those that stage 1 inherits beside 0, 1 and 2."""

    stage1: str
    plan_fd: int
    passed: tuple[int, ...]
    report: int
    stderr_out: int
    stderr_in: int
    stdout: int | None
    asked: Asked
    served: Served | None


class Launching(ABC):
    """Walls that are being built; nothing of the program runs yet. Call finish() once.

    As a context manager it is abandoned when it is left unfinished.
    """

    _finished = False

    def finish(self) -> Confined:
        """Return once every wall is attested and the program's exec has succeeded.

        Raises WallMissing for a wall that cannot be built or was not found to stand, StartFailed when the program cannot be
        started; nothing is left running then.
        """
        self._finished = True
        return self._finish()

    @abstractmethod
    def _finish(self) -> Confined:
        """See :meth:`finish`."""

    @abstractmethod
    def abandon(self) -> None:
        """End it unfinished; nothing is left running."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._finished:
            self.abandon()


class Building(Launching):
    """The first back end: stage 1 and bubblewrap."""

    def __init__(
        self,
        name: str,
        limits: Limits,
        attempt: Attempt,
        leaf: Leaf | None,
        fds: Descriptors,
        timeout_s: float,
    ) -> None:
        self._name = name
        self._limits = limits
        self._attempt = attempt
        self._leaf = leaf
        self._fds = fds
        self._timeout_s = timeout_s
        self._monitor, self._monitor_fd = _spawn(attempt, fds)
        fds.close((*attempt.passed, attempt.stderr_in))
        self._tree_fd: int | None = None
        self._report = socket.socket(fileno=fds.take(attempt.report))
        self._stderr = StderrTail(attempt.stderr_out, limits.stderr_bytes)

    def _finish(self) -> Confined:
        try:
            attestation, tree_fd = self._let_go()
        except BaseException as error:
            abort(self._monitor_fd, self._tree_fd, self._report)
            if isinstance(error, StartFailed):
                self._stderr.drain()
                error.stderr = self._stderr.tail()
            if self._clear() and isinstance(error, SandboxError):
                raise LimitsTooSmall(
                    f"{self._limits.memory_bytes} bytes and {self._limits.pids} processes are too little to start"
                ) from error
            raise
        return Confined(self._name, attestation, self._limits, self._handles(tree_fd))

    def abandon(self) -> None:
        """See :class:`Launching`."""
        abort(self._monitor_fd, self._tree_fd, self._report)
        self._clear()

    def _let_go(self) -> tuple[Attestation, int]:
        deadline_s = time.monotonic() + self._timeout_s
        exchange = Exchange(self._report, self._monitor_fd, self._stderr, deadline_s)
        message, credentials = exchange.receive()
        self._tree_fd = tree_fd = self._fds.own(os.pidfd_open(credentials[0]))
        attestation = verify(message, credentials, self._attempt.asked)
        if self._attempt.served is not None:
            serve(self._attempt.served, self._attempt.stage1, attestation, self._fds, deadline_s)
        exchange.go()
        exchange.receive()
        return attestation, tree_fd

    def _handles(self, tree_fd: int) -> Handles:
        """Hand what was made to a longer life."""
        attempt = self._attempt
        for fd in (self._monitor_fd, tree_fd, attempt.stderr_out, attempt.stdout):
            if fd is not None:
                self._fds.take(fd)
        self._fds.close_all()
        return Handles(
            self._monitor,
            self._monitor_fd,
            tree_fd,
            self._report,
            self._stderr,
            attempt.stdout,
            self._leaf,
        )

    def _clear(self) -> bool:
        """Close and remove what is left; return whether the limits of the cgroup were too narrow."""
        self._fds.close_all()
        if self._leaf is None:
            return False
        counted = self._leaf.counted()
        self._leaf.remove()
        return bool(counted.memory_kills or counted.forks_refused)


def _spawn(attempt: Attempt, fds: Descriptors) -> tuple[int, int]:
    """Start stage 1; returns its pid and a descriptor for it."""
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, attempt.stderr_in, 2),
    ]
    # A duplicate onto itself only clears close-on-exec (posix_spawn_file_actions_adddup2(3), since glibc 2.29).
    actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in attempt.passed]
    try:
        monitor = os.posix_spawn(
            attempt.stage1,
            ["dativo-confine", "stage1", str(attempt.plan_fd)],
            {},
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=RESET_SIGNALS,
        )
    except OSError as error:
        raise StartFailed(f"cannot run {attempt.stage1}: {error.strerror}") from error
    try:
        return monitor, fds.own(os.pidfd_open(monitor))
    except BaseException:
        os.kill(monitor, signal.SIGKILL)
        os.waitpid(monitor, 0)
        raise


def serve(
    served: Served, confine: str, attestation: Attestation, fds: Descriptors, deadline_s: float
) -> None:
    """Give the broker what listens in the network namespace of an attested stage 2; ``confine`` makes it."""
    try:
        path = f"/proc/{attestation.pid}/ns/net"
        namespace = fds.own(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise WallMissing("network", f"cannot be entered: {error.strerror}") from error
    # The pid may be another's by now; the attested namespace is not.
    if os.fstat(namespace).st_ino != dict(attestation.namespaces)["net"]:
        raise WallMissing("network", "the process ended before it was served")
    plan = fds.content(
        "plan",
        sockets_plan(
            served.network,
            served.client,
            served.identity,
            namespace=namespace,
            broker=served.broker,
        ),
    )
    said = fds.own(os.memfd_create("stderr"))
    passed = (namespace, served.broker)
    make_sockets(confine, plan, passed, said, deadline_s)
    fds.close((plan, said, *passed))
