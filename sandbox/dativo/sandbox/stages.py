"""Write the plans of the two stages of dativo-confine (rust-plugins/confine): fields ended by NUL in a memfd."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from dativo.sandbox.errors import SandboxError
from dativo.sandbox.mounts import STAGE2, View
from dativo.sandbox.program import Grants, Identity, Program

Field = str | int
_BASE_ENVIRONMENT = {
    "HOME": "/tmp",  # noqa: S108 - inside
    "TMPDIR": "/tmp",  # noqa: S108 - inside
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
}


@dataclass(frozen=True, slots=True)
class Streams:
    """The program's descriptors as stage 2 inherits them."""

    report: int
    stdin: int
    stdout: int
    stderr: int | None
    control: int | None

    @property
    def all(self) -> tuple[int, ...]:
        """Every one; without ``stderr`` the program has descriptor 2, the launcher's."""
        more = (fd for fd in (self.stderr, self.control) if fd is not None)
        return (self.report, self.stdin, self.stdout, *more)


def stage1_plan(
    *,
    kept: Iterable[int],
    joins: Iterable[str],
    folder: str | None,
    protected: Iterable[tuple[str, str]],
    attached: Iterable[tuple[str, str, bool]],
    identity: Identity | None,
    bubblewrap: str,
    options_fd: int,
    plan_fd: int,
) -> bytes:
    """Return the plan of stage 1. ``protected`` are real paths as granted folder and rest; ``folder`` and ``attached`` (source,
    target, writable) as root only.
    """
    fields: list[Field] = ["parent", os.getpid()]
    for fd in kept:
        fields += ["keep", fd]
    for path in joins:
        fields += ["cgroup", path]
    if folder is not None:
        fields += ["view", folder]
    for root, rest in protected:
        fields += ["protect", root, rest]
    for source, target, writable in attached:
        fields += ["attach", source, target, "rw" if writable else "ro"]
    if identity is not None:
        fields += ["identity", identity.uid, identity.gid]
        for group in identity.groups:
            fields += ["group", group]
    fields += ["bubblewrap", bubblewrap]
    for argument in ("--args", options_fd, "--", STAGE2, "stage2", plan_fd):
        fields += ["argument", argument]
    return encode(fields)


def stage2_plan(
    program: Program, grants: Grants, view: View, limits: dict[str, int], streams: Streams
) -> bytes:
    """Return the plan of stage 2, which holds the environment."""
    fields: list[Field] = ["report", streams.report, "stdin", streams.stdin]
    fields += ["stdout", streams.stdout]
    if streams.stderr is not None:
        fields += ["stderr", streams.stderr]
    if streams.control is not None:
        fields += ["control", streams.control]
    for name, value in limits.items():
        fields += ["limit", name, value]
    for access, path in view.rules:
        fields += ["allow", access, path]
    fields += ["folder", program.cwd]
    for name, text in {**_BASE_ENVIRONMENT, **dict(grants.environment)}.items():
        if not name or "=" in name:
            raise SandboxError(f"{name!r} cannot name an environment variable")
        fields += ["environment", f"{name}={text}"]
    for argument in program.argv:
        fields += ["argument", argument]
    return encode(fields)


def encode(fields: Iterable[Field]) -> bytes:
    """End each field by NUL; raise SandboxError on one that holds a NUL."""
    encoded = [os.fsencode(str(field)) for field in fields]
    if any(b"\0" in field for field in encoded):
        raise SandboxError("a path, argument or variable holds a NUL byte")
    return b"".join(field + b"\0" for field in encoded)
