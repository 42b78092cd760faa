"""The second back end: Docker Engine in the place of stage 1 and bubblewrap, under the same policy.

The engine makes the container from a request of ours (docker_body.py), spoken by one small process (docker_keeper.py). Its entry
point is dativo-confine, which takes plan, filter and the program's streams over a socket bound into it, goes on as stage 2, and
attests as ever. What it lacks against the first: a user namespace of its own. Root only, and without network, protected paths and
runtimes of the host.
"""

from __future__ import annotations

import array
import os
import re
import select
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dativo.sandbox import diagnosis, executables
from dativo.sandbox.attestation import UPGRADE, Asked, verify
from dativo.sandbox.confined import Confined, Handles
from dativo.sandbox.descriptors import Descriptors
from dativo.sandbox.docker_body import container_body
from dativo.sandbox.docker_container import ContainerLeaf, Keeper, make_folder, remove_folder
from dativo.sandbox.errors import StartFailed, WallMissing
from dativo.sandbox.exchange import Exchange
from dativo.sandbox.mounts import Access, View, etc_files, plan_view
from dativo.sandbox.pipeline import _check_caller, _rlimits
from dativo.sandbox.program import Grants, Identity, Program
from dativo.sandbox.seccomp import blob_path
from dativo.sandbox.stages import Streams, stage2_plan
from dativo.sandbox.stderr import StderrTail

FOLDER: Final = Path("/run/dativo/docker")
ENGINE: Final = Path("/run/docker.sock")
# Never executed from, whatever the image has there.
_NOT_OF_IMAGE: Final = frozenset(("proc", "sys", "dev", "tmp", ".dativo"))
_ENGINES: Final = frozenset(("proc", "sys", "dev"))
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
_CREDENTIALS: Final = struct.Struct("iII")
_MAX_ENTRIES: Final = 256


@dataclass(frozen=True, slots=True)
class Handed:
    """The caller's descriptors, as those of :func:`dativo.sandbox.launch`."""

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
    control: int | None = None


def launch_in_docker(
    program: Program,
    image: str,
    grants: Grants,
    *,
    identity: Identity,
    handed: Handed,
    engine: Path = ENGINE,
    attest_timeout_s: float = 60,
) -> Confined:
    """Start ``program`` in the image with this id (``sha256:…``); return once every wall is attested and its exec has succeeded.

    Raises WallMissing and StartFailed as :func:`dativo.sandbox.launch` does; nothing is left running then. ``engine`` is
    the engine's socket.
    """
    _check_caller(identity)
    _check(program, grants)
    view = plan_view(program, grants)
    _check_view(view, grants)
    folder = make_folder(FOLDER)
    fds = Descriptors()
    launch = _Launch(program, grants, identity, view, fds, folder, attest_timeout_s)
    return launch.run(image, engine, handed)


