"""What the acts are after, outside: hidden and granted files, listeners, another process, a descriptor."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from tests.docker.image import python_image
from tests.sandbox.probes.catalogue import Setting

from dativo.sandbox import Container, Identity, executables
from dativo.sandbox.roots import ETC

SECRET: Final = "a-secret-of-the-host"
LAUNCHERS_SECRET: Final = "LAUNCHERS_SECRET"
PYTHON: Final = "/usr/bin/python3"  # seen inside as it is, and reached by every uid
INSIDE: Final = Path(__file__).with_name("inside")
FOLDER: Final = "/var/tmp"  # not /tmp, beneath which Landlock permits everything
RUN: Final = "tests.sandbox.probes.inside.run"
IPC_RMID: Final = 0
LIBC: Final = ctypes.CDLL(None, use_errno=True)

_VICTIM: Final = f"""
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(0x59616d61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER: any, where Yama asks
held = ctypes.create_string_buffer(b"{SECRET}")
print(os.getpid(), ctypes.addressof(held), flush=True)
signal.pause()
"""


class Victim:
    """A process of the same uid as the confined one, with a secret in its environment and memory."""

    def __init__(
        self, identity: Identity | None, sharing: int | None = None, *, own_users: bool = True
    ) -> None:
        """With ``sharing``, a process as seen from here, it lives in that one's pid namespace.

        And in its user namespace, across which nobody may trace, unless that is not its own: no run can do without that wall.
        """
        command = [PYTHON, "-I", "-c", _VICTIM]
        enter = ["nsenter", f"--target={sharing}", "--pid"]
        if sharing is not None and own_users:
            command = [*enter, "--user", "--preserve-credentials", *command]
        if identity is not None:
            who = (f"--reuid={identity.uid}", f"--regid={identity.gid}", "--clear-groups")
            command = ["setpriv", *who, *command]
        if sharing is not None and not own_users:
            command = [*enter, *command]  # as root, who owns it
        environment = {"VICTIMS_SECRET": SECRET, "PATH": "/usr/bin:/bin"}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, env=environment, text=True
        )
        assert self._process.stdout is not None
        self.pid, self.address = self._process.stdout.readline().split()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Scene:
    """Everything there is to get at, and where the acts are tried from. ``names`` fills the arguments of acts."""

    def __init__(
        self,
        identity: Identity | None,
        setting: Setting = "host",
        container: Container | None = None,
    ) -> None:
        self.identity = identity
        self.setting: Setting = setting
        self.container = container
        self._stack = ExitStack()
        self.root = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="dativo-", dir=FOLDER))
        )
        self.root.chmod(0o755)
        self.hidden, self.given, self.out = (self._folder(n) for n in ("hidden", "given", "out"))
        private = self.given / "private"
        private.touch(mode=0o600)
        private.write_text(SECRET)
        self.code = self.root / "code"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(INSIDE, self.code / "tests/sandbox/probes/inside", ignore=ignored)
        self.confine = self.root / "confine"
        shutil.copyfile(executables.confine(), self.confine)
        self.confine.chmod(0o755)
        self.image = self._unpacked() if setting == "image" else None
        self.victim = Victim(identity)
        self._stack.callback(self.victim.close)
        self.leaked = os.open(self.hidden / "secret", os.O_RDONLY)
        os.set_inheritable(self.leaked, True)
        self._stack.callback(os.close, self.leaked)
        self.names = {
            "hidden": str(self.hidden),
            "given": str(self.given),
            "out": str(self.out),
            "launcher": str(os.getpid()),
            "hostname": os.uname().nodename,
            "abstract": f"dativo-probe-{os.getpid()}",
            "tcp": self._listen("127.0.0.1"),
            "tcp6": self._listen("::1"),
            "udp": self._receive(),
            "shm": self._share(),
            "queue": self._queue(),
        }
        for path in (self.hidden / "agent.sock", self.out / "agent.sock"):
            self._listen_unix(str(path))
            path.chmod(0o777)
        self._listen_unix("\0" + self.names["abstract"])

    def _unpacked(self) -> Path:
        """The root of an image with a Python of its own."""
        root = self.root / "image"
        root.mkdir()
        unpack = [
            "tar",
            "--extract",
            "--preserve-permissions",
            "--no-same-owner",
            "--directory",
            str(root),
        ]
        subprocess.run(unpack, input=python_image(), check=True)
        # The last one so that the host's can be shown there, where that wall is off.
        for name in (*ETC, "shadow"):
            (root / "etc" / name).write_text("")
        return root

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir()
        folder.chmod(0o777)
        file = folder / "secret"
        file.write_text(SECRET)
        file.chmod(0o666)
        return folder

    def _listen(self, host: str) -> str:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = self._stack.enter_context(socket.socket(family))
        listener.bind((host, 0))
        listener.listen(4096)
        return str(listener.getsockname()[1])

    def _receive(self) -> str:
        receiver = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        receiver.bind(("127.0.0.1", 0))
        return str(receiver.getsockname()[1])

    def _listen_unix(self, address: str) -> None:
        listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(address)
        listener.listen(4096)

    def _share(self) -> str:
        number = LIBC.shmget(0, 4096, 0o666 | 0o1000)
        assert number >= 0, os.strerror(ctypes.get_errno())
        self._stack.callback(LIBC.shmctl, number, IPC_RMID, None)
        return str(number)

    def _queue(self) -> str:
        name = f"/dativo-probe-{os.getpid()}-{self.setting}"
        fd = LIBC.mq_open(name.encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
        assert fd >= 0, os.strerror(ctypes.get_errno())
        self._stack.callback(LIBC.mq_unlink, name.encode())
        os.fchmod(fd, 0o666)
        os.close(fd)
        return name

    @property
    def runner(self) -> tuple[str, ...]:
        """The command that tries acts: inside.run with whatever Python the machine has."""
        found = f"import sys; sys.path.insert(0, {str(self.code)!r})"
        return (PYTHON, "-I", "-B", "-c", f"{found}; from {RUN} import main; main()")

    def filled(self, arguments: tuple[str, ...], victim: Victim | None = None) -> list[str]:
        """Fill in what arguments name."""
        victim = victim or self.victim
        names = {**self.names, "victim": victim.pid, "address": victim.address}
        return [argument.format_map(names) for argument in arguments]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
