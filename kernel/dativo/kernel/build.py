"""Wheels of packages that have none: each is built from its sdist behind the walls, without network, files or a folder to write.

The sdist is read-only inside and unpacked there, in a /tmp of its own; the build backend stands in an environment of locked
wheels, read-only too; the wheel comes out on stdout, is bounded, and is believed only after ``wheel.check``. What was built is
kept by the hash of the sdist and of all that built it.

    describe (what pyproject.toml asks for) → resolve and assemble that, wheels only → build, again where the backend wants more
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from dativo.kernel import answers, limits, lock, show, tree, walls, wheel
from dativo.kernel.paths import make_folder
from dativo.kernel.processes import own_identity
from dativo.kernel.sdist import Sdist, download
from dativo.protocol import jsontext
from dativo.protocol.errors import Blame, ConfigError, LimitExceeded, ProtocolViolation, Where
from dativo.sandbox import Exit, Grants, Limits, PrivateFile, Program, Walls, launch

if TYPE_CHECKING:
    from dativo.kernel.resolver import Interpreter, Uv

_DRIVER: Final = "/run/dativo/build.py"
_ARCHIVE: Final = "/build/sdist"
_HEADER_BYTES: Final = 64 * 1024
_MAX_REQUIREMENTS: Final = 200
# The same bytes from the same sdist: archives hold no time before 1980 (SOURCE_DATE_EPOCH, reproducible-builds.org).
_ENVIRONMENT: Final = (
    ("HOME", "/tmp"),  # noqa: S108
    ("SOURCE_DATE_EPOCH", "315532800"),
    ("PYTHONHASHSEED", "0"),
)


@dataclass(frozen=True, slots=True)
class Built:
    """A wheel that was built here, and the locked requirements (with hashes) that it was built with."""

    file: Path
    requirements: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Hash of the wheel, in hex."""
        with self.file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class _Described:
    """How an sdist wants to be built. Foreign, but its requirements are plain names with versions."""

    requires: tuple[str, ...]
    backend: str
    backend_path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds sdists for one installation. Main thread only, as ``launch`` is."""

    uv: Uv
    walls: Walls
    progress: Callable[[str], None]

    def build(
        self, sdist: Sdist, interpreter: Interpreter, locked: Sequence[str] | None = None
    ) -> Built:
        """Return the wheel of ``sdist`` for ``interpreter``, built now or kept from an earlier time.

        ``locked``: build with exactly these requirements; otherwise the index is asked for what the sdist wants. Blocks for
        at most ``limits.BUILD_TIME_S`` and the downloads. Raises ConfigError for an sdist that does not build or builds
        something else, LimitExceeded, and the sandbox's errors.
        """
        make_folder(self._kept, 0o700)
        if locked is not None and (kept := self._find(sdist, interpreter, locked)):
            return Built(kept, tuple(locked))
        self.progress(f"Building {sdist.package} {sdist.version} from its sdist, behind walls")
        with _work_folder(self._kept) as work:
            archive = download(sdist, work, self.uv.env)
            described = self._describe(sdist, archive)
            wanted = described.requires
            while True:
                chosen = list(locked) if locked is not None else self._resolve(wanted, interpreter)
                if kept := self._find(sdist, interpreter, chosen):
                    return Built(kept, tuple(chosen))
                known = None if locked is not None else wanted
                found = self._wheel(sdist, archive, described, interpreter, chosen, known, work)
                if isinstance(found, Path):
                    return Built(self._keep(found, sdist, interpreter, chosen), tuple(chosen))
                if locked is not None or set(found) <= set(wanted):
                    raise _failed(sdist, "its backend asks for more than it did")
                wanted = tuple(dict.fromkeys((*wanted, *found)))

    def _resolve(self, wanted: Sequence[str], interpreter: Interpreter) -> list[str]:
        return self.uv.lines(wanted, interpreter) if wanted else []

    @property
    def _kept(self) -> Path:
        return self.uv.folder / "built"

    def _place(self, sdist: Sdist, interpreter: Interpreter, chosen: Sequence[str]) -> Path:
        parts = [sdist.sha256, interpreter.version, lock.platform_name(), *chosen]
        return self._kept / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def _find(self, sdist: Sdist, interpreter: Interpreter, chosen: Sequence[str]) -> Path | None:
        return next(self._place(sdist, interpreter, chosen).glob("*.whl"), None)

    def _keep(
        self, file: Path, sdist: Sdist, interpreter: Interpreter, chosen: Sequence[str]
    ) -> Path:
        place = self._place(sdist, interpreter, chosen)
        make_folder(place, 0o700)
        return file.replace(place / file.name)

    def _describe(self, sdist: Sdist, archive: Path) -> _Described:
        interpreter = (
            self.uv.interpreter()
        )  # dativo's own, which reads TOML; nothing of the sdist is executed
        with tempfile.TemporaryFile() as answer:
            header = self._ask(
                sdist, archive, interpreter.executable, (interpreter.prefix,), ("describe",), answer
            )
        backend, path = header.get("backend"), _texts(sdist, header.get("backend_path"))
        if not isinstance(backend, str) or not re.fullmatch(
            r"[\w.]{1,200}(:[\w.]{1,200})?", backend
        ):
            raise _failed(sdist, "its pyproject.toml names no build backend")
        return _Described(_requirements(sdist, header), backend, path)

    def _wheel(
        self,
        sdist: Sdist,
        archive: Path,
        described: _Described,
        interpreter: Interpreter,
        chosen: Sequence[str],
        known: Sequence[str] | None,
        work: Path,
    ) -> Path | tuple[str, ...]:
        """Return the wheel, checked and below ``work``, or the requirements that the backend wants beside ``known``."""
        env_folder = work / "env"
        if env_folder.exists():
            shutil.rmtree(env_folder)
        self.uv.assemble(f"what builds {sdist.package}", chosen, interpreter, env_folder)
        tell = {"backend": described.backend, "backend_path": described.backend_path}
        arguments = ("wheel", json.dumps(tell), json.dumps(known if known is None else list(known)))
        with tempfile.NamedTemporaryFile(dir=work, delete=False) as answer:
            header = self._ask(
                sdist,
                archive,
                str(env_folder / "bin/python"),
                (str(env_folder), interpreter.prefix),
                arguments,
                answer,
            )
        name = header.get("wheel")
        if known is not None and name is None:
            return _requirements(sdist, header)
        if not isinstance(name, str) or not re.fullmatch(r"[\w.+!-]{1,250}\.whl", name):
            raise _failed(sdist, "its backend names no wheel")
        file = work / name
        Path(answer.name).rename(file)
        try:
            wheel.check(file, sdist.package, sdist.version, interpreter.minor)
        except wheel.BadWheel as error:
            raise _failed(sdist, "what it builds is refused", str(error)) from error
        return file

    def _ask(
        self,
        sdist: Sdist,
        archive: Path,
        python: str,
        runtime: Sequence[str],
        arguments: Sequence[str],
        into: IO[bytes],
    ) -> dict[str, Any]:
        """Run one step of ``build_inside.py``; return the first line of its answer and write the rest into ``into``."""
        inside = _ARCHIVE + sdist.ending
        step, *more = arguments
        program = Program(
            name="build",
            argv=(python, "-I", "-B", _DRIVER, step, inside, *more),
            runtime=tuple(Path(path) for path in runtime if not Path(path).is_relative_to("/usr")),
            files=(PrivateFile(_DRIVER, _driver()),),
            binds=((archive, inside, False),),
        )
        path = f"{Path(python).parent}:/usr/bin:/bin"
        grants = Grants(
            environment=(*_ENVIRONMENT, ("PATH", path)),
            limits=Limits(
                memory_bytes=limits.BUILD_MEMORY_BYTES,
                cpus=float(os.cpu_count() or 1),
                tmp_bytes=limits.BUILD_TMP_BYTES,
                wall_time_s=limits.BUILD_TIME_S,
            ),
        )
        what = f"{sdist.package} {sdist.version}"
        with own_identity() as identity, walls.starting(f"the build of {what}", ConfigError):
            confined = launch(
                program,
                grants,
                identity=identity,
                walls=self.walls,
                stdin=None,
                stdout=None,
                control=None,
                run="build",
            )
            with confined:
                answer = _Answer(sdist, into)
                within_s = limits.BUILD_TIME_S + limits.STOP_GRACE_S
                ended = answers.listen(confined, answer.take, within_s)
                if ended.code != 0:
                    raise _ended(sdist, ended, confined.stderr_tail())
        into.flush()
        return _header(sdist, answer.header)


def _driver() -> bytes:
    return Path(__file__).with_name("build_inside.py").read_bytes()


@contextmanager
def _work_folder(parent: Path) -> Iterator[Path]:
    """Make a folder for one build and take it away again, whatever lies in it."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield folder
    finally:
        tree.make_removable(folder)
        shutil.rmtree(folder)


