"""Acts on the kernel's surface."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import tempfile
from pathlib import Path

from tests.sandbox.probes.inside.files import LIBC, checked, unseen


def call(number: str, *arguments: str) -> int:
    """Make one system call with numbers; ``null`` is a null pointer, ``text:X`` a string, ``zeros:N`` that many bytes."""
    kept = []
    values: list[object] = []
    for text in arguments:
        kind, _, rest = text.partition(":")
        if kind == "text":
            kept.append(ctypes.create_string_buffer(rest.encode()))
            values.append(ctypes.byref(kept[-1]))
        elif kind == "zeros":
            kept.append(ctypes.create_string_buffer(int(rest)))
            values.append(ctypes.byref(kept[-1]))
        else:
            values.append(ctypes.c_ulong(0 if text == "null" else int(text, 0) & (1 << 64) - 1))
    return checked(int(LIBC.syscall(ctypes.c_long(int(number)), *values)))


def call_by_gate() -> None:
    """getpid by ``int 0x80``, the way of programs of 32 bits: mov eax, 20; int 0x80; ret."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("b814000000cd80c3"))
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    if function() != os.getpid():
        raise unseen("the own pid")


def clone_with(flags: str) -> None:
    """A child that ends at once."""
    stack = ctypes.create_string_buffer(65536)
    main = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(lambda _: 0)
    top = ctypes.c_void_p(ctypes.addressof(stack) + 65536 - 64)
    pid = checked(LIBC.clone(main, top, int(flags, 0) | signal.SIGCHLD, None))
    os.waitpid(pid, 0)


def mount_tmpfs() -> None:
    folder = tempfile.mkdtemp().encode()
    checked(LIBC.mount(b"tmpfs", folder, b"tmpfs", 0, None))
    checked(LIBC.umount2(folder, 2))


def change_root() -> None:
    os.chroot("/tmp")


def control(fd: str, request: str) -> None:
    """ioctl with a null argument."""
    checked(LIBC.ioctl(int(fd), ctypes.c_ulong(int(request, 0)), None))


def widen_pipe() -> None:
    out, _ = os.pipe()
    fcntl.fcntl(out, 1031, 1 << 20)


def watch_folder() -> None:
    fcntl.fcntl(os.open("/tmp", os.O_RDONLY), 1026, 2)


def seal_memory() -> None:
    os.close(checked(LIBC.memfd_create(b"x", 9)))


def other_hostname(host: str) -> None:
    if os.uname().nodename != host:
        raise unseen(host)


def other_cgroup() -> None:
    paths = [line.rpartition(":")[2] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    if all(path == "/" for path in paths):
        raise unseen("a path of the host")


def attach_memory(number: str) -> None:
    LIBC.shmat.restype = ctypes.c_void_p
    where = LIBC.shmat(int(number), None, 0o10000)
    if where == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "shmat")


def open_queue(name: str) -> None:
    os.close(checked(LIBC.mq_open(name.encode(), os.O_RDONLY)))


def own_shared_memory() -> None:
    number = checked(LIBC.shmget(0, 4096, 0o1600))
    checked(LIBC.shmctl(number, 0, None))


def executable_memory() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def invalid_time(number: str) -> None:
    """settimeofday with 10 million microseconds, which no clock takes."""
    value = (ctypes.c_long * 2)(0, 10_000_000)
    checked(LIBC.syscall(int(number), value, None))
