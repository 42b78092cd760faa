"""Our standalone targets as a shell user starts them: bytes on stdin, states on stdout, words on stderr."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

from tests.integration.conftest import DATIVO, KEPT, descendants, plain_flags

Kind: TypeAlias = Literal["parquet", "iceberg"]
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Ended:
    """How a target ended. ``accepted``: bytes that it took from its stdin; ``peak_bytes``: largest resident set, by program."""

    status: int
    stdout: str
    stderr: str
    accepted: int
    wall_s: float
    peak_bytes: Mapping[str, int]

    @property
    def states(self) -> list[str]:
        """The lines of stdout as they stand."""
        return self.stdout.splitlines()

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The lines of stdout as an Airbyte destination writes them."""
        return [json.loads(line) for line in self.states]


@dataclass(slots=True)
class Target:
    """A standalone target, a folder for its configuration, and its warehouse below that."""

    kind: Kind
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def program(self) -> Path:
        return DATIVO.parent / f"dativo-target-{self.kind}"

    @property
    def warehouse(self) -> Path:
        return self.folder / "lake"

    def config(self, **settings: Any) -> Path:
        """Write the configuration, with more ``settings``."""
        own: dict[str, Any] = {"path" if self.kind == "parquet" else "warehouse": "lake"}
        path = self.folder / "config.json"
        path.write_text(json.dumps({**own, "namespace": "piped", **self.settings, **settings}))
        return path

    def environment(self) -> dict[str, str]:
        home = self.folder / "home"
        home.mkdir(mode=0o700, exist_ok=True)
        if plain_flags():
            # Other people's tools pass no flag; the operator's policy says it for them.
            policy = home / "dativo/config/policy.yaml"
            policy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            policy.write_text("walls: {cgroup: degraded}\n")
        kept = {key: os.environ[key] for key in KEPT if key in os.environ}
        return {**kept, "HOME": str(home), "DATIVO_HOME": str(home / "dativo")}

    def start(
        self,
        *arguments: str,
        stdin: IO[Any] | int | None = subprocess.PIPE,
        stdout: IO[bytes] | int = subprocess.PIPE,
        stderr: IO[bytes] | int = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self.program, *arguments, *plain_flags()],
            cwd=self.folder,
            env=self.environment(),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )

    def load(
        self, lines: bytes | Iterable[bytes], timeout_s: float = 120, **settings: Any
    ) -> Ended:
        """Pipe a Singer tap's output in."""
        return self.feed(lines, "--config", str(self.config(**settings)), timeout_s=timeout_s)

    def write(
        self,
        lines: bytes | Iterable[bytes],
        catalog: Mapping[str, Any],
        timeout_s: float = 120,
        **settings: Any,
    ) -> Ended:
        """Pipe an Airbyte source's output in, as its destination."""
        path = self.folder / "catalog.json"
        path.write_text(json.dumps(catalog))
        config = str(self.config(**settings))
        return self.feed(
            lines, "write", "--config", config, "--catalog", str(path), timeout_s=timeout_s
        )

    def feed(
        self, lines: bytes | Iterable[bytes], *arguments: str, timeout_s: float = 120
    ) -> Ended:
        """Start the target, write ``lines`` until it stops taking them, and wait for its end."""
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            started = time.monotonic()
            process = self.start(*arguments, stdout=stdout, stderr=stderr)
            accepted = [0]
            feeder = threading.Thread(target=_pour, args=(process, lines, accepted), daemon=True)
            feeder.start()
            watch = _Watch(process.pid)
            try:
                while process.poll() is None:
                    watch.look()
                    assert time.monotonic() < started + timeout_s, self._hung(watch, stderr)
                    time.sleep(0.02)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            wall_s = time.monotonic() - started
            feeder.join(10)
            assert not feeder.is_alive(), "the target is gone and its stdin is still open"
            stdout.seek(0)
            stderr.seek(0)
            told, words = stdout.read().decode(), stderr.read().decode()
        return Ended(process.returncode, told, words, accepted[0], wall_s, watch.peaks)

    def _hung(self, watch: _Watch, stderr: Any) -> str:
        stderr.seek(0)
        return f"still running: {watch.peaks}; stderr: {stderr.read().decode(errors='replace')[-2000:]}"


def _pour(
    process: subprocess.Popen[bytes], lines: bytes | Iterable[bytes], accepted: list[int]
) -> None:
    assert process.stdin is not None
    out = process.stdin.fileno()
    try:
        for chunk in [lines] if isinstance(lines, bytes) else lines:
            rest = memoryview(chunk)
            while rest:
                written = os.write(out, rest[:MB])
                accepted[0] += written
                rest = rest[written:]
    except BrokenPipeError:
        pass  # the target has had enough: the test looks at how much it took
    finally:
        process.stdin.close()


class _Watch:
    """Peak memory of a process and all below it, by program name (VmHWM of proc(5), which only grows)."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._found: dict[int, tuple[str, int]] = {}

    def look(self) -> None:
        for pid in (self._pid, *descendants(self._pid)):
            try:
                text = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue  # ended meanwhile
            fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
            if "VmHWM" in fields:
                self._found[pid] = (fields["Name"], int(fields["VmHWM"].split()[0]) * 1024)

    @property
    def peaks(self) -> dict[str, int]:
        peaks: dict[str, int] = {}
        for name, size in self._found.values():
            peaks[name] = max(size, peaks.get(name, 0))
        return peaks
