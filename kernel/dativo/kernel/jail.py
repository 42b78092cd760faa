"""``dativo jail``: confine any command. Its streams are pipes of ours, carried by one confined pump.

    user's 0, 1, 2 ↔ dativo-pump ↔ three pipes ↔ the command ─▶ dativo-broker ─▶ what --net grants

The command never holds a descriptor of the user's, and no terminal. Signals and the exit status pass through; every failure of
our own is a JailFailed, 125 (126 and 127 as env(1)).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets as random
import selectors
import signal
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar, Final, Self

from dativo.kernel import refusals, show
from dativo.kernel.audit import Audit
from dativo.kernel.broker import Broker, Networks, start_broker
from dativo.kernel.network import NetworkGrant, walled
from dativo.kernel.network_policy import NetworkPolicy
from dativo.kernel.network_record import NetworkRecord
from dativo.kernel.paths import Paths
from dativo.kernel.processes import Processes, own_identity, pipe
from dativo.kernel.pump import Name, Pair, Pump, readable, release, start_pump
from dativo.kernel.running import Running, registered
from dativo.kernel.standing import standing
from dativo.kernel.startup_files import Snapshot, take_snapshot
from dativo.protocol.errors import Blame, DativoError, ExitStatus, LimitExceeded, Where
from dativo.sandbox import (
    Confined,
    Exit,
    Grants,
    Identity,
    Limits,
    Program,
    SandboxError,
    StartFailed,
    Walls,
)
from dativo.sandbox.mounts import plan_view

PATH: Final = "/usr/bin:/bin"
PASSED_ON: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
# A terminal sends these to every process of the job, not to the first one alone.
_OF_TERMINALS: Final = (signal.SIGINT, signal.SIGQUIT)
TICK_S: Final = 0.1
# What a command that was ended by a signal had written is given this long to go out.
DRAIN_AFTER_SIGNAL_S: Final = 2.0
_NAMES: Final[tuple[Name, ...]] = ("stdin", "stdout", "stderr")
_LIMITS: Final = {
    "memory": "--memory",
    "pids": "--pids",
    "wall_time": "--time",
    "file_size": "files",
}


class JailFailed(DativoError):
    """A failure of the jail's own: nothing that the command did."""

    status: ClassVar[ExitStatus] = ExitStatus.JAIL_FAILED

    @classmethod
    def because(cls, error: DativoError) -> Self:
        """Return another error as one of the jail's own."""
        return cls(error.message, error.where, error.value, error.hint, error.blame)


class NotExecutable(JailFailed):
    """The command was found and cannot be executed."""

    status = ExitStatus.NOT_EXECUTABLE
    default_blame = Blame.USER


class NotFound(JailFailed):
    """There is no such command behind the walls."""

    status = ExitStatus.NOT_FOUND
    default_blame = Blame.USER


@dataclass(frozen=True, slots=True)
class Jail:
    """What to run and what it may do. Paths are absolute and free of links; ``cwd`` None is the caller's where it is granted.

    ``raw``: what goes to a terminal is not escaped. ``observe``: refused connections are told with the grants they would need.
    """

    command: tuple[str, ...]
    limits: Limits
    walls: Walls
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    cwd: str | None = None
    raw: bool = False
    network: tuple[NetworkGrant, ...] = ()
    policy: NetworkPolicy = field(default_factory=NetworkPolicy)
    observe: bool = False

    def search_path(self) -> str:
        """Return PATH as the command sees it: what was said, else the usual folders and then the readable granted ones."""
        said = dict(self.environment).get("PATH")
        granted = [str(path) for path in self.read if path.is_dir() and ":" not in str(path)]
        return said if said is not None else ":".join([PATH, *granted])

    def folder(self) -> str:
        """Return the working directory of the command."""
        if self.cwd is not None:
            return self.cwd
        here = Path.cwd()
        granted = any(here.is_relative_to(path) for path in (*self.read, *self.write))
        return str(here) if granted else "/tmp"  # noqa: S108 - inside, a tmpfs of its own

    def document(self) -> dict[str, object]:
        """Return what it may do as plain JSON values, for the audit. Arguments and values may hold secrets and stay out."""
        return {
            "program": self.command[0],
            "arguments": len(self.command) - 1,
            "cwd": self.folder(),
            "read": [str(path) for path in self.read],
            "write": [str(path) for path in self.write],
            "network": [str(grant) for grant in self.network],
            "environment": sorted(name for name, _ in self.environment),
            "limits": {each.name: getattr(self.limits, each.name) for each in fields(self.limits)},
            "walls": {"cgroup": self.walls.cgroup},
            "observe": self.observe,
        }

    def program(self) -> Program:
        """Return what is started. Raises NotFound, NotExecutable."""
        cwd = self.folder()
        first, *rest = self.command
        argv = (find_program(first, self.search_path(), cwd), *rest)
        return Program(name="jail", argv=argv, runtime=self.read, cwd=cwd)


