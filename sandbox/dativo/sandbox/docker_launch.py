"""The second back end: Docker Engine in the place of stage 1 and bubblewrap, under the same policy.

The engine makes the container from a request of ours (docker_body.py), spoken by one small process (docker_keeper.py). Its entry
point is dativo-confine, which takes plan, filter and the program's streams over a socket bound into it, goes on as stage 2, and
attests as ever; the sockets of a network are made in its namespace as in any. What it lacks against the first: a user namespace
of its own. Root only, and without protected paths and runtimes of the host.
"""

from __future__ import annotations

import array
import os
import select
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dativo.sandbox import diagnosis, executables
from dativo.sandbox.attestation import UPGRADE, Asked, Attestation, verify
from dativo.sandbox.confined import Confined, Handles
from dativo.sandbox.descriptors import Descriptors
from dativo.sandbox.docker_body import container_body
from dativo.sandbox.docker_container import ContainerLeaf, Keeper, make_folder, remove_folder
from dativo.sandbox.docker_view import view_with_image
from dativo.sandbox.errors import StartFailed, WallMissing
from dativo.sandbox.exchange import Exchange
from dativo.sandbox.launching import Launching, Served, serve
from dativo.sandbox.mounts import View, etc_files, plan_view
from dativo.sandbox.network import standing
from dativo.sandbox.program import Container, Grants, Identity, Program
from dativo.sandbox.rlimits import rlimits
from dativo.sandbox.seccomp import blob_path
from dativo.sandbox.stages import stage2_plan
from dativo.sandbox.stderr import StderrTail
from dativo.sandbox.streams import Handed, Streams, open_ends

FOLDER: Final = Path("/run/dativo/docker")
ATTEST_TIMEOUT_S: Final = 60.0
_CREDENTIALS: Final = struct.Struct("iII")


