"""What the sandbox says, in the kernel's tree of errors.

A wall that is missing is exit 9, whoever asked for it. A program that does not start behind walls that stand is its own fault, or
that of whoever installed it: the caller says which error that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dativo.kernel import show
from dativo.kernel.limits import MAX_VALUE_CHARS
from dativo.protocol.errors import Blame, DativoError, ExitStatus, LimitExceeded, Where
from dativo.sandbox import LimitsTooSmall, SandboxError, StartFailed
from dativo.sandbox import WallMissing as Missing


class WallMissing(DativoError):
    """A wall cannot be built or does not stand on this machine; the hint says what to type."""

    status = ExitStatus.WALL_MISSING
    default_blame = Blame.MACHINE


def missing(error: SandboxError, policy: Path) -> WallMissing:
    """Return ``error`` as one of ours; ``policy`` is the file in which the operator may accept a weaker wall."""
    hint = error.hint
    if isinstance(error, Missing) and error.wall == "cgroup":
        hint = f"{hint.removesuffix('.')} in {policy}, or --cgroup degraded on the command line."
    return WallMissing(show.foreign(error.message), hint=hint or None)


@contextmanager
def starting(plugin: str, kind: type[DativoError]) -> Iterator[None]:
    """Turn a StartFailed into ``kind``, with the last words of the program; one for want of memory or processes is a limit's."""
    try:
        yield
    except LimitsTooSmall as error:
        raise LimitExceeded(
            f"{plugin} could not be started: {show.foreign(error.reason)}",
            Where(plugin=plugin),
            hint="Grant more: memory and pids below grants in the job.",
            blame=Blame.USER,
        ) from error
    except StartFailed as error:
        said = error.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
        raise kind(
            f"{plugin} could not be started: {show.foreign(error.reason)}",
            Where(plugin=plugin),
            value=show.foreign(said[-1], max_chars=MAX_VALUE_CHARS) if said else None,
        ) from error
