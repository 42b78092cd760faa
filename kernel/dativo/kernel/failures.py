"""How a command line of dativo's ends: what is told of a failure on stderr, and the exit status (docs/spec/exit-codes.md)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import NoReturn

from dativo.kernel import show
from dativo.protocol.errors import DativoError, ExitStatus


class Terminated(BaseException):
    """SIGTERM outside a run: everything is left on the way out, as with SIGINT. A run ends at its last state instead."""


def _terminate(_: int, __: object) -> NoReturn:
    raise Terminated


def run(
    command: Callable[[], int], on_failure: Callable[[DativoError], None], *, prefix: str = ""
) -> int:
    """Run ``command`` and return the exit status; a failure goes to ``on_failure``, then to stderr behind ``prefix``."""
    show.open_standard_streams()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = command()
        show.flush()
        return status
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except Terminated:
        return ExitStatus.TERMINATED
    except DativoError as error:
        failure = error
    except Exception as error:
        from dativo.sandbox import SandboxError

        if not isinstance(error, SandboxError):
            raise
        from dativo.kernel import walls
        from dativo.kernel.paths import Paths

        failure = walls.missing(error, Paths.from_environment(os.environ).policy)
    on_failure(failure)
    complain(failure, prefix=prefix)
    return int(failure.status)


def complain(error: DativoError, *, prefix: str = "") -> None:
    """Tell people of ``error``: what, where, what was seen, and who can mend it how; a hint may have several lines."""
    show.note(prefix + show.foreign(error.message))
    if place := str(error.where):
        show.note(f"  where: {show.foreign(place)}")
    if error.value is not None:
        show.note(f"  seen:  {show.foreign(error.value)}")
    first, *more = (error.hint or "").splitlines() or [""]
    show.note(f"  mend:  {error.blame}" + (f": {show.foreign(first)}" if first else ""))
    for line in more:
        show.note(f"         {show.foreign(line)}")
