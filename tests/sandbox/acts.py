"""Small acts of a confined process: ``acts.py NAME ARGUMENT…`` tries one and prints what became of it.

The same file runs inside and outside. Output: one JSON object, ``errno`` null when the act was done.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn


def read_file(path: str) -> str:
    return Path(path).read_text()


def write_file(path: str) -> None:
    with open(path, "a") as file:
        file.write("x")


def change_mode(path: str) -> None:
    os.chmod(path, 0o755)


def list_folder(path: str) -> list[str]:
    return sorted(os.listdir(path))


def make_folder(path: str) -> None:
    os.mkdir(path)
    os.rmdir(path)


def open_all(folder: str) -> list[str]:
    """Return every file below that can be read or opened for writing."""
    found = []
    for path in Path(folder).rglob("*"):
        for flags in (os.O_RDONLY, os.O_WRONLY):
            try:
                if path.is_file():
                    os.close(os.open(path, flags))
                    found.append(str(path))
            except OSError:
                continue
    return found


def connect(port: str) -> None:
    socket.create_connection(("127.0.0.1", int(port)), 2).close()


def resolve(name: str, *flags: str) -> list[str]:
    """Look a name up, with flags of getaddrinfo by name; what it says of a refusal is the errno."""
    wanted = sum(getattr(socket, flag) for flag in flags)
    try:
        found = socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM, flags=wanted)
    except socket.gaierror as error:
        names = {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}
        raise OSError(names[error.args[0]]) from error
    return [str(sockaddr[0]) for *_, sockaddr in found]


def talk(host: str, port: str) -> str:
    """Connect and read until the end."""
    with socket.create_connection((host, int(port)), 10) as connection:
        return connection.makefile().read()


def lookup_by_tcp(name: str) -> int:
    """Ask the resolver for an A record over TCP; returns the number of answers."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = b"\0\1\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"
    with socket.create_connection(("127.0.0.1", 53), 10) as connection:
        connection.sendall(len(query).to_bytes(2, "big") + query)
        answer = connection.makefile("rb").read()
    return int.from_bytes(answer[8:10], "big")


def bind(host: str, port: str, *options: str) -> None:
    """Listen there; options of SOL_SOCKET by name are set before."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        for option in options:
            listener.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
        listener.bind((host, int(port)))
        listener.listen()


def talk_to_itself() -> str:
    """Listen on its own loopback and connect there, as SSH tunnels and OAuth callbacks do."""
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname(), 5) as here:
        there, _ = listener.accept()
        with there:
            there.sendall(b"hello")
            return here.recv(5).decode()


def add_address() -> None:
    """Give the loopback device an address by rtnetlink(7)."""
    body = bytes([socket.AF_INET, 32, 0, 0]) + (1).to_bytes(4, sys.byteorder)
    body += b"".join(
        (8).to_bytes(2, sys.byteorder) + kind.to_bytes(2, sys.byteorder) + bytes([10, 9, 8, 7])
        for kind in (1, 2)  # IFA_ADDRESS, IFA_LOCAL
    )
    head = (16 + len(body)).to_bytes(4, sys.byteorder) + (20).to_bytes(2, sys.byteorder)
    head += (0x5).to_bytes(2, sys.byteorder) + bytes(8)  # NLM_F_REQUEST and NLM_F_ACK
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as routing:
        routing.send(head + body)
        answer = routing.recv(4096)
    number = -int.from_bytes(answer[16:20], sys.byteorder, signed=True)
    if number:
        raise OSError(number, os.strerror(number))


def udp(port: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("192.0.2.1", int(port)))
        sender.send(b"x")


def processes() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def kill_zero(pid: str) -> None:
    os.kill(int(pid), 0)


def set_uid_run() -> str:
    """Whether a set-uid program of root gains its uid: read by the shell's effective uid in /proc."""
    return next(
        line.split(":")[1].strip()
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("NoNewPrivs")
    )


