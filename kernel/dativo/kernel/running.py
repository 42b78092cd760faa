"""What runs now, and the operator's ways to end it: ``dativo stop``, and a deny list that holds for runs under way.

Each run keeps ``<state>/running/<run>.json`` open and locked (flock(2)) while it lasts. Whoever finds the lock free has found the
rubble of a kernel that died. A run is told to end by SIGTERM and ends at its last state; one that does not is killed, and all its
processes with it: they die with their launcher.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dativo.kernel import blocks
from dativo.kernel.conversation import Conversation, signals
from dativo.kernel.limits import LOCK_BYTES, POLICY_GRACE_S, POLICY_TICK_S
from dativo.kernel.paths import Paths
from dativo.kernel.policy import load_policy
from dativo.protocol.errors import ConfigError, DativoError, Where

if TYPE_CHECKING:
    from dativo.kernel.plan import Site
    from dativo.kernel.registry import Installed

_FOLDER: Final = "running"
_SHORT_DIGEST: Final = 12
_KILLED_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin of a run: reference, version, and the digest of its files (hex)."""

    reference: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Running:
    """A run under way. ``kind`` is run, read, write or jail; ``pid`` is its kernel's; ``started_at`` in seconds since 1970."""

    run: str
    kind: str
    pipeline: str
    workspace: str
    pid: int
    started_at: float
    plugins: tuple[Plugin, ...] = ()

    @classmethod
    def now(
        cls, run: str, kind: str, pipeline: str, workspace: Path, plugins: tuple[Plugin, ...] = ()
    ) -> Running:
        """Return the record of a run that this process begins now."""
        return cls(run, kind, pipeline, str(workspace), os.getpid(), time.time(), plugins)

    def has(self, name: str) -> bool:
        """Whether a plugin of it is called ``name`` (reference or package, also with ``==VERSION``) or has that digest.

        A digest may be shortened to its first 12 digits.
        """
        wanted, _, version = name.partition("==")
        return any(
            (wanted in blocks.names(each.reference) and version in ("", each.version))
            or (len(name) >= _SHORT_DIGEST and each.digest.startswith(name))
            for each in self.plugins
        )


# --- on record -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def registered(paths: Paths, running: Running) -> Iterator[None]:
    """Keep ``running`` findable while the context lasts."""
    folder = paths.state / _FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file, draft = folder / f"{running.run}.json", folder / f".{running.run}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(fd, json.dumps(asdict(running)).encode())
        draft.rename(file)  # whoever sees the name finds it whole and locked
        yield
    finally:
        for path in (draft, file):
            path.unlink(missing_ok=True)
        os.close(fd)


def listing(paths: Paths) -> tuple[Running, ...]:
    """Return what runs now, oldest first; what kernels that died have left is removed."""
    found = []
    for file in (paths.state / _FOLDER).glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if _is_held(fd):
                    found.append(_parse(os.read(fd, LOCK_BYTES), file))
                else:
                    file.unlink()
            finally:
                os.close(fd)
    return tuple(sorted(found, key=lambda each: (each.started_at, each.run)))


def _is_held(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _parse(text: bytes, file: Path) -> Running:
    try:
        said = json.loads(text)
        plugins = tuple(Plugin(**each) for each in said.pop("plugins"))
        return Running(**said, plugins=plugins)
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            "this is not the record of a run", Where(file=str(file)), hint="Delete it"
        ) from error


@contextlib.contextmanager
def under_orders(
    site: Site,
    conversation: Conversation,
    run: str,
    kind: str,
    pipeline: str,
    workspace: Path,
    plugins: Sequence[Installed],
) -> Iterator[None]:
    """Let signals, ``dativo stop`` and the deny list end a run."""
    found = tuple(Plugin(each.reference, each.version, each.digest) for each in plugins)
    running = Running.now(run, kind, pipeline, workspace, found)
    with registered(site.paths, running), signals(conversation):
        conversation.objection = DenyList(site.paths, site.env, found).objection
        yield


# --- stop ------------------------------------------------------------------------------------------------------------------


def stop(paths: Paths, running: Running, *, grace_s: float) -> bool:
    """End a run: SIGTERM, and after ``grace_s`` SIGKILL. Returns whether it had to be killed. Blocks until it has ended.

    Raises ConfigError when it belongs to another user or outlives SIGKILL (a process that hangs in the machine).
    """
    file = paths.state / _FOLDER / f"{running.run}.json"
    try:
        process = os.pidfd_open(running.pid)
    except ProcessLookupError:
        return False
    try:
        # Only its holder keeps the lock, so the number was still the run's when the descriptor was made.
        if running not in listing(paths):
            return False
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if _ends(process, grace_s):
            return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
        if _ends(process, _KILLED_WITHIN_S):
            file.unlink(missing_ok=True)
            return True
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise ConfigError(
            f"run {running.run} belongs to another user", hint="Stop it as that user, or as root"
        ) from error
    finally:
        os.close(process)
    raise ConfigError(f"run {running.run} (pid {running.pid}) does not die of SIGKILL")


def _ends(process: int, within_s: float) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(within_s * 1000))


# --- the deny list, while it runs ------------------------------------------------------------------------------------------


class DenyList:
    """The operator's word on the plugins of a run, asked again whenever it has changed."""

    def __init__(self, paths: Paths, env: Mapping[str, str], plugins: Sequence[Plugin]) -> None:
        self._paths = paths
        self._env = env
        self._plugins = tuple(plugins)
        self._seen = self._stamp()
        self._next_at = 0.0
        self._unreadable_since: float | None = None

    def objection(self, now: float | None = None) -> DativoError | None:
        """Return why the run must end, or None. Cheap: looks at the files once in POLICY_TICK_S.

        A policy that cannot be read, as while it is being edited, is an objection after POLICY_GRACE_S.
        """
        now = time.monotonic() if now is None else now
        if now < self._next_at:
            return None
        self._next_at = now + POLICY_TICK_S
        stamp = self._stamp()
        if stamp == self._seen and self._unreadable_since is None:
            return None
        try:
            policy = load_policy(self._paths, self._env)
        except DativoError as error:
            if self._unreadable_since is None:
                self._unreadable_since = now
            return error if now - self._unreadable_since >= POLICY_GRACE_S else None
        self._unreadable_since = None
        self._seen = stamp
        try:
            for each in self._plugins:
                policy.check_blocked(each.reference, each.version, each.digest)
        except DativoError as error:
            return error
        return None

    def _stamp(self) -> tuple[object, ...]:
        return tuple(_stamp(path) for path in (self._paths.policy, self._paths.blocked))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