class _Answer:
    """Takes stdout apart: its first line is the header, the rest is written into a file. Bounded."""

    def __init__(self, sdist: Sdist, into: IO[bytes]) -> None:
        self.header = b""
        self._what = f"building {sdist.package} {sdist.version}"
        self._into = into
        self._complete = False
        self._rest = 0

    def take(self, data: bytes) -> None:
        """Take the next bytes. Raises LimitExceeded."""
        if not self._complete:
            line, end, data = data.partition(b"\n")
            self.header += line
            self._complete = bool(end)
        self._rest += self._into.write(data)
        if len(self.header) > _HEADER_BYTES or self._rest > limits.WHEEL_BYTES:
            raise LimitExceeded(
                f"{self._what} gave more than {limits.WHEEL_BYTES} bytes", blame=Blame.PLUGIN
            )


def _header(sdist: Sdist, line: bytes) -> dict[str, Any]:
    try:
        found = jsontext.loads(line.decode("utf-8", "replace"), "the answer of a build")
    except ProtocolViolation as error:
        raise _failed(sdist, "its answer is not JSON", error.value) from error
    if not isinstance(found, dict):
        raise _failed(sdist, "it gave no answer")
    return found


def _texts(sdist: Sdist, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MAX_REQUIREMENTS:
        raise _failed(sdist, "its pyproject.toml is malformed")
    for item in value:
        if not isinstance(item, str) or len(item) > 1000:
            raise _failed(sdist, "its pyproject.toml is malformed")
    return tuple(value)


def _requirements(sdist: Sdist, header: dict[str, Any]) -> tuple[str, ...]:
    """Return what a build asks for: names of the index with versions and markers, never an address."""
    from packaging.requirements import InvalidRequirement, Requirement

    found = _texts(sdist, header.get("requires"))
    for text in found:
        try:
            parsed = Requirement(text)
        except InvalidRequirement as error:
            raise _failed(sdist, "it asks for something that is no requirement", text) from error
        if parsed.url is not None or "\n" in text or "\r" in text:
            raise _failed(sdist, "it asks for something that is not of the index", text)
    return found


def _ended(sdist: Sdist, ended: Exit, stderr: bytes) -> ConfigError | LimitExceeded:
    what = f"building {sdist.package} {sdist.version} from its sdist"
    said = stderr.decode("utf-8", "backslashreplace").strip().splitlines()
    value = show.foreign(said[-1], max_chars=limits.MAX_VALUE_CHARS) if said else None
    where = Where(plugin=sdist.package)
    if ended.hit_limit:
        return LimitExceeded(f"{what} hit its limit: {ended.detail}", where, value=value)
    how = f"exit status {ended.code}" if ended.code is not None else f"signal {ended.signal}"
    return _failed(sdist, f"{how}{'; it ' + ended.detail if ended.detail else ''}", value)


def _failed(sdist: Sdist, reason: str, value: str | None = None) -> ConfigError:
    return ConfigError(
        f"building {sdist.package} {sdist.version} from its sdist failed: {reason}",
        Where(plugin=sdist.package),
        value=None if value is None else show.foreign(value, max_chars=limits.MAX_VALUE_CHARS),
        hint="It is built without network and files; a wheel made elsewhere is taken from UV_FIND_LINKS",
        blame=Blame.PLUGIN,
    )
