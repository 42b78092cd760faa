"""Take walls off, one by one: changed options of bubblewrap, other filters, a stand-in for stage 1. For tests alone."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final
from unittest import mock

from tests.sandbox.probes.catalogue import MACHINE, WALLS, Setting
from tests.sandbox.probes.scene import LAUNCHERS_SECRET, PYTHON, SECRET, Scene

from dativo.sandbox import Attestation, WallMissing, cgroup, launching, mounts, pipeline, stages
from dativo.sandbox.attestation import Asked
from dativo.sandbox.rlimits import rlimits
from dativo.sandbox.seccomp import blob_path
from dativo.sandbox.seccomp.compile import (
    ALLOW,
    ARGUMENTS_OFFSET,
    ENOSYS,
    EPERM,
    ERRNO,
    IF_EQUAL,
    LOAD,
    NUMBER_OFFSET,
    RETURN,
    Instruction,
)
from dativo.sandbox.seccomp.policy import load_table

# What the filter answers in place of EPERM when it is to be told from every other wall (EREMOTEIO: nothing here gives it).
STAMP = 121
PR_SET_DUMPABLE = 4
UNSHARED = {
    "net": ("--unshare-net",),
    "ipc": ("--unshare-ipc",),
    "uts": ("--unshare-uts", "--hostname", mounts.HOSTNAME),
    "cgroup-ns": ("--unshare-cgroup",),
}


@contextmanager
def without(
    walls: Collection[str], scene: Scene, *, stamped: bool = False, believed: bool = True
) -> Iterator[None]:
    """Launch as usual, without ``walls``. ``descriptors``, ``sizes``, ``pid`` and a part of ``environment`` are the runner's.

    ``believed``: the attestation is taken as it comes, else compared as ever.
    """
    assert set(walls) <= set(WALLS)
    blob = scene.root / "filter.bpf"
    blob.write_bytes(filter_without(walls, stamped=stamped))
    real_options = stages.encode

    def options(fields: Any) -> bytes:
        return real_options(options_without(walls, list(map(str, fields)), scene))

    with ExitStack() as stack:

        def patch(module: Any, name: str, value: Any) -> None:
            stack.enter_context(mock.patch.object(module, name, value))

        patch(pipeline, "blob_path", lambda: blob)
        patch(pipeline, "encode", options)
        if walls and believed:
            patch(launching, "verify", believe)
        if "read-only" in walls:
            patch(pipeline, "plan_view", writable_view)
        if {"attach", "identity"} & set(walls):
            patch(pipeline, "_attached", lambda *_: ([], {}, str(scene.confine)))
        if "identity" in walls:
            stand_in, real_spawn = stage1_without_drop(scene), launching._spawn
            patch(
                launching,
                "_spawn",
                lambda attempt, fds: real_spawn(replace(attempt, stage1=stand_in), fds),
            )
        if "bounds" in walls:
            patch(pipeline, "_make_leaf", lambda *_: None)
        if {"rlimits", "bounds"} & set(walls):
            patch(pipeline, "rlimits", limits_without(walls))
        yield


def believe(message: bytes, credentials: tuple[int, int, int], asked: Asked) -> Attestation:
    """Take an attestation as it comes."""
    said = json.loads(message)
    return Attestation(
        pid=credentials[0],
        uid=credentials[1],
        gid=credentials[2],
        namespaces=tuple(said["namespaces"].items()),
        no_new_privileges=bool(said["no_new_privileges"]),
        seccomp_mode=said["seccomp_mode"],
        landlock_abi=said["landlock_abi"],
        cgroup=asked.cgroup,
        network=asked.network,
        descriptors=tuple(said["descriptors"]),
        limits=(),
    )


def options_without(walls: Collection[str], options: list[str], scene: Scene) -> list[str]:
    """Change the options of bubblewrap."""

    def drop(*run: str) -> None:
        at = next(n for n in range(len(options)) if tuple(options[n : n + len(run)]) == run)
        del options[at : at + len(run)]

    def put_before(run: tuple[str, ...], *added: str) -> None:
        at = next(n for n in range(len(options)) if tuple(options[n : n + len(run)]) == run)
        options[at:at] = added

    for name, run in UNSHARED.items():
        if name in walls:
            for option in (run[:1], run[1:]) if name == "uts" else (run,):
                drop(*option)
    if "mounts" in walls:
        if scene.image is not None:
            # Bubblewrap unlinks the source of such a file, and over what is unlinked nothing is mounted.
            at = options.index("/etc/passwd")
            assert options[at - 4 : at - 1] == ["--perms", "0444", "--ro-bind-data"]
            del options[at - 4 : at + 1]
        put_before(("--remount-ro", "/dev"), "--dev-bind", "/dev/tty", "/dev/tty")
        shown: list[tuple[str, str]] = [
            ("--bind", str(scene.hidden)),
            ("--ro-bind", "/etc/passwd"),
            ("--ro-bind", "/sys"),
        ]
        if os.geteuid() == 0:
            shown.append(("--ro-bind", "/etc/shadow"))
        for how, path in shown:
            put_before(("--remount-ro", "/"), how, path, path)
    if "root-ro" in walls:
        drop("--remount-ro", "/dev")
        drop("--remount-ro", "/")
    if "environment" in walls:
        options[:0] = ("--setenv", LAUNCHERS_SECRET, SECRET)
        drop("--clearenv")
    if "capabilities" in walls:
        options[:0] = ("--cap-add", "ALL")
    elif "identity" in walls:
        options[:0] = ("--cap-drop", "ALL")
    return options


def filter_without(walls: Collection[str], *, stamped: bool) -> bytes:
    """Return a seccomp filter: the committed one, or one that lets everything through; its answers changed where asked."""
    allow_all = Instruction(RETURN, ALLOW).pack()
    program = allow_all if "seccomp" in walls else blob_path().read_bytes()
    if stamped:
        program = stamp(program)
    numbers, head = load_table(MACHINE), b""
    if "undumpable" in walls:
        head += answer(numbers["prctl"], 0, first_argument=PR_SET_DUMPABLE)
    if "landlock" in walls:
        for name in ("create_ruleset", "add_rule", "restrict_self"):
            head += answer(numbers[f"landlock_{name}"], ENOSYS)
    return head + program


def answer(number: int, errno: int, first_argument: int | None = None) -> bytes:
    """Code that answers one system call without asking anybody: 0 is a success that did nothing."""
    given = Instruction(RETURN, ERRNO | errno)
    if first_argument is None:
        code = [Instruction(LOAD, NUMBER_OFFSET), Instruction(IF_EQUAL, number, 0, 1), given]
    else:
        code = [
            Instruction(LOAD, NUMBER_OFFSET),
            Instruction(IF_EQUAL, number, 0, 3),
            Instruction(LOAD, ARGUMENTS_OFFSET),
            Instruction(IF_EQUAL, first_argument, 0, 1),
            given,
        ]
    return b"".join(instruction.pack() for instruction in code)


def stamp(program: bytes) -> bytes:
    """Have every EPERM of a filter read otherwise."""
    wanted, other = Instruction(RETURN, ERRNO | EPERM).pack(), Instruction(RETURN, ERRNO | STAMP)
    parts = [program[at : at + 8] for at in range(0, len(program), 8)]
    return b"".join(other.pack() if part == wanted else part for part in parts)


def writable_view(*planned: Any) -> mounts.View:
    """What was granted to be read is mounted to be written."""
    view = mounts.plan_view(*planned)
    # Of an image /etc alone, since stage 1 attaches what is writable so that nothing of it is executed.
    given = tuple(
        replace(mount, access="write")
        if mount.access == "read" or mount.inside == "/etc"
        else mount
        for mount in view.given
    )
    return replace(view, given=given)


def limits_without(walls: Collection[str]) -> Any:
    """The rlimits of a launch without some."""
    real = rlimits
    left_out = {
        name
        for wall, names in {
            "rlimits": ("core", "nofile", "fsize"),
            "bounds": ("data", "nproc"),
        }.items()
        if wall in walls
        for name in names
    }

    def chosen(limits: Any, *, degraded: bool) -> dict[str, int]:
        found = real(limits, degraded=degraded)
        return {name: value for name, value in found.items() if name not in left_out}

    return chosen


def stage1_without_drop(scene: Scene) -> str:
    """A program that does what stage 1 does last, as root: start bubblewrap."""
    path = scene.root / "stage1"
    path.write_text(f"#!{PYTHON} -I\n{_STAND_IN}")
    path.chmod(0o755)
    return str(path)


_STAND_IN = """
import os, sys
plan = int(sys.argv[2])
fields = [field.decode() for field in os.read(plan, 1 << 20).split(b"\\0")]
kept = {int(value) for name, value in zip(fields, fields[1:]) if name == "keep"}
for fd in os.listdir("/proc/self/fd"):
    if int(fd) > 2 and int(fd) not in kept:
        try:
            os.close(int(fd))
        except OSError:
            pass
for name, value in zip(fields, fields[1:]):
    if name == "cgroup":
        with open(value, "w") as procs:
            procs.write("0")
at = fields.index("bubblewrap")
arguments = fields[at + 2 :]
argv = [value for name, value in zip(arguments[::2], arguments[1::2]) if name == "argument"]
os.execve(fields[at + 1], ["bwrap", *argv], {})
"""


_OWN_STAGES: Final = {"identity": {"attach"}, "capabilities": {"undumpable"}}
# What falls with a wall by itself: stage 1 attaches before it gives up its uid, and CAP_SYS_PTRACE looks into anybody. In Docker
# the host's network comes with its name, and its ipc namespace with its /dev/shm.
TAKES_ALONG: Final[dict[Setting, dict[str, set[str]]]] = {
    "host": _OWN_STAGES,
    "image": _OWN_STAGES,
    "docker": {"net": {"uts"}, "ipc": {"sizes"}},
}


def find_cgroup() -> bool:
    """Whether a cgroup can be written here."""
    try:
        cgroup.find_base()
    except WallMissing:
        return False
    return True