def begin_in_docker(
    program: Program,
    container: Container,
    grants: Grants,
    identity: Identity | None,
    handed: Handed,
    *,
    sockets: int | None = None,
    client: str = "",
    attest_timeout_s: float | None = None,
) -> Launching:
    """Ask the engine for the container of ``program``; the rest is :func:`dativo.sandbox.begin_launch`, which calls this."""
    _check(program, grants)
    if identity is None:
        raise WallMissing(
            "docker",
            "whoever speaks to an engine is root on its host, so only root may",
            "Unpack the image and run it with the first back end.",
        )
    view = plan_view(program, grants)
    _check_view(view, grants)
    asked = _Wanted(program, container, grants, identity, view)
    folder, fds = make_folder(FOLDER), Descriptors()
    try:
        served = None
        if sockets is not None and grants.network is not None:
            # The namespaces of a container are the host's root's: who makes the sockets becomes nobody else first.
            served = Served(grants.network, fds.copy(sockets), client, None)
        ends = _ends(fds, handed, _listen(folder, identity))
        keeper = Keeper.start(_request(asked, folder), ends.stderr_in)
    except BaseException:
        fds.close_all()
        remove_folder(folder)
        raise
    patience_s = ATTEST_TIMEOUT_S if attest_timeout_s is None else attest_timeout_s
    return InContainer(asked, folder, fds, ends, keeper, served, patience_s)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be started, and where."""

    program: Program
    container: Container
    grants: Grants
    identity: Identity
    view: View


@dataclass(frozen=True, slots=True)
class _Ends:
    """Descriptors: where dativo-confine connects, ours of report, stdout and stderr, and what the container is handed."""

    listener: int
    report: int
    stdout: int | None
    stderr: int
    stderr_in: int
    streams: Streams


class InContainer(Launching):
    """A container that is being made; everything of it is gone when the launch fails."""

    def __init__(
        self,
        wanted: _Wanted,
        folder: Path,
        fds: Descriptors,
        ends: _Ends,
        keeper: Keeper,
        served: Served | None,
        timeout_s: float,
    ) -> None:
        self._wanted = wanted
        self._folder = folder
        self._fds = fds
        self._ends = ends
        self._keeper = keeper
        self._served = served
        self._timeout_s = timeout_s
        self._stderr = StderrTail(ends.stderr, wanted.grants.limits.stderr_bytes)
        self._report = socket.socket(fileno=fds.take(ends.report))

    def _finish(self) -> Confined:
        try:
            attestation, tree_fd, leaf = self._let_go()
        except BaseException as error:
            self.abandon()
            if isinstance(error, StartFailed):
                error.stderr = self._stderr.tail()
            raise
        ends, keeper = self._ends, self._keeper
        for fd in (tree_fd, ends.stderr, ends.stdout):
            if fd is not None:
                self._fds.take(fd)
        self._fds.close_all()
        handles = Handles(
            keeper.pid, keeper.pidfd, tree_fd, self._report, self._stderr, ends.stdout, leaf
        )
        wanted = self._wanted
        return Confined(wanted.program.name, attestation, wanted.grants.limits, handles)

    def abandon(self) -> None:
        """See :class:`Launching`."""
        self._report.close()
        self._fds.close((self._ends.stderr_in,))
        self._keeper.abandon()
        self._stderr.drain()
        self._fds.close_all()
        remove_folder(self._folder)

    def _let_go(self) -> tuple[Attestation, int, ContainerLeaf]:
        deadline_s = time.monotonic() + self._timeout_s
        connection, pid = self._accept(deadline_s)
        with connection:
            tree_fd = self._fds.own(os.pidfd_open(pid))
            leaf = ContainerLeaf.of(pid, self._keeper, self._folder)
            leaf.limit(self._wanted.grants.limits)
            asked = self._asked(leaf)
            self._hand_over(connection, pid, asked.limits)
        exchange = Exchange(self._report, self._keeper.pidfd, self._stderr, deadline_s)
        message, credentials = exchange.receive()
        attestation = verify(message, credentials, asked)
        if attestation.pid != pid:
            raise WallMissing("attestation", f"is of process {attestation.pid}, not {pid}")
        if self._served is not None:
            confine = str(executables.confine().resolve())
            serve(self._served, confine, attestation, self._fds, deadline_s)
        exchange.go()
        exchange.receive()
        return attestation, tree_fd, leaf

    def _accept(self, deadline_s: float) -> tuple[socket.socket, int]:
        """Wait for dativo-confine in the container; return the connection and its pid as seen here."""
        poll = select.poll()
        poll.register(self._ends.listener, select.POLLIN)
        poll.register(self._keeper.pidfd, select.POLLIN)
        left_s = max(0.0, deadline_s - time.monotonic())
        ready = {fd for fd, _ in poll.poll(left_s * 1000)}
        if self._ends.listener in ready:
            with socket.socket(fileno=self._fds.take(self._ends.listener)) as listener:
                connection, _ = listener.accept()
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            pid, uid, gid = _CREDENTIALS.unpack(raw)
            try:
                self._check_peer(pid, uid, gid)
            except BaseException:
                connection.close()
                raise
            return connection, pid
        self._stderr.drain()
        if (ended := self._keeper.ended()) is not None:
            raise WallMissing(
                "docker",
                f"the container ended with status {ended['status']} before anybody in it answered",
                UPGRADE,
            )
        if ready:
            raise diagnosis.explain(self._stderr.tail(), None)
        raise WallMissing("docker", "the container was not there in time")

    def _check_peer(self, pid: int, uid: int, gid: int) -> None:
        """Whatever the image has at the path of the entry point: the plan goes to dativo-confine alone."""
        if (uid, gid) != (self._wanted.identity.uid, self._wanted.identity.gid):
            raise WallMissing("identity", f"the container runs as {uid}:{gid}")
        if not Path(f"/proc/{pid}/exe").samefile(executables.confine()):
            raise WallMissing("attestation", "the container runs another program", UPGRADE)

    def _asked(self, leaf: ContainerLeaf) -> Asked:
        wanted = self._wanted
        return Asked(
            identity=wanted.identity,
            descriptors=frozenset({0, 1, 2, *self._ends.streams.all}),
            limits=rlimits(wanted.grants.limits, degraded=False),
            members=leaf.members,
            cgroup=leaf.kind,
            network=standing(wanted.grants.network, host=False),
            shared=frozenset({"user"}),
            filters=2,
            needs_landlock=bool(wanted.grants.exchange),
        )

    def _hand_over(self, connection: socket.socket, pid: int, limits: dict[str, int]) -> None:
        """Send the descriptors, each with the number that it has here; our copies are closed."""
        fds, wanted, streams = self._fds, self._wanted, self._ends.streams
        seen = view_with_image(wanted.view, pid)
        content = stage2_plan(wanted.program, wanted.grants, seen, limits, streams)
        plan = fds.content("plan", content)
        seccomp = fds.own(os.open(blob_path(), os.O_RDONLY | os.O_CLOEXEC))
        null = fds.own(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
        numbered = [(fd, fd) for fd in (plan, seccomp, *streams.all)]
        numbered += [(0, null), (1, null), (2, self._ends.stderr_in)]
        text = " ".join(str(number) for number, _ in numbered).encode()
        rights = array.array("i", [fd for _, fd in numbered])
        connection.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        fds.close((plan, seccomp, null, self._ends.stderr_in, *streams.all))


def _listen(folder: Path, identity: Identity) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        path = folder / "socket"
        listener.bind(str(path))
        path.chmod(0o600)
        os.chown(path, identity.uid, identity.gid)
        listener.listen(1)
        return listener.detach()


def _ends(fds: Descriptors, handed: Handed, listener: int) -> _Ends:
    listener = fds.own(listener)
    ends = open_ends(fds, handed)
    stderr, stderr_in = fds.pipe()
    return _Ends(listener, ends.report, ends.stdout, stderr, stderr_in, ends.streams)


def _request(wanted: _Wanted, folder: Path) -> dict[str, object]:
    limits = wanted.grants.limits
    body = container_body(
        wanted.container.image,
        limits,
        wanted.identity,
        wanted.view.given,
        _small_files(wanted, folder),
        confine=str(executables.confine().resolve()),
        handed=str(folder / "socket"),
    )
    return {
        "socket": str(wanted.container.engine),
        "image": wanted.container.image,
        "volume_bytes": limits.tmp_bytes,
        "body": body,
    }


def _small_files(wanted: _Wanted, folder: Path) -> dict[str, tuple[str, bool]]:
    """Write the files of /etc and the private ones, which the container is shown from here."""
    uid, gid = wanted.identity.uid, wanted.identity.gid
    found: dict[str, tuple[str, bool]] = {}
    private = {file.path: file.content for file in wanted.view.files}
    public = etc_files(wanted.identity, wanted.grants)
    for number, (inside, content) in enumerate((public | private).items()):
        path = folder / str(number)
        path.write_bytes(content)
        path.chmod(0o600 if inside in private else 0o444)
        os.chown(path, uid if inside in private else 0, gid if inside in private else 0)
        found[inside] = (str(path), inside in private)
    return found


def _check(program: Program, grants: Grants) -> None:
    for what, given in (
        ("the launcher's own network", grants.host_network),
        ("protected paths", bool(grants.protected)),
        ("a runtime of the host", bool(program.runtime)),
        ("an unpacked root", program.root is not None),
    ):
        if given:
            raise WallMissing(
                "docker",
                f"{program.name} is given {what}, which this back end has not",
                "Unpack the image and run it with the first one.",
            )
    if not program.argv or not program.argv[0].startswith("/"):
        raise StartFailed(f"{program.name}: argv must begin with an absolute path")


def _check_view(view: View, grants: Grants) -> None:
    """Find a grant that the plan left out because the host's /usr shows it; a container does not."""
    shown = {mount.source for mount in view.given}
    for path in (*grants.read, *grants.write):
        if os.path.realpath(path) not in shown:
            raise WallMissing("mounts", f"{path} lies in another granted path or in /usr")
