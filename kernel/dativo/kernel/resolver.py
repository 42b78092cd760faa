"""The package index, through uv: versions and hashes for a requirement, and the files of a locked one.

uv runs with an environment of its own (no uv.toml, no pyproject.toml, nothing of the workspace), takes wheels only and never runs
what is in them. Its cache is dativo's own: nothing else hard-links into it. A package without a wheel is built elsewhere
(``build.py``) and then is a wheel like any other.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dativo.kernel import environment, limits, shapes
from dativo.kernel.lock import Locked, Reference, normal
from dativo.kernel.paths import Paths, make_folder
from dativo.protocol.errors import Blame, ConfigError, LimitExceeded

if TYPE_CHECKING:
    from dativo.kernel.build import Built
    from dativo.kernel.sdist import Sdist

_ERROR_CHARS: Final = 4000
_MAX_BUILDS: Final = 32
# What uv says of each package that has no wheel that fits; without these words the error stands as it is.
_NO_WHEEL: Final = re.compile(r"Wheels are required for `([A-Za-z0-9._-]{1,128})`")

Build = Callable[["Sdist", "Interpreter"], "Built"]
"""Makes the wheel of an sdist."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that environments are made with: its real executable, prefix and full version."""

    executable: str
    prefix: str
    version: str

    @property
    def minor(self) -> str:
        """``3.11`` of ``3.11.7``."""
        return ".".join(self.version.split(".")[:2])


