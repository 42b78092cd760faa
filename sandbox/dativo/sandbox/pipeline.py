"""Start a program behind its walls: plan, spawn stage 1, check what stage 2 attests, let it go.

The way of a launch, as docs/spec/sandbox.md draws it: memory files hold bubblewrap's options, both stages' plans and the
private files; stage 1 becomes bubblewrap, bubblewrap becomes stage 2 inside, a broker is given the sockets of its network
where one is granted, and stage 2 starts the program.
"""

from __future__ import annotations

import _thread
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dativo.sandbox import cgroup, diagnosis, executables, watchdog
from dativo.sandbox.attestation import UPGRADE, Asked, Attestation, verify
from dativo.sandbox.confined import Confined, Handles
from dativo.sandbox.errors import SandboxError, StartFailed, WallMissing
from dativo.sandbox.mounts import View, bubblewrap_options, etc_files, plan_view
from dativo.sandbox.network import Network, check_network, standing
from dativo.sandbox.program import MIB, Grants, Identity, Limits, Program, Walls
from dativo.sandbox.seccomp import blob_path
from dativo.sandbox.sockets import make_sockets
from dativo.sandbox.stages import Streams, encode, sockets_plan, stage1_plan, stage2_plan
from dativo.sandbox.stderr import StderrTail

# Where stage 1 shows the granted sources to bubblewrap, in a mount namespace of its own; root only.
VIEW_FOLDER: Final = Path("/run/dativo/view")
# Allocators reserve address space that they never touch; the watchdog bounds what is touched.
DATA_SLACK_BYTES: Final = 1024 * MIB
_LOWEST_FD: Final = 10
_MAX_MESSAGE_BYTES: Final = 65536
_CREDENTIALS: Final = struct.Struct("iII")
_NPROC_PER_NAMESPACE: Final = (5, 14)
_ABORT_WITHIN_S: Final = 10.0


def launch(
    program: Program,
    grants: Grants,
    *,
    identity: Identity | None,
    walls: Walls,
    stdin: int | None,
    stdout: int | None,
    stderr: int | None = None,
    control: int | None,
    run: str,
    sockets: int | None = None,
    client: str = "",
    attest_timeout_s: float = 10,
) -> Confined:
    """Start ``program`` and return once every wall is attested and its exec has succeeded.

    Call it from the main thread: a confined process dies with the thread that started it. ``identity`` is required as
    root and must be None otherwise. ``stdin`` None is /dev/null; ``stdout`` None makes a pipe, ``Confined.stdout``; ``stderr``
    None goes to ``Confined.read_stderr``, which otherwise hears of the walls alone; ``control`` becomes descriptor 3.
    ``sockets`` is a SOCK_SEQPACKET socket that leads to a broker, required with a network that has ports: what listens in the
    process's namespace is handed over there before the program starts, under the name ``client``. The caller keeps its copies
    of these five and closes them. ``run`` is for the name of the cgroup. Raises WallMissing for a wall that cannot be built or
    was not found to stand, StartFailed when the program cannot be started; nothing is left running then.
    """
    _check_caller(identity)
    check_network(grants.network, host=grants.host_network, sockets=sockets, client=client)
    leaf, kind = _make_leaf(walls, grants.limits, run, program.name)
    try:
        with _Descriptors() as fds:
            handed = _Handed(stdin, stdout, stderr, control)
            attempt = _prepare(program, grants, identity, leaf, fds, handed)
            served = None if sockets is None else _Served(fds.copy(sockets), client, identity)
            return _start(attempt, program, grants, leaf, kind, fds, served, attest_timeout_s)
    except BaseException as error:
        if leaf is not None:
            counted = leaf.counted()
            leaf.remove()
            if isinstance(error, SandboxError) and (counted.memory_kills or counted.forks_refused):
                limits = grants.limits
                raise StartFailed(
                    f"{limits.memory_bytes} bytes and {limits.pids} processes are too little to start"
                ) from error
        raise


def _check_caller(identity: Identity | None) -> None:
    if _thread.get_native_id() != os.getpid():
        raise SandboxError("launch() is for the main thread only")
    if (os.geteuid() == 0) != (identity is not None):
        raise WallMissing(
            "identity",
            "root must name who the process becomes, and nobody else can",
            "Pass allocate_identity().identity as root, None otherwise.",
        )
    if identity is not None and (identity.uid <= 0 or identity.gid <= 0):
        raise WallMissing("identity", "uid 0 and gid 0 are never given to a confined process")


