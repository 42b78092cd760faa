"""Acts on processes and limits."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import threading

from tests.sandbox.probes.inside.files import LIBC, checked, unseen

SEIZE = 0x4206


def send_signal(pid: str) -> None:
    os.kill(int(pid), 0)


def see_process(pid: str) -> None:
    if pid not in os.listdir("/proc"):
        raise unseen(pid)


def trace(pid: str) -> None:
    LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    checked(LIBC.ptrace(SEIZE, int(pid), None, None))


def trace_me() -> None:
    checked(LIBC.ptrace(0, 0, 0, 0))


def read_memory(pid: str, address: str) -> str:
    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    held = ctypes.create_string_buffer(20)
    local, remote = Vector(ctypes.addressof(held), 20), Vector(int(address), 20)
    checked(LIBC.process_vm_readv(int(pid), ctypes.byref(local), 1, ctypes.byref(remote), 1, 0))
    return held.value.decode(errors="replace")


def take_descriptor(pid: str, number: str) -> None:
    process = os.pidfd_open(int(pid))
    checked(LIBC.syscall(int(number), process, 1, 0))


def change_limits(pid: str) -> None:
    resource.prlimit(int(pid), resource.RLIMIT_CORE)


def change_priority(pid: str) -> None:
    os.setpriority(os.PRIO_PROCESS, int(pid), 19)


def raise_priority() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, -5)


def real_time() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def fork_until(count: str) -> int:
    for _ in range(int(count)):
        if os.fork() == 0:
            signal.pause()
    return int(count)


def start_threads(count: str) -> int:
    held = threading.Event()
    try:
        for _ in range(int(count)):
            threading.Thread(target=held.wait, daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from error
    return int(count)


def open_many(count: str) -> None:
    for _ in range(int(count)):
        os.open("/dev/null", os.O_RDONLY)


def raise_core_limit() -> None:
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    except ValueError as error:  # so it reports EPERM
        raise PermissionError(errno.EPERM, str(error)) from error


def raise_size_limit() -> None:
    """Files of any size."""
    no_end = resource.RLIM_INFINITY
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (no_end, no_end))
    except ValueError as error:  # so it reports EPERM
        raise PermissionError(errno.EPERM, str(error)) from error


def lower_priority() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, 10)