def run(jail: Jail, env: Mapping[str, str]) -> int:
    """Run the command to its end and return the status to exit with. Blocks; takes over descriptors 0 and 1 and the signals.

    Raises JailFailed and the sandbox's errors, after everything that was started is gone.
    """
    plan_view(
        jail.program(), Grants(write=jail.write)
    )  # refuses what cannot be given before it is walked
    before = take_snapshot(jail.write)
    name = f"jail-{os.getpid()}-{random.token_hex(3)}"
    paths = Paths.from_environment(env)
    audit = Audit.below(paths.state)
    networks = Networks({"jail": jail.network}, jail.policy, audit, jail.observe, {"run": name})
    with contextlib.ExitStack() as stack:
        started: list[Confined] = []
        ended = stack.enter_context(_on_record(audit, name, jail, started, networks.record))
        stack.enter_context(registered(paths, Running.now(name, "jail", "jail", Path.cwd())))
        identity = stack.enter_context(_identity(jail.write))
        going = _Going(
            jail, before.protected(jail.write), identity, stack, env, name, networks, started
        )
        status = ended.status = going.carry_out()
    _tell_changes(jail, before)
    refusals.tell("dativo jail", networks.record)
    return status


@dataclass(slots=True)
class _Ended:
    status: int = ExitStatus.JAIL_FAILED
    error: str | None = None


@contextlib.contextmanager
def _on_record(
    audit: Audit, name: str, jail: Jail, started: list[Confined], network: NetworkRecord
) -> Iterator[_Ended]:
    """Have the audit tell of the jail, before anything is started and when everything is gone.

    ``status`` and ``started``, each process, are put in meanwhile.
    """
    audit.write("jail_started", run=name, plan=jail.document())
    ended = _Ended(error="it was left by an unexpected exception")
    try:
        yield ended
        ended.error = None
    except DativoError as error:
        ended.error = error.message
        if isinstance(error, JailFailed):
            ended.status = error.status
        raise
    except SandboxError as error:
        ended.error = show.foreign(error.message)
        raise
    finally:
        audit.write(
            "jail_ended",
            run=name,
            status=int(ended.status),
            error=ended.error,
            processes=standing(started, network),
        )