def execute_copy(folder: str) -> None:
    path = Path(folder) / "copy-of-true"
    shutil.copyfile("/usr/bin/true", path)
    path.chmod(0o755)
    try:
        os.waitpid(os.posix_spawn(str(path), [str(path)], {}), 0)
    finally:
        path.unlink()


def descriptors() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:
            continue  # that of the listing
        found.append(int(name))
    return sorted(found)


def fork_until(count: str) -> int:
    """Fork sleeping children; the number that the kernel granted is in the error."""
    children = []
    try:
        for done in range(int(count)):
            try:
                pid = os.fork()
            except OSError as error:
                error.strerror = str(done)
                raise
            if pid == 0:
                signal.pause()
            children.append(pid)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return int(count)


def fork_for_ever() -> NoReturn:
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.001)


def eat(size: str) -> int:
    kept = bytearray()
    while len(kept) < int(size):
        kept += b"x" * (4 << 20)
    return len(kept)


def eat_in_child(size: str) -> None:
    """The parent goes on as if nothing had been."""
    pid = os.fork()
    if pid == 0:
        eat(size)
        os._exit(0)
    os.waitpid(pid, 0)
    time.sleep(30)


def spin(seconds: str) -> int:
    """Use that much CPU."""
    turns = 0
    while time.process_time() < float(seconds):
        turns += 1
    return turns


def share(size: str, count: str) -> int:
    """Hold memory in one piece that a number of children share and none changes."""
    held = b"x" * int(size)
    ready, write = os.pipe()
    for _ in range(int(count)):
        if os.fork() == 0:
            os.write(write, b"x")
            time.sleep(3)
            os._exit(0)
    for _ in range(int(count)):
        os.read(ready, 1)
    time.sleep(1)
    return len(held)


def fill(path: str, size: str) -> None:
    with open(path, "wb", buffering=0) as file:
        for _ in range(int(size) // 65536):
            file.write(bytes(65536))
    os.unlink(path)


def grow(path: str, size: str) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    fill(path, size)


def write_core_pattern() -> None:
    path = Path("/proc/sys/kernel/core_pattern")
    now = path.read_text()
    path.write_text(now)


def run_stage() -> None:
    os.execv("/.dativo/confine", ["confine", "--version"])


def identity() -> list[int]:
    return [os.getuid(), os.geteuid(), os.getgid(), os.getegid(), *os.getgroups()]


def signals() -> list[int]:
    ignored = next(
        line.split()[1]
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("SigBlk")
    )
    return [int(ignored, 16)]


def environment() -> dict[str, str]:
    return dict(os.environ)


def threads_and_pools() -> int:
    """What connectors of the CDK use: threads, processes, semaphores and shared memory in /dev/shm."""
    import multiprocessing
    import threading
    from multiprocessing.shared_memory import SharedMemory

    seen: list[int] = []
    workers = [threading.Thread(target=seen.append, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    context = multiprocessing.get_context("fork")
    shared = SharedMemory(create=True, size=1 << 20)
    array, queue = context.Array("i", 4), context.Queue()
    with context.Pool(2) as pool:
        array[0] = sum(pool.map(abs, range(10))) + len(seen)
    child = context.Process(target=_fill_shared, args=(shared.name, queue))
    child.start()
    queue.get(timeout=10)
    child.join()
    assert shared.buf is not None
    found: int = array[0] + shared.buf[0]
    shared.close()
    shared.unlink()
    return found


def _fill_shared(name: str, queue: Any) -> None:
    from multiprocessing.shared_memory import SharedMemory

    shared = SharedMemory(name=name)
    assert shared.buf is not None
    shared.buf[0] = 7
    shared.close()
    queue.put("filled")


ACTS: dict[str, Callable[..., object]] = {
    name: value
    for name, value in list(globals().items())
    if callable(value) and name.islower() and not name.startswith("_")
}


def main() -> None:
    name, *arguments = sys.argv[1:]
    outcome: dict[str, object] = {"errno": None, "value": None}
    try:
        outcome["value"] = ACTS[name](*arguments)
    except OSError as error:
        outcome = {
            "errno": errno.errorcode.get(error.errno or 0, str(error)),
            "value": error.strerror,
        }
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