def _make_leaf(
    walls: Walls, limits: Limits, run: str, name: str
) -> tuple[cgroup.Leaf | None, cgroup.Kind]:
    try:
        leaf = cgroup.find_base().leaf(cgroup.leaf_name(run, name), limits)
    except WallMissing:
        if walls.cgroup == "required":
            raise
        watchdog.require_children_files()
        return None, "degraded"
    return leaf, leaf.kind


class _Descriptors:
    """Descriptors of one launch, all above the standard ones and closed at exec; closed here unless taken."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def own(self, fd: int) -> int:
        """Move a new descriptor out of the way of 0, 1 and 2."""
        if fd < _LOWEST_FD:
            low, fd = fd, self.copy(fd)
            os.close(low)
        self._open.add(fd)
        return fd

    def copy(self, fd: int) -> int:
        """Duplicate a descriptor of the caller."""
        new = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD)
        self._open.add(new)
        return new

    def content(self, name: str, content: bytes) -> int:
        """Hold bytes in a memory file, to be read from its start."""
        fd = self.own(os.memfd_create(name))
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def pipe(self) -> tuple[int, int]:
        """Make a pipe: read end, write end."""
        out, into = os.pipe()
        return self.own(out), self.own(into)

    def take(self, fd: int) -> int:
        """Hand a descriptor to a longer life."""
        self._open.remove(fd)
        return fd

    def close(self, fds: Iterable[int]) -> None:
        """Close some early."""
        for fd in set(fds) & self._open:
            os.close(self.take(fd))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(tuple(self._open))


@dataclass(frozen=True, slots=True)
class _Handed:
    """The caller's descriptors."""

    stdin: int | None
    stdout: int | None
    stderr: int | None
    control: int | None


@dataclass(frozen=True, slots=True)
class _Served:
    """The broker of a network: the socket to it, the name of this process there, and who owns the namespace (root only)."""

    broker: int
    client: str
    identity: Identity | None


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Everything that the spawn needs, in descriptors. ``passed`` are those that stage 1 inherits beside 0, 1 and 2."""

    stage1: str
    plan_fd: int
    passed: tuple[int, ...]
    report: int
    stderr_out: int
    stderr_in: int
    stdout: int | None
    asked: Asked


def _prepare(
    program: Program,
    grants: Grants,
    identity: Identity | None,
    leaf: cgroup.Leaf | None,
    fds: _Descriptors,
    handed: _Handed,
) -> _Attempt:
    if not program.argv or not program.argv[0].startswith("/"):
        raise StartFailed(f"{program.name}: argv must begin with an absolute path")
    view = plan_view(program, grants)
    confine, bwrap = str(executables.confine().resolve()), str(executables.bubblewrap())
    seccomp = fds.own(os.open(blob_path(), os.O_RDONLY | os.O_CLOEXEC))
    attached, sources, stage2_source = _attached(view, confine, identity)
    becomes = identity or Identity(os.getuid(), os.getgid(), tuple(os.getgroups()))
    files = {
        path: fds.content("file", content) for path, content in etc_files(becomes, grants).items()
    } | {file.path: fds.content("file", file.content) for file in view.files}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Before anything is sent: the kernel then puts pid, uid and gid of the sender on each message (unix(7)).
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    report = fds.own(ours.detach())
    stdout_out: int | None = None
    if handed.stdout is None:
        stdout_out, stdout_in = fds.pipe()
    else:
        stdout_in = fds.copy(handed.stdout)
    streams = Streams(
        report=fds.own(theirs.detach()),
        stdin=fds.own(os.open("/dev/null", os.O_RDONLY))
        if handed.stdin is None
        else fds.copy(handed.stdin),
        stdout=stdout_in,
        stderr=None if handed.stderr is None else fds.copy(handed.stderr),
        control=None if handed.control is None else fds.copy(handed.control),
    )
    limits = _rlimits(grants.limits, degraded=leaf is None)
    stage2 = fds.content("plan", stage2_plan(program, grants, view, limits, streams))
    options = bubblewrap_options(
        view, grants, stage2_source=stage2_source, sources=sources, fds=files
    )
    options_fd = fds.content("options", encode([*options, "--seccomp", seccomp]))
    inside = (*streams.all, stage2)
    kept = (*inside, options_fd, seccomp, *files.values())
    plan = stage1_plan(
        kept=kept,
        joins=[str(path) for path in leaf.joins] if leaf else (),
        folder=str(VIEW_FOLDER) if identity else None,
        protected=view.protected,
        attached=attached,
        identity=identity,
        bubblewrap=bwrap,
        options_fd=options_fd,
        plan_fd=stage2,
    )
    plan_fd = fds.content("plan", plan)
    stderr_out, stderr_in = fds.pipe()
    asked = Asked(
        identity=becomes,
        descriptors=frozenset({0, 1, 2, *streams.all}),
        limits=limits,
        members=leaf.members if leaf else (),
        cgroup=leaf.kind if leaf else "degraded",
        network=standing(grants.network, host=grants.host_network),
    )
    return _Attempt(
        confine, plan_fd, (*kept, plan_fd), report, stderr_out, stderr_in, stdout_out, asked
    )


def _attached(
    view: View, confine: str, identity: Identity | None
) -> tuple[list[tuple[str, str, bool]], dict[str, str], str]:
    """As root: what stage 1 attaches, where bubblewrap finds the source of each mount, and stage 2's executable."""
    if identity is None:
        return [], {}, confine
    for folder in (VIEW_FOLDER.parent, VIEW_FOLDER):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)  # whatever the umask: the dropped uid must pass
    attached = [(confine, f"{VIEW_FOLDER}/confine", False)]
    sources: dict[str, str] = {}
    for number, mount in enumerate(view.given):
        sources[mount.inside] = f"{VIEW_FOLDER}/{number}"
        attached.append((mount.source, sources[mount.inside], mount.writable))
    return attached, sources, attached[0][1]