class _Going:
    """One jail under way."""

    def __init__(
        self,
        jail: Jail,
        protected: tuple[Path, ...],
        identity: Identity | None,
        stack: contextlib.ExitStack,
        env: Mapping[str, str],
        name: str,
        networks: Networks,
        started: list[Confined],
    ) -> None:
        self._jail = jail
        self._networks = networks
        self._identity = identity
        self._protected = protected
        self._stack = stack
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._signals = stack.enter_context(_Signals(self._selector))
        self._processes = Processes(stack, jail.walls, name, env, started)

    def carry_out(self) -> int:
        """Start both, follow them, and return the command's status."""
        program = self._jail.program()
        reads_stdin = readable(0) and _in_foreground()
        brokers: list[Broker] = []
        start_broker(self._processes, self._selector, self._networks, brokers.append)
        pump = start_pump(self._processes, self._selector)
        with pipe() as stdin, pipe() as stdout, pipe() as stderr:
            command = self._start(program, (stdin[0], stdout[1], stderr[1]))
            pump.open(self._pairs(stdin[1] if reads_stdin else None, stdout[0], stderr[0]))
        release(0, 1)
        broker = brokers[0] if brokers else None
        ended = self._follow(command, pump, broker)
        if broker is not None:
            broker.conclude()
        self._check_streams(pump)
        return self._status(ended)

    def _start(self, program: Program, streams: tuple[int, int, int]) -> Confined:
        jail = self._jail
        stdin, stdout, stderr = streams
        grants = Grants(
            write=jail.write,
            protected=self._protected,
            environment=(("PATH", jail.search_path()), *jail.environment),
            network=walled(jail.network),
            limits=jail.limits,
        )
        try:
            return self._processes.start(
                program, grants, self._identity, stdin=stdin, stdout=stdout, stderr=stderr
            )
        except StartFailed as error:
            raise _not_started(error, jail.command[0]) from error

    def _pairs(self, into: int | None, out: int, err: int) -> list[Pair]:
        pairs = [
            Pair("stdout", out, 1, escape=self._escaped(1)),
            Pair("stderr", err, 2, escape=self._escaped(2)),
        ]
        # Else the command's stdin is at its end at once: nobody holds the pipe.
        return pairs if into is None else [Pair("stdin", 0, into), *pairs]

    def _escaped(self, fd: int) -> bool:
        return not self._jail.raw and os.isatty(fd)

    def _follow(self, command: Confined, pump: Pump, broker: Broker | None) -> Exit:
        """Pass signals on until the command has ended and what it wrote is out; its input does not matter any more then."""
        self._selector.register(command.report_fd, selectors.EVENT_READ, command)
        ended: Exit | None = None
        patience_s: float | None = None
        while ended is None or not {"stdout", "stderr"} <= pump.ended.keys():
            for key, mask in self._selector.select(TICK_S):
                if key.data is pump:
                    pump.take(mask)
                elif key.data is broker and broker is not None:
                    broker.take(mask)
                elif key.data is command:
                    ended = command.poll_exit()
                    if ended is not None:
                        self._selector.unregister(command.report_fd)
            command.watch()
            pump.watch()
            if broker is not None:
                broker.watch()
            for signum in self._signals.arrived():
                if ended is None:
                    command.signal(signum, group=signum in _OF_TERMINALS)
                patience_s = time.monotonic() + DRAIN_AFTER_SIGNAL_S
            if ended is not None and patience_s is not None and time.monotonic() > patience_s:
                break
        return ended

    def _check_streams(self, pump: Pump) -> None:
        for name in _NAMES:
            told = pump.ended.get(name)
            if told is not None and told.end == "error":
                raise JailFailed(
                    f"{name} was cut after {told.bytes} bytes",
                    value=show.foreign(told.message or ""),
                    blame=Blame.MACHINE,
                )

    def _status(self, ended: Exit) -> int:
        limit = _LIMITS.get(ended.cause)
        if limit is not None:
            raise JailFailed(
                f"a limit ended {show.foreign(self._jail.command[0])}: it {ended.detail}",
                hint=f"Give it more with {limit}" if limit.startswith("--") else None,
                blame=Blame.USER,
            )
        if ended.signal is not None:
            return 128 + ended.signal
        if ended.code is None:
            raise JailFailed(f"the command was lost: {ended.detail}", blame=Blame.MACHINE)
        if ended.detail:
            show.note(f"dativo jail: the command {show.foreign(ended.detail)} (--pids)")
        return ended.code


def _in_foreground() -> bool:
    """Whether stdin may be read. In the background a job is stopped first, as at its own first read; one that goes
    on there has an empty stdin. The pump stands outside the job: nobody else would keep it from what is typed to others.
    """
    if not os.isatty(0):
        return True
    for stopped in (False, True):
        try:
            if os.tcgetpgrp(0) == os.getpgrp():
                return True
        except OSError as error:
            if error.errno != errno.ENOTTY:
                raise
            return True  # not the terminal that controls this job
        if not stopped:
            os.killpg(0, signal.SIGTTIN)
    return False


