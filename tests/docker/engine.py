"""A Docker Engine of the tests' own: socket, data and mounts below one folder, no bridge, no iptables, gone with its stdin."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
IMAGE = "dativo-test:host"
# Where the users of a container lie outside, unless it is started with --userns=host.
FIRST_UID = 200_000
START_S = 60.0

# In a mount and a pid namespace of its own: its mounts are nobody else's, and whatever it has started ends with it. It is told to
# stop by the end of its stdin, which also comes when the tests are killed.
START = """\
mount --make-rprivate / || exit 77
for file in subuid subgid; do mount --bind "$1/users" /etc/$file || exit 77; done
dockerd --host "unix://$1/docker.sock" --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" \\
    --bridge=none --iptables=false --ip6tables=false --exec-opt native.cgroupdriver=cgroupfs --storage-driver vfs \\
    --userns-remap nobody:nogroup </dev/null &
engine=$!
while read -r _; do :; done
kill $engine
wait $engine
"""
# Files of the host's /etc that belong to its /usr.
ETC = ("alternatives", "ld.so.cache", "ssl/certs")


def missing() -> str | None:
    """Return why no engine can be had here, or None."""
    if os.geteuid() != 0:
        return "dockerd needs root"
    for program in ("dockerd", "docker"):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt-get install docker.io"
    return None


@dataclass
class Engine:
    """A running dockerd. Close it, or use it as a context manager."""

    folder: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, folder: Path) -> Self:
        """Start one below ``folder``, whose path is short: the name of a socket has 107 characters at most (unix(7))."""
        for name in ("users", "log"):
            (folder / name).touch()
        (folder / "users").write_text(
            f"nobody:{FIRST_UID}:65536\nnogroup:{FIRST_UID}:65536\n", "ascii"
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                 "sh", "-c", START, "engine", str(folder)],
                stdin=subprocess.PIPE, stdout=log, stderr=log,
            )  # fmt: skip
        engine = cls(folder, process)
        try:
            engine._wait()
            engine.docker("import", "-", IMAGE, stdin=root_file_system())
        except BaseException:
            engine.close()
            raise
        return engine

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while subprocess.run(self.command("version"), capture_output=True).returncode:
            said = (self.folder / "log").read_text("utf-8", "replace")[-2000:]
            if self.process.poll() is not None:
                raise RuntimeError(f"dockerd ended with {self.process.returncode}: {said}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"dockerd does not answer: {said}")
            time.sleep(0.1)

    def command(self, *arguments: str) -> list[str]:
        """Return the line that speaks to this engine."""
        return ["docker", "--host", f"unix://{self.folder}/docker.sock", *arguments]

    def docker(
        self, *arguments: str, stdin: bytes = b"", timeout_s: float = 120
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command that must succeed."""
        done = subprocess.run(
            self.command(*arguments), input=stdin, capture_output=True, timeout=timeout_s
        )
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
        return done

    def close(self) -> None:
        """Stop it and all that it runs."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def root_file_system() -> bytes:
    """Return a root file system without programs, as a tarball: /usr, Python and this tree are bound into it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in ("usr", "etc", "proc", "sys", "dev", "run", "tmp", "var/tmp", "etc/ssl"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name.endswith("tmp") else 0o755
            tar.addfile(folder)
        for name in ("bin", "sbin", "lib", "lib64"):
            if Path(f"/{name}").is_symlink():
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
                tar.addfile(link)
        for name in ETC:
            tar.add(f"/etc/{name}", f"etc/{name}")
    return packed.getvalue()


def host_binds() -> list[str]:
    """Return the options that show the host's programs, Python, its environment and this tree, all read-only."""
    folders = {"/usr", str(ROOT), sys.prefix, sys.base_prefix}
    if chosen := os.environ.get("DATIVO_BIN_DIR"):
        folders.add(chosen)
    return [f"--volume={folder}:{folder}:ro" for folder in sorted(folders)]
