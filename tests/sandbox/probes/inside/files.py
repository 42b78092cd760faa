"""Acts on files and mounts."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)


def checked(answer: int) -> int:
    """Raise what the last call left in errno."""
    if answer == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer


def unseen(what: str) -> OSError:
    """The act was possible and found nothing."""
    return OSError(errno.ENODATA, what)


def read_file(path: str) -> str:
    return Path(path).read_text(errors="replace")[:200]


def find_in_file(path: str, text: str) -> None:
    if text not in Path(path).read_text(errors="replace"):
        raise unseen(text)


def open_only(path: str, flags: str) -> None:
    os.close(os.open(path, int(flags)))


def list_folder(path: str) -> int:
    return len(os.listdir(path))


def append_nothing(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))


def make_file(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
    os.unlink(path)


def cut(path: str, size: str) -> None:
    os.truncate(path, int(size))


def touch(path: str) -> None:
    os.utime(path)


def write_back(path: str) -> None:
    """Write what is there already."""
    text = Path(path).read_text()
    Path(path).write_text(text)


def execute(path: str, *arguments: str) -> None:
    subprocess.run([path, *arguments], check=True, capture_output=True)


def execute_copy(folder: str, *before: str) -> None:
    """Run a copy of a program, through another one where that is named."""
    path = Path(folder, f"copy-{os.getpid()}")
    shutil.copyfile("/usr/bin/true", path)
    path.chmod(0o755)
    try:
        subprocess.run([*before, str(path)], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        raise PermissionError(errno.EPERM, error.stderr.decode()) from error
    finally:
        path.unlink()


def map_copy(folder: str) -> None:
    """As dlopen(3) does."""
    path = Path(folder, f"library-{os.getpid()}")
    shutil.copyfile("/usr/bin/true", path)
    try:
        with path.open("rb") as file:
            how = mmap.PROT_READ | mmap.PROT_EXEC
            mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=how).close()
    finally:
        path.unlink()


def execute_memory() -> None:
    fd = checked(LIBC.memfd_create(b"x", 1))
    os.write(fd, Path("/usr/bin/true").read_bytes())
    subprocess.run([f"/proc/self/fd/{fd}"], check=True, pass_fds=(fd,))


def hard_link(source: str, target: str) -> None:
    os.link(source, target)
    os.unlink(target)


def set_mode(folder: str, mode: str) -> None:
    path = Path(folder, f"mode-{os.getpid()}")
    path.touch()
    try:
        path.chmod(int(mode, 8))
    finally:
        path.unlink()


def create_with_mode(folder: str, mode: str) -> None:
    path = Path(folder, f"mode-{os.getpid()}")
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, int(mode, 8)))
    path.unlink()


def give_capability(folder: str) -> None:
    """CAP_NET_RAW, as setcap(8) writes it: version 2, effective."""
    path = Path(folder, f"capability-{os.getpid()}")
    path.touch()
    try:
        os.setxattr(path, "security.capability", struct.pack("<5I", 0x2000001, 1 << 13, 0, 0, 0))
    finally:
        path.unlink()


def make_device(folder: str) -> None:
    path = Path(folder, f"device-{os.getpid()}")
    os.mknod(path, 0o20666, os.makedev(1, 3))
    path.unlink()


def handle_of(path: str) -> None:
    """name_to_handle_at with room for 128 bytes."""
    handle = (ctypes.c_uint32 * 34)(128)
    mount = ctypes.c_int()
    checked(LIBC.name_to_handle_at(-100, path.encode(), handle, ctypes.byref(mount), 0))


def fill(path: str, size: str) -> None:
    name = Path(path, f"big-{os.getpid()}")
    try:
        with open(name, "wb", buffering=0) as file:
            for _ in range(int(size) // 65536):
                file.write(bytes(65536))
    finally:
        name.unlink()


def read_leaked(text: str) -> None:
    """Look for a descriptor that shows the host's secret."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.pread(int(name), 100, 0).decode(errors="replace") == text:
                return
        except OSError:
            continue  # a pipe, or the listing itself
    raise unseen(text)