def find_program(name: str, path: str, cwd: str) -> str:
    """Return the absolute path of a command as execvp(3) would find it. Raises NotFound, NotExecutable."""
    if not name:
        raise NotFound("the command is empty")
    if "/" in name:
        return os.path.join(cwd, name)  # noqa: PTH118 - its links are for the kernel to follow, inside
    refused: str | None = None
    for folder in path.split(":"):
        file = os.path.join(folder, name)  # noqa: PTH118
        try:
            mode = os.stat(file).st_mode  # noqa: PTH116
        except OSError:
            continue
        if stat.S_ISREG(mode) and mode & 0o111 and folder.startswith("/"):
            return file
        refused = refused or file
    if refused is not None:
        raise NotExecutable(f"{show.foreign(refused)} is not executable")
    raise NotFound(
        f"{show.foreign(name)}: no such command in {show.foreign(path)}",
        hint="Program files outside /usr need --ro FOLDER; a folder that is granted so is searched too",
    )


def _not_started(error: StartFailed, name: str) -> JailFailed:
    reason = show.foreign(error.reason)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(
            reason,
            hint="It, or the interpreter that its first line names, is not behind the walls: --ro PATH",
        )
    if error.errno is not None:
        return NotExecutable(
            reason, hint="Nothing below --rw is executable: give program files with --ro"
        )
    return JailFailed(f"{show.foreign(name)} could not be started: {reason}", blame=Blame.USER)


@contextlib.contextmanager
def _identity(write: tuple[Path, ...]) -> Iterator[Identity | None]:
    """As root: who the command becomes. The owner of what it may write, so that it can; else somebody of its own."""
    closed = [path for path in write if os.geteuid() == 0 and not path.stat().st_mode & 0o002]
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in closed}
    if not owners:
        with own_identity() as identity:
            yield identity
        return
    (uid, gid), *others = owners
    if others or uid == 0 or gid == 0:
        raise JailFailed(
            "root cannot be behind the walls, and what is to be written belongs to root or to several users",
            Where(file=str(closed[0])),
            hint="Give it to one user and group: chown -R USER:GROUP PATH",
            blame=Blame.USER,
        )
    yield Identity(uid, gid)


def _tell_changes(jail: Jail, before: Snapshot) -> None:
    """Tell which files that other programs obey are new or not the same any more."""
    if not jail.write:
        return
    try:
        changed = before.changed_in(take_snapshot(jail.write))
    except LimitExceeded as error:
        raise JailFailed(
            f"what the command left cannot be looked through: {error.message}", error.where
        ) from error
    for path in changed[: refusals.MAX_REPORTED]:
        show.note(
            f"dativo jail: new or replaced, and obeyed by other programs: {show.foreign(str(path))}"
        )
    if len(changed) > refusals.MAX_REPORTED:
        show.note(f"dativo jail: and {len(changed) - refusals.MAX_REPORTED} more")


class _Signals:
    """Catches the signals that are passed on, for as long as it is entered. One that was ignored before stays so."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._before: dict[signal.Signals, object] = {}
        self._wakeup = -1

    def __enter__(self) -> Self:
        self._out, self._in = socket.socketpair()
        for end in (self._out, self._in):
            end.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._in.fileno(), warn_on_full_buffer=False)
        for signum in PASSED_ON:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                self._before[signum] = signal.signal(signum, _wake)
        # Stopped by ^Z, it would leave the pump reading what is typed to the shell.
        self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        self._selector.register(self._out, selectors.EVENT_READ, self)
        return self

    def arrived(self) -> list[signal.Signals]:
        """Return the signals since the last call."""
        try:
            numbers = self._out.recv(4096)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in numbers if number in PASSED_ON]

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]  # what signal() gave
        signal.set_wakeup_fd(self._wakeup)
        self._selector.unregister(self._out)
        self._out.close()
        self._in.close()


def _wake(_: int, __: object) -> None:
    """Do nothing: the number arrives through the wake-up descriptor."""