def _rlimits(limits: Limits, *, degraded: bool) -> dict[str, int]:
    def bounded(wanted: int, kind: int) -> int:
        hard = resource.getrlimit(kind)[1]
        return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)

    found = {
        "core": 0,
        "nofile": bounded(limits.open_files, resource.RLIMIT_NOFILE),
        "fsize": bounded(limits.file_bytes, resource.RLIMIT_FSIZE),
    }
    if degraded:
        found["data"] = bounded(limits.memory_bytes + DATA_SLACK_BYTES, resource.RLIMIT_DATA)
        release = os.uname().release.split(".")
        # Counted per user namespace, so of this process tree alone, since Linux 5.14; before that of the whole user.
        if (int(release[0]), int(release[1])) >= _NPROC_PER_NAMESPACE:
            found["nproc"] = bounded(limits.pids, resource.RLIMIT_NPROC)
    return found


def _start(
    attempt: _Attempt,
    program: Program,
    grants: Grants,
    leaf: cgroup.Leaf | None,
    kind: cgroup.Kind,
    fds: _Descriptors,
    served: _Served | None,
    timeout_s: float,
) -> Confined:
    monitor = _spawn(attempt)
    monitor_fd = fds.own(os.pidfd_open(monitor))
    fds.close((*attempt.passed, attempt.stderr_in))
    report = socket.socket(fileno=fds.take(attempt.report))
    stderr = StderrTail(attempt.stderr_out, grants.limits.stderr_bytes)
    deadline_s = time.monotonic() + timeout_s
    exchange = _Exchange(report, monitor_fd, stderr, deadline_s)
    tree_fd: int | None = None
    try:
        message, credentials = exchange.receive()
        tree_fd = fds.own(os.pidfd_open(credentials[0]))
        attestation: Attestation = verify(message, credentials, attempt.asked)
        if served is not None and grants.network is not None:
            _serve(grants.network, served, attempt.stage1, attestation, fds, deadline_s)
        exchange.go()
        exchange.receive()
    except BaseException as error:
        _abort(monitor_fd, tree_fd, report)
        if isinstance(error, StartFailed):
            stderr.drain()
            error.stderr = stderr.tail()
        raise
    for fd in (monitor_fd, tree_fd, attempt.stderr_out, attempt.stdout):
        if fd is not None:
            fds.take(fd)
    handles = Handles(monitor, monitor_fd, tree_fd, report, stderr, attempt.stdout, leaf)
    return Confined(program.name, attestation, grants.limits, handles)


