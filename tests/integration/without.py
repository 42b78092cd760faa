"""Take one thing away from this process that walls are built with, for good, and become another program.

    python without.py namespaces|seccomp|seccomp_in_silence|cgroup COMMAND...

It imports nothing of ours. What it does to itself is what a hardened or an old host does to everybody.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_PRIVATE, MNT_DETACH = 0x4000, 0x40000, 2
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, FILTER_MODE = 22, 38, 2
EINVAL = 22
CALLS = {"x86_64": (157, 317), "aarch64": (167, 277)}  # prctl, seccomp


def checked(answer: int) -> None:
    if answer != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def namespaces() -> None:
    """Enter a user namespace with the same users, in which no further one can be made (user_namespaces(7))."""
    maps = {name: Path(f"/proc/self/{name}").read_text() for name in ("uid_map", "gid_map")}
    me, uid, gid = os.getpid(), os.geteuid(), os.getegid()
    (entered, enter), (mapped, done) = os.pipe(), os.pipe()
    helper = os.fork()
    if helper == 0:
        os.read(entered, 1)
        if (
            uid == 0
        ):  # only from outside, and only with privilege, may others than oneself be mapped
            for name, lines in maps.items():
                same = [(line.split()[0], line.split()[2]) for line in lines.splitlines()]
                text = "".join(f"{inside} {inside} {count}\n" for inside, count in same)
                Path(f"/proc/{me}/{name}").write_text(text)
        os.write(done, b"x")
        os._exit(0)
    checked(LIBC.unshare(CLONE_NEWUSER))
    os.write(enter, b"x")
    assert os.read(mapped, 1) == b"x"
    os.waitpid(helper, 0)
    if uid != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    assert (os.geteuid(), os.getegid()) == (uid, gid)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


class Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32))  # fmt: skip


class FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(Instruction)))


def seccomp(errno: int = EINVAL) -> None:
    """Let every further filter be answered with ``errno``; 0 claims that it was installed (seccomp(2))."""
    load, equal, answer = 0x20, 0x15, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | errno
    prctl_call, seccomp_call = CALLS[os.uname().machine]
    program = [
        (load, 0, 0, 0),  # the number of the system call
        (equal, 3, 0, seccomp_call),
        (equal, 0, 3, prctl_call),
        (load, 0, 0, 16),  # its first argument, low half
        (equal, 0, 1, PR_SET_SECCOMP),
        (answer, 0, 0, refuse),
        (answer, 0, 0, allow),
    ]
    instructions = (Instruction * len(program))(*(Instruction(*line) for line in program))
    checked(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    given = FilterProgram(len(program), instructions)
    checked(LIBC.prctl(PR_SET_SECCOMP, FILTER_MODE, ctypes.byref(given), 0, 0))


def cgroup() -> None:
    """Take every cgroup hierarchy out of a mount namespace of our own; root only."""
    checked(LIBC.unshare(CLONE_NEWNS))
    checked(LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    checked(LIBC.umount2(b"/sys/fs/cgroup", MNT_DETACH))


WALLS: dict[str, Callable[[], None]] = {
    "namespaces": namespaces,
    "seccomp": seccomp,
    "seccomp_in_silence": lambda: seccomp(0),
    "cgroup": cgroup,
}

if __name__ == "__main__":
    WALLS[sys.argv[1]]()
    os.execv(sys.argv[2], sys.argv[2:])