class _Launch:
    """One launch under way; everything that it has made is closed when it fails."""

    def __init__(
        self,
        program: Program,
        grants: Grants,
        identity: Identity,
        view: View,
        fds: Descriptors,
        folder: Path,
        timeout_s: float,
    ) -> None:
        self._program = program
        self._grants = grants
        self._identity = identity
        self._view = view
        self._fds = fds
        self._folder = folder
        self._deadline_s = time.monotonic() + timeout_s
        stderr_out, self._stderr_in = fds.pipe()
        self._stderr = StderrTail(stderr_out, grants.limits.stderr_bytes)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Before anything is sent: the kernel then puts pid, uid and gid of the sender on each message (unix(7)).
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._report, self._theirs = ours, fds.own(theirs.detach())

    def run(self, image: str, engine: Path, handed: Handed) -> Confined:
        keeper = leaf = None
        try:
            with self._listen() as listener:
                keeper = Keeper.start(self._request(image, engine), self._stderr_in)
                connection, pid = self._accept(listener, keeper)
            with connection:
                tree_fd = self._fds.own(os.pidfd_open(pid))
                leaf = ContainerLeaf.of(pid, keeper, self._folder)
                leaf.limit(self._grants.limits)
                stdout_out, streams = self._streams(handed)
                asked = self._asked(leaf, streams)
                self._hand_over(connection, pid, streams, asked.limits)
            exchange = Exchange(self._report, keeper.pidfd, self._stderr, self._deadline_s)
            message, credentials = exchange.receive()
            attestation = verify(message, credentials, asked)
            if attestation.pid != pid:
                raise WallMissing("attestation", f"is of process {attestation.pid}, not {pid}")
            exchange.go()
            exchange.receive()
        except BaseException as error:
            self._report.close()
            self._fds.close((self._stderr_in,))
            if keeper is not None:
                keeper.abandon()
            if isinstance(error, StartFailed):
                self._stderr.drain()
                error.stderr = self._stderr.tail()
            self._fds.close_all()
            remove_folder(self._folder)
            raise
        for fd in (tree_fd, self._stderr.fd, stdout_out):
            if fd is not None:
                self._fds.take(fd)
        self._fds.close_all()
        handles = Handles(
            keeper.pid, keeper.pidfd, tree_fd, self._report, self._stderr, stdout_out, leaf
        )
        return Confined(self._program.name, attestation, self._grants.limits, handles)

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = self._folder / "socket"
        listener.bind(str(path))
        path.chmod(0o600)
        os.chown(path, self._identity.uid, self._identity.gid)
        listener.listen(1)
        return listener

    def _request(self, image: str, engine: Path) -> dict[str, object]:
        limits = self._grants.limits
        body = container_body(
            image,
            limits,
            self._identity,
            self._view.given,
            self._small_files(),
            confine=str(executables.confine().resolve()),
            handed=str(self._folder / "socket"),
        )
        return {
            "socket": str(engine),
            "image": image,
            "volume_bytes": limits.tmp_bytes,
            "body": body,
        }

    def _small_files(self) -> dict[str, tuple[str, bool]]:
        """Write the files of /etc and the private ones, which the container is shown from here."""
        uid, gid = self._identity.uid, self._identity.gid
        found: dict[str, tuple[str, bool]] = {}
        private = {file.path: file.content for file in self._view.files}
        public = etc_files(self._identity, self._grants)
        for number, (inside, content) in enumerate((public | private).items()):
            path = self._folder / str(number)
            path.write_bytes(content)
            path.chmod(0o600 if inside in private else 0o444)
            os.chown(path, uid if inside in private else 0, gid if inside in private else 0)
            found[inside] = (str(path), inside in private)
        return found

    def _accept(self, listener: socket.socket, keeper: Keeper) -> tuple[socket.socket, int]:
        """Wait for dativo-confine in the container; return the connection and its pid as seen here."""
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(keeper.pidfd, select.POLLIN)
        left_s = max(0.0, self._deadline_s - time.monotonic())
        ready = {fd for fd, _ in poll.poll(left_s * 1000)}
        if listener.fileno() in ready:
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
        if (ended := keeper.ended()) is not None:
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
        if (uid, gid) != (self._identity.uid, self._identity.gid):
            raise WallMissing("identity", f"the container runs as {uid}:{gid}")
        if not Path(f"/proc/{pid}/exe").samefile(executables.confine()):
            raise WallMissing("attestation", "the container runs another program", UPGRADE)

    def _streams(self, handed: Handed) -> tuple[int | None, Streams]:
        fds = self._fds
        stdout_out: int | None = None
        if handed.stdout is None:
            stdout_out, stdout = fds.pipe()
        else:
            stdout = fds.copy(handed.stdout)
        null = os.open("/dev/null", os.O_RDONLY) if handed.stdin is None else None
        return stdout_out, Streams(
            report=self._theirs,
            stdin=fds.own(null) if null is not None else fds.copy(handed.stdin or 0),
            stdout=stdout,
            stderr=None if handed.stderr is None else fds.copy(handed.stderr),
            control=None if handed.control is None else fds.copy(handed.control),
        )

    def _asked(self, leaf: ContainerLeaf, streams: Streams) -> Asked:
        return Asked(
            identity=self._identity,
            descriptors=frozenset({0, 1, 2, *streams.all}),
            limits=_rlimits(self._grants.limits, degraded=False),
            members=leaf.members,
            cgroup=leaf.kind,
            network="empty",
            shared=frozenset({"user"}),
            filters=2,
        )

    def _hand_over(
        self, connection: socket.socket, pid: int, streams: Streams, limits: dict[str, int]
    ) -> None:
        """Send the descriptors, each with the number that it has here; our copies are closed."""
        fds = self._fds
        seen = _with_image(self._view, pid)
        plan = fds.content("plan", stage2_plan(self._program, self._grants, seen, limits, streams))
        seccomp = fds.own(os.open(blob_path(), os.O_RDONLY | os.O_CLOEXEC))
        null = fds.own(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
        numbered = [(fd, fd) for fd in (plan, seccomp, *streams.all)]
        numbered += [(0, null), (1, null), (2, self._stderr_in)]
        text = " ".join(str(number) for number, _ in numbered).encode()
        rights = array.array("i", [fd for _, fd in numbered])
        connection.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        fds.close((plan, seccomp, null, self._stderr_in, *streams.all))


def _check(program: Program, grants: Grants) -> None:
    for what, given in (
        ("a network", grants.network is not None or grants.host_network),
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


def _with_image(view: View, pid: int) -> View:
    """Return the rules of the container: what the image has at its root is executed, unless something writable lies in it."""
    fd = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(fd) as found:
            entries = [entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
        if len(entries) > _MAX_ENTRIES:
            raise WallMissing("docker", f"the image has over {_MAX_ENTRIES} folders at its root")
        volumes = _in_memory(Path(f"/proc/{pid}/mountinfo").read_text("utf-8", "strict"))
        for path in volumes:
            _open_to_all(fd, path)
    finally:
        os.close(fd)
    written = [*volumes, *(mount.inside for mount in view.given if mount.writable)]
    rules: list[tuple[Access, str]] = [
        rule for rule in view.rules if rule[0] != "execute" and not rule[1].startswith("/etc/")
    ]
    rules.extend(("write", path) for path in volumes)
    for name in sorted(set(entries) - _NOT_OF_IMAGE):
        above = any(path == f"/{name}" or path.startswith(f"/{name}/") for path in written)
        rules.append(("read" if above else "execute", f"/{name}"))
    return View((), view.given, tuple(dict.fromkeys(rules)), (), view.files, view.has_run)


def _in_memory(mountinfo: str) -> list[str]:
    """Return where the engine has mounted a tmpfs for us: /tmp, and over the image's volumes (proc_pid_mountinfo(5))."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, place = before.split(" ")[3:5]
        first = place.split("/")[1]
        if after.startswith("tmpfs ") and root == "/" and first not in _ENGINES:
            found.append(_ESCAPED.sub(lambda match: chr(int(match[1], 8)), place))
    return found


def _open_to_all(root: int, path: str) -> None:
    """Give a tmpfs the mode that was asked for: runc puts the mode of the image's folder there instead."""
    fd = os.dup(root)
    try:
        for name in path.strip("/").split("/"):
            inner = os.open(
                name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd
            )
            os.close(fd)
            fd = inner
        os.fchmod(fd, 0o1777)
    finally:
        os.close(fd)