def _spawn(attempt: _Attempt) -> int:
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, attempt.stderr_in, 2),
    ]
    # A duplicate onto itself only clears close-on-exec (posix_spawn_file_actions_adddup2(3), since glibc 2.29).
    actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in attempt.passed]
    try:
        return os.posix_spawn(
            attempt.stage1,
            ["dativo-confine", "stage1", str(attempt.plan_fd)],
            {},
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
    except OSError as error:
        raise StartFailed(f"cannot run {attempt.stage1}: {error.strerror}") from error


def _serve(
    network: Network,
    served: _Served,
    confine: str,
    attestation: Attestation,
    fds: _Descriptors,
    deadline_s: float,
) -> None:
    """Give the broker what listens in the network namespace of an attested stage 2."""
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
            network, served.client, served.identity, namespace=namespace, broker=served.broker
        ),
    )
    said = fds.own(os.memfd_create("stderr"))
    passed = (namespace, served.broker)
    make_sockets(confine, plan, passed, said, deadline_s)
    fds.close((plan, said, *passed))


class _Exchange:
    """The first messages of stage 2, against a deadline, while stderr is drained."""

    def __init__(
        self, report: socket.socket, monitor_fd: int, stderr: StderrTail, deadline: float
    ) -> None:
        self._report = report
        self._monitor_fd = monitor_fd
        self._stderr = stderr
        self._deadline = deadline
        self._attested = False

    def receive(self) -> tuple[bytes, tuple[int, int, int]]:
        """Return one message and pid, uid and gid of its sender; raise what a failure means."""
        poll = select.poll()
        for fd in (self._report.fileno(), self._monitor_fd, self._stderr.fd):
            poll.register(fd, select.POLLIN)
        while True:
            left_s = self._deadline - time.monotonic()
            ready = {fd for fd, _ in poll.poll(max(0.0, left_s * 1000))}
            if self._stderr.fd in ready:
                self._stderr.drain()
                if self._stderr.closed:
                    poll.unregister(self._stderr.fd)
            if self._report.fileno() in ready and (found := self._read()):
                return found
            if self._monitor_fd in ready:
                self._stderr.drain()
                ended = os.waitid(os.P_PIDFD, self._monitor_fd, os.WEXITED | os.WNOWAIT)
                raise diagnosis.explain(
                    self._stderr.tail(),
                    ended.si_status if ended else None,
                    attested=self._attested,
                )
            if left_s <= 0:
                if self._attested:
                    raise StartFailed("the program was not started in time")
                raise WallMissing("attestation", "did not come in time", UPGRADE)
            if self._report.fileno() in ready:
                # Closed without a message: bubblewrap is about to end and to say why.
                poll.unregister(self._report.fileno())

    def _read(self) -> tuple[bytes, tuple[int, int, int]] | None:
        message, ancillary, _, _ = self._report.recvmsg(
            _MAX_MESSAGE_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size)
        )
        if not message:
            return None
        credentials = next(
            _CREDENTIALS.unpack(data)
            for _, kind, data in ancillary
            if kind == socket.SCM_CREDENTIALS
        )
        if message.startswith(b'{"type":"failed"'):
            failed = json.loads(message)
            if failed["wall"] in ("start", "plan"):
                raise StartFailed(failed["reason"], errno=failed.get("errno"))
            raise WallMissing(failed["wall"], failed["reason"])
        return message, credentials

    def go(self) -> None:
        """Let stage 2 start the program: the attestation was compared."""
        self._attested = True
        self._report.send(b"go")


def _abort(monitor_fd: int, tree_fd: int | None, report: socket.socket) -> None:
    """Kill and reap a launch that failed. Closing the report socket ends stage 2 wherever it is."""
    report.close()
    for fd in (tree_fd, monitor_fd):
        if fd is not None:
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            except ProcessLookupError:
                continue  # dead already
    os.waitid(os.P_PIDFD, monitor_fd, os.WEXITED)
    if tree_fd is not None:
        poll = select.poll()
        poll.register(tree_fd, select.POLLIN)
        poll.poll(_ABORT_WITHIN_S * 1000)
