"""A container of Docker Engine as seen from the launcher: its keeper, and its cgroup."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from dativo.sandbox import cgroup
from dativo.sandbox.cgroup import Counted
from dativo.sandbox.cgroup_v1 import NEEDED, V1Leaf
from dativo.sandbox.cgroup_v2 import V2Leaf
from dativo.sandbox.docker_keeper import MAX_REQUEST_BYTES, has_died, launcher_name
from dativo.sandbox.errors import SandboxError, StartFailed, WallMissing
from dativo.sandbox.program import Limits

_ENDS_WITHIN_S: Final = 10.0
_MAX_MESSAGE_BYTES: Final = 4096
_V1_WISHED: Final = ("cpuacct", "blkio")


class Keeper:
    """The process that speaks to the engine; our child. Its container ends when ``control`` is closed."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self._control = control
        self._ended: dict[str, Any] | None = None

    @classmethod
    def start(cls, request: dict[str, Any], stderr: int) -> Keeper:
        """Start it; what fails in it is told on ``stderr``."""
        text = json.dumps(request).encode()
        if len(text) > MAX_REQUEST_BYTES:
            raise SandboxError("too many paths were granted for one container")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            try:
                pid = os.posix_spawn(
                    sys.executable,
                    [sys.executable, "-I", "-m", "dativo.sandbox.docker_keeper", str(number)],
                    {},
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                        (os.POSIX_SPAWN_DUP2, stderr, 2),
                        (os.POSIX_SPAWN_DUP2, number, number),
                    ],
                    setsid=True,
                    setsigmask=(),
                    setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
                )
            except OSError as error:
                ours.close()
                raise StartFailed(f"cannot run {sys.executable}: {error.strerror}") from error
        ours.sendall(text)
        return cls(pid, ours)

    def ended(self) -> dict[str, Any] | None:
        """Return how the container ended (``status``, ``oom``), once the engine has told it."""
        if self._ended is None and self._control.fileno() >= 0:
            try:
                message = self._control.recv(_MAX_MESSAGE_BYTES, socket.MSG_DONTWAIT)
            except (BlockingIOError, ConnectionResetError):
                return None
            self._ended = json.loads(message) if message else None
        return self._ended

    def close(self) -> None:
        """Let go of the container: what still runs in it is killed."""
        self._control.close()

    def abandon(self) -> None:
        """End the container and reap the keeper."""
        self.close()
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if not poll.poll(_ENDS_WITHIN_S * 1000):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)


class ContainerLeaf:
    """The cgroup that the engine has made: limits set and read back, counters kept beyond its end. See :class:`cgroup.Leaf`."""

    def __init__(self, inner: V1Leaf | V2Leaf, keeper: Keeper, folder: Path) -> None:
        self._inner = inner
        self._keeper = keeper
        self._folder = folder
        self._last: Counted | None = None

    @classmethod
    def of(cls, pid: int, keeper: Keeper, folder: Path) -> ContainerLeaf:
        """Find it by a process that is in it. ``folder`` is removed with it."""
        return cls(_find(pid), keeper, folder)

    @property
    def kind(self) -> Literal["v1", "v2"]:
        """See :class:`cgroup.Leaf`."""
        return self._inner.kind

    @property
    def joins(self) -> tuple[Path, ...]:
        """Nothing: the engine has put the container there."""
        return ()

    @property
    def members(self) -> tuple[Path, ...]:
        """See :class:`cgroup.Leaf`."""
        return self._inner.members

    def limit(self, limits: Limits) -> None:
        """Set the limits as for every process, and read them back."""
        try:
            self._inner.limit(limits)
        except OSError as error:
            raise WallMissing("cgroup", f"of the container: {error}") from error

    def counted(self) -> Counted:
        """Read the counters, or what was last read when the engine has removed it."""
        now = self._inner.counted()
        if now.peak_memory_bytes is not None or self._last is None:
            self._last = now
        ended = self._keeper.ended()
        if ended is not None and ended["oom"] and not self._last.memory_kills:
            self._last = replace(self._last, memory_kills=1)
        return self._last

    def kill(self) -> None:
        """See :class:`cgroup.Leaf`."""
        self._inner.kill()

    def remove(self) -> None:
        """Let go of keeper and folder; the cgroup goes with the container."""
        self._keeper.close()
        remove_folder(self._folder)


def make_folder(parent: Path) -> Path:
    """Make the folder of a launch, named after this launcher, and remove those whose launchers have died."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in parent.iterdir():
        if has_died(left.name.rpartition(".")[0]):
            remove_folder(left)
    return Path(tempfile.mkdtemp(dir=parent, prefix=f"{launcher_name(os.getpid())}."))


def remove_folder(folder: Path) -> None:
    """Remove the socket and the small files of a launch; another launcher may be doing so."""
    try:
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()
    except FileNotFoundError:
        return


def _find(pid: int) -> V1Leaf | V2Leaf:
    places = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text("utf-8").splitlines():
        _, names, place = line.split(":", 2)
        places[frozenset(filter(None, names.split(",")))] = place.lstrip("/")
    v1: dict[str, Path] = {}
    for hierarchy in cgroup.hierarchies():
        folder = hierarchy.mount / places.get(hierarchy.controllers, "")
        if folder == hierarchy.mount:
            continue
        if not hierarchy.controllers and (folder / "memory.max").exists():
            return V2Leaf(folder)
        v1.update({name: folder for name in hierarchy.controllers & {*NEEDED, *_V1_WISHED}})
    if missing := [name for name in NEEDED if name not in v1]:
        raise WallMissing("cgroup", f"the container has none for {', '.join(missing)}")
    return V1Leaf(v1)
