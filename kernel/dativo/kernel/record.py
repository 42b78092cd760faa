"""A run on the record: begun in audit and ledger, and ended there with its report, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dativo.kernel import walls
from dativo.kernel.plan import Site
from dativo.kernel.report import Course, Report
from dativo.kernel.secrets import Redactor
from dativo.kernel.standing import standing
from dativo.protocol.errors import DativoError, InternalError
from dativo.sandbox import SandboxError


class RunFailed(Exception):
    """A run that failed: why, and the report of what it did before."""

    def __init__(self, error: DativoError, told: Report) -> None:
        super().__init__(str(error))
        self.error = error
        self.report = told


def on_record(
    site: Site,
    course: Course,
    plan: dict[str, object],
    carry_out: Callable[[], None],
    *,
    redactor: Redactor | None = None,
    kind: str = "run",
    workspace: Path | None = None,
) -> Report:
    """Carry a run out. Returns the report of one that is done; raises RunFailed, which holds the report of any other.

    ``workspace``: where it belongs in the ledger; None keeps it out of there. ``kind`` names it in the audit.
    """
    if workspace is not None:
        site.ledger.begin(course.run, workspace, course.pipeline)
    site.audit.write(f"{kind}_started", run=course.run, plan=plan)
    error: DativoError | None = InternalError(f"the {kind} was left by an unexpected exception")
    try:
        error = attempt(site, carry_out, redactor)
    finally:
        told = course.report(error)
        if workspace is not None:
            site.ledger.end(course.run, told.status, told.summary(), told.to_json())
        site.audit.write(
            f"{kind}_ended",
            run=course.run,
            status=told.status,
            epoch=told.epoch,
            error=told.error,
            processes=standing(course.processes, course.network),
        )
    if error is not None:
        raise RunFailed(error, told) from error
    return told


def attempt(
    site: Site, carry_out: Callable[[], None], redactor: Redactor | None
) -> DativoError | None:
    """Do it; return how it failed, in the kernel's terms and without secrets, or None."""
    try:
        if redactor is None:
            carry_out()
        else:
            with redactor.errors():
                carry_out()
    except DativoError as failure:
        return failure
    except SandboxError as failure:
        return walls.missing(failure, site.paths.policy)
    return None
