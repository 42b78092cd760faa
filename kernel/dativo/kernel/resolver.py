"""The package index, through uv: versions and hashes for a requirement, and the files of a locked one.

uv runs with an environment of its own (no uv.toml, no pyproject.toml, nothing of the workspace), takes wheels only and never runs
what is in them. Its cache is dativo's own: nothing else hard-links into it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dativo.kernel import environment, limits, shapes
from dativo.kernel.lock import Locked, Reference
from dativo.kernel.paths import Paths, make_folder
from dativo.protocol.errors import Blame, ConfigError, LimitExceeded

_ERROR_CHARS: Final = 4000


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

    def resolve(self, wanted: Reference, interpreter: Interpreter) -> Locked:
        """Choose the version and every dependency. Raises ConfigError with uv's reason."""
        requirements = self.compile(wanted.requirement, interpreter, "--generate-hashes")
        for line in requirements:
            try:
                shapes.REQUIREMENT(line, ())
            except shapes.Fault as fault:
                raise ConfigError(
                    f"{wanted.requirement} needs something that is not a wheel of the index",
                    value=line.partition(" --hash")[0],
                    blame=Blame.PLUGIN,
                ) from fault
        version = _version(requirements, wanted.package)
        newest = None
        if not re.fullmatch(r"==[^*,]+", wanted.specifier):
            newest = _version(
                self.compile(wanted.requirement, interpreter, "--no-deps"), wanted.package
            )
        return Locked(
            reference=wanted.name,
            kind=wanted.kind,
            package=wanted.package,
            version=version,
            requested=wanted.specifier,
            newest=newest if newest != version else None,
            python=interpreter.minor,
            script="",
            requirements=tuple(requirements),
        )

    def compile(self, requirement: str, interpreter: Interpreter, *options: str) -> list[str]:
        """Return one line per package: exact version and the options asked for, such as hashes."""
        text = self.run(
            f"resolving {requirement}",
            *("pip", "compile", "--quiet", "--only-binary", ":all:", *self.no_index, "--no-header"),
            *("--no-annotate", "--python", interpreter.executable, *options, "-"),
            text=requirement + "\n",
        )
        return [" ".join(line.split()) for line in text.replace("\\\n", " ").splitlines() if line]

    def assemble(self, entry: Locked, interpreter: Interpreter, folder: Path) -> None:
        """Make the environment ``folder`` of exactly the locked wheels, copied, each checked by hash."""
        self.run(
            "making an environment",
            *("venv", "--quiet", "--no-project", "--python", interpreter.executable, str(folder)),
        )
        self.run(
            f"installing {entry.package}",
            *("pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"),
            *(
                "--no-deps",
                *self.no_index,
                "--link-mode",
                "copy",
                "--python",
                str(folder / "bin/python"),
            ),
            *("--requirement", "-"),
            text="\n".join(entry.requirements) + "\n",
        )

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

    def run(self, what: str, *arguments: str, text: str = "") -> str:
        """Run uv and return its stdout."""
        options = ["--no-config", "--no-python-downloads", "--cache-dir", self.cache]
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
        name, _, rest = line.partition("==")
        if re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower() == package:
            return rest.split(" ", 1)[0]
    raise ConfigError(f"the index answered without {package}", blame=Blame.MACHINE)