class Uv:
    """uv as dativo uses it. Every call blocks, and ends with an error after ``limits.INSTALL_TIME_S``."""

    def __init__(self, paths: Paths, env: Mapping[str, str]) -> None:
        import uv

        make_folder(paths.cache, 0o700)
        self.program = uv.find_uv_bin()
        self.folder = paths.cache
        self.cache = env.get(environment.UV_CACHE_DIR.name) or str(paths.cache / "uv")
        # uv knows the option only.
        self.no_index = ("--no-index",) if env.get(environment.NO_INDEX.name) else ()
        passed = {variable.name for variable in environment.INSTALL} | {environment.HOME.name}
        self.env = {name: env[name] for name in sorted(passed & env.keys())}
        self.env |= {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}

    def interpreter(self, python: str | None = None) -> Interpreter:
        """Return the interpreter of a version or path; by default the one that runs dativo."""
        if python is None:
            program = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
        elif "/" in python:
            program = python
        else:
            program = self.run("finding Python", "python", "find", "--no-project", python).strip()
        # A virtual environment names its base by itself; -S keeps its .pth files from running.
        asked = (
            "import json,os,sys;print(json.dumps([os.path.realpath(sys._base_executable),"
            "sys.base_prefix,'.'.join(map(str,sys.version_info[:3]))]))"
        )
        found = json.loads(self.process("asking Python", [program, "-I", "-S", "-c", asked]))
        return Interpreter(*found)

    def resolve(self, wanted: Reference, interpreter: Interpreter, build: Build) -> Locked:
        """Choose the version and every dependency; ``build`` is asked for the wheel of each package that has none.

        Raises ConfigError with uv's reason.
        """
        built: dict[str, tuple[Sdist, Built]] = {}
        while True:
            links = [made.file.parent for _, made in built.values()]
            try:
                lines = self.lines([wanted.requirement], interpreter, links)
                break
            except ConfigError as error:
                missing = set(map(normal, _NO_WHEEL.findall(error.message))) - built.keys()
                if not missing or len(built) + len(missing) > _MAX_BUILDS:
                    raise
                for package in sorted(missing):
                    sdist = self.find_sdist(
                        wanted.requirement, package, interpreter, links, missing
                    )
                    built[package] = sdist, build(sdist, interpreter)
        lines = [
            built[name][0].requirement if (name := _name(line)) in built else line for line in lines
        ]
        used = {_name(line) for line in lines}
        version = _version(lines, wanted.package)
        newest = None
        if not re.fullmatch(r"==[^*,]+", wanted.specifier):
            asked = (wanted.requirement, interpreter, "--no-deps")
            newest = _version(self.compile(*asked, links=links), wanted.package)
        return Locked(
            reference=wanted.name,
            kind=wanted.kind,
            package=wanted.package,
            version=version,
            requested=wanted.specifier,
            newest=newest if newest != version else None,
            python=interpreter.minor,
            script="",
            requirements=tuple(lines),
            built={name: made.requirements for name, (_, made) in built.items() if name in used},
        )

    def lines(
        self, requirements: Sequence[str], interpreter: Interpreter, links: Sequence[Path] = ()
    ) -> list[str]:
        """Return one line per package that ``requirements`` need: name, exact version, hashes. Raises ConfigError."""
        found = self.compile("\n".join(requirements), interpreter, "--generate-hashes", links=links)
        for line in found:
            try:
                shapes.REQUIREMENT(line, ())
            except shapes.Fault as fault:
                raise ConfigError(
                    f"{requirements[0]} needs something that is not a wheel of the index",
                    value=line.partition(" --hash")[0],
                    blame=Blame.PLUGIN,
                ) from fault
        return found

    def compile(
        self, requirement: str, interpreter: Interpreter, *options: str, links: Sequence[Path] = ()
    ) -> list[str]:
        """Return one line per package: exact version and the options asked for, such as hashes."""
        text = self.run(
            f"resolving {requirement.splitlines()[0]}",
            *("pip", "compile", "--quiet", "--only-binary", ":all:", *self._places(links)),
            *("--no-header", "--no-annotate", "--python", interpreter.executable, *options, "-"),
            text=requirement + "\n",
        )
        return [" ".join(line.split()) for line in text.replace("\\\n", " ").splitlines() if line]

    def find_sdist(
        self,
        requirement: str,
        package: str,
        interpreter: Interpreter,
        links: Sequence[Path] = (),
        unbuilt: Iterable[str] = (),
    ) -> Sdist:
        """Return the sdist of ``package`` that fits ``requirement``. Executes nothing: see ``sdist.py``. Raises ConfigError.

        ``unbuilt``: other packages without a wheel, whose dependencies are not known either.
        """
        from dativo.kernel.sdist import from_pylock

        names = sorted({package, *unbuilt})
        config = "".join(
            f'[[dependency-metadata]]\nname = "{name}"\nrequires-dist = []\n' for name in names
        )
        with tempfile.NamedTemporaryFile("w", suffix=".toml", dir=self.folder) as file:
            file.write(config)
            file.flush()
            text = self.run(
                f"finding the sdist of {package}",
                *("pip", "compile", "--quiet", "--only-binary", ":all:", *self._places(links)),
                *(part for name in names for part in ("--no-binary", name)),
                *("--no-header", "--no-annotate", "--python", interpreter.executable),
                *("--format", "pylock.toml", "-"),
                text=requirement + "\n",
                config=file.name,
            )
        return from_pylock(text, package, self.folder)

    def assemble(
        self,
        what: str,
        lines: Sequence[str],
        interpreter: Interpreter,
        folder: Path,
        links: Sequence[Path] = (),
    ) -> None:
        """Make the environment ``folder`` of exactly the wheels of ``lines``, copied, each checked by hash."""
        self.run(
            "making an environment",
            *("venv", "--quiet", "--no-project", "--python", interpreter.executable, str(folder)),
        )
        if not lines:
            return
        self.run(
            f"installing {what}",
            *("pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"),
            *("--no-deps", *self._places(links), "--link-mode", "copy"),
            *("--python", str(folder / "bin/python"), "--requirement", "-"),
            text="\n".join(lines) + "\n",
        )

    def _places(self, links: Sequence[Path]) -> list[str]:
        """Return the options of where packages come from; uv takes --find-links instead of its variable."""
        own = self.env.get(environment.FIND_LINKS.name, "").split(",") if links else []
        places = [*filter(None, own), *map(str, links)]
        return [*self.no_index, *(part for place in places for part in ("--find-links", place))]

    def byte_compile(self, interpreter: Interpreter, folder: Path) -> None:
        """Compile every module below ``folder`` without importing any; files that are no Python are left as they are."""
        self.process(
            "compiling",
            [
                *(interpreter.executable, "-I", "-S", "-B", "-W", "ignore", "-m", "compileall"),
                *("-qq", "-j", str(os.cpu_count() or 1)),
                *("--invalidation-mode", "unchecked-hash", str(folder / "lib")),
            ],
            accepted=(0, 1),
        )

    def run(self, what: str, *arguments: str, text: str = "", config: str | None = None) -> str:
        """Run uv, with no configuration but the file ``config`` of our own, and return its stdout."""
        options = ["--no-config"] if config is None else ["--config-file", config]
        options += ["--no-python-downloads", "--cache-dir", self.cache]
        return self.process(what, [self.program, *arguments, *options], text)

    def process(
        self, what: str, command: Sequence[str], text: str = "", accepted: Sequence[int] = (0,)
    ) -> str:
        """Run ``command`` in our own folder and environment; return its stdout. Raises ConfigError with its last words."""
        try:
            done = subprocess.run(
                command,
                input=text,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                cwd=self.folder,
                env=self.env,
                timeout=limits.INSTALL_TIME_S,
            )
        except subprocess.TimeoutExpired as error:
            raise LimitExceeded(
                f"{what} took more than {limits.INSTALL_TIME_S} s", blame=Blame.MACHINE
            ) from error
        except OSError as error:
            raise ConfigError(f"{what}: cannot run {command[0]}: {error.strerror}") from error
        if done.returncode not in accepted:
            raise ConfigError(f"{what} failed: {done.stderr.strip()[-_ERROR_CHARS:]}")
        return done.stdout


def _version(requirements: Sequence[str], package: str) -> str:
    """Return the version that was chosen for ``package``."""
    for line in requirements:
        if _name(line) == package:
            return line.partition("==")[2].split(" ", 1)[0]
    raise ConfigError(f"the index answered without {package}", blame=Blame.MACHINE)


def _name(line: str) -> str:
    """Return the normalised package of a line."""
    return normal(line.partition("==")[0].partition("[")[0])
