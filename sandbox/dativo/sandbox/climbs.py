"""Run behind the walls by the doctor: tries to climb each, and prints one JSON line for each try. Standard library only.

``python climbs.py PID TMP``: a process outside, and a folder that can be written. An act that is done means a wall that does
not hold.
"""

import ctypes
import errno
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_OUTSIDE = int(sys.argv[1])
_WRITABLE = sys.argv[2]
_NEW_USER = 0x10000000
_ATTACH = 16  # ptrace(2): PTRACE_ATTACH
_CORE_PATTERN = "/proc/sys/kernel/core_pattern"
# TEST-NET-3 of RFC 5737: nobody's.
_AWAY = ("203.0.113.1", 443)
_libc = ctypes.CDLL(None, use_errno=True)


def _call(answer: int) -> None:
    if answer == -1:
        raise OSError(ctypes.get_errno(), "")


def _write(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))


def _connect() -> None:
    with socket.socket() as client:
        client.settimeout(2)
        client.connect(_AWAY)


def _send() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", _AWAY)


def _unix_socket() -> None:
    socket.socket(socket.AF_UNIX).close()


def _mount() -> None:
    _call(_libc.mount(b"tmpfs", _WRITABLE.encode(), b"tmpfs", 0, None))


def _execute_what_was_written() -> None:
    path = Path(_WRITABLE, "copy")
    shutil.copyfile("/usr/bin/true", path)
    path.chmod(0o700)
    subprocess.run([path], check=True)


def _more_files() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))


def _inherited() -> None:
    for fd in range(3, 1024):
        try:
            os.fstat(fd)
        except OSError:
            continue
        return
    raise OSError(errno.EBADF, "")


def _environment_of_the_launcher() -> None:
    if not Path("/proc/1/environ").read_bytes():
        raise OSError(errno.ENODATA, "")


# Wall, what is tried, and the act.
ACTS: list[tuple[str, str, Callable[[], object]]] = [
    ("mounts", "writing to /usr", lambda: _write("/usr/.dativo")),
    ("mounts", "reading /etc/shadow", lambda: Path("/etc/shadow").stat()),
    ("mounts", "listing /boot", lambda: list(Path("/boot").iterdir())),
    ("network", "connecting out", _connect),
    ("network", "sending a datagram", _send),
    ("namespaces", "a signal to the doctor", lambda: os.kill(_OUTSIDE, 0)),
    ("namespaces", "the doctor's memory", lambda: Path(f"/proc/{_OUTSIDE}/mem").stat()),
    ("capabilities", "mounting", _mount),
    ("capabilities", "chroot", lambda: os.chroot(_WRITABLE)),
    ("identity", "becoming root", lambda: os.setuid(0)),
    ("identity", "setting core_pattern", lambda: _write(_CORE_PATTERN)),
    ("identity", "the launcher's environment", _environment_of_the_launcher),
    ("seccomp", "a user namespace", lambda: _call(_libc.unshare(_NEW_USER))),
    ("seccomp", "tracing", lambda: _call(_libc.ptrace(_ATTACH, os.getppid(), 0, 0))),
    ("seccomp", "a socket file", _unix_socket),
    ("landlock", "executing what was written", _execute_what_was_written),
    ("limits", "more open files", _more_files),
    ("descriptors", "an inherited descriptor", _inherited),
    ("cgroup", "a larger limit", lambda: _write("/sys/fs/cgroup/memory.max")),
]


def main() -> None:
    """Try all."""
    for wall, what, act in ACTS:
        said: str | None = None
        try:
            act()
        except OSError as error:
            said = errno.errorcode.get(error.errno or 0, "refused")
        except ValueError:
            said = "refused"  # setrlimit() above the hard limit
        sys.stdout.write(json.dumps({"wall": wall, "what": what, "refused": said}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
