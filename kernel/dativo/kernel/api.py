"""Everything the command line does, as typed imports.

    site = Site.open(os.environ)
    with site.ledger:
        report = run_job(site, Path("job.yaml"))

Functions return values and raise the errors of ``dativo.protocol.errors`` and ``dativo.sandbox``; none prints or exits. ``read``,
``write`` and ``jail`` are for pipes: they take over this process's own stdin and stdout.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dativo.kernel import grants, install, lock, registry, report, verbs, warehouse
from dativo.kernel.audit import Audit
from dativo.kernel.committer import look_into
from dativo.kernel.conversation import Observer
from dativo.kernel.flags import GrantFlags
from dativo.kernel.job import ForeignTargetJob, Job, load_job
from dativo.kernel.ledger import RunRow
from dativo.kernel.network_policy import notices
from dativo.kernel.pipes import (
    check_plugin,
    discover_plugin,
    jail,
    plan_read,
    planned_write,
    read,
    spec,
    write,
)
from dativo.kernel.plan import Plan, Site, asked, make_plan, prepare_source, requests
from dativo.kernel.processes import Processes, own_identity
from dativo.kernel.record import RunFailed
from dativo.kernel.run import new_run_id, own_target, run
from dativo.protocol import airbyte, events, jsontext
from dativo.protocol.catalog import Catalog
from dativo.protocol.errors import ConfigError, Where
from dativo.protocol.state import StateEntry
from dativo.sandbox import probes

if TYPE_CHECKING:
    from dativo.kernel.blocks import Block
    from dativo.kernel.running import Running

__all__ = [
    "Audit",
    "Committed",
    "GrantFlags",
    "Observer",
    "Plan",
    "RunFailed",
    "RunRow",
    "Site",
    "add",
    "approvals",
    "approve",
    "block",
    "check",
    "check_plugin",
    "committed",
    "discover",
    "discover_plugin",
    "doctor",
    "init",
    "jail",
    "plan_job",
    "plan_read",
    "planned_write",
    "plugins",
    "read",
    "requested",
    "run_job",
    "run_plan",
    "run_report",
    "runs",
    "spec",
    "stop",
    "unblock",
    "verify",
    "write",
]

# --- runs ------------------------------------------------------------------------------------------------------------------


def plan_job(
    site: Site, path: Path, *, refresh_catalog: bool = False, observe: bool = False
) -> Plan:
    """Return what a run of the job would do and may do. Starts its source only for a SPEC or CATALOG that is not known yet."""
    with own_identity() as identity:
        return make_plan(
            site,
            path,
            identity=identity,
            run=new_run_id(),
            refresh_catalog=refresh_catalog,
            observe=observe,
        )


def run_plan(site: Site, plan: Plan, observer: Observer | None = None) -> report.Report:
    """Carry out a plan; blocks until the run ends. Raises RunFailed, which holds the report of a failed run."""
    return run(plan, site, new_run_id(), observer or Observer())


def run_job(site: Site, path: Path, *, observer: Observer | None = None) -> report.Report:
    """Plan and run the job at ``path``; blocks until it ends. Raises RunFailed, which holds the report of a failed run."""
    return run_plan(site, plan_job(site, path), observer)


def runs(site: Site, *, limit: int = 20) -> list[RunRow]:
    """Return the newest runs first, those under way among them."""
    return site.ledger.runs(limit=limit)


def run_report(site: Site, run: str) -> str:
    """Return the report of the run whose id begins with ``run``, as JSON. Raises ConfigError where no ended one does."""
    row = site.ledger.run(run)
    if row is None or row.report is None:
        raise ConfigError(f"no ended run begins with {run!r}", hint="See: dativo runs list")
    return row.report


def _load(site: Site, path: Path) -> Job:
    return load_job(path, site.policy.variables(site.env))


# --- verbs -----------------------------------------------------------------------------------------------------------------


def check(site: Site, path: Path) -> tuple[airbyte.ConnectionStatus, Callable[[str], str]]:
    """Ask the job's source whether its configuration works; returns the answer and what redacts its texts."""
    source = prepare_source(site, _load(site, path))
    with own_identity() as identity, source.redactor.errors():
        status = verbs.check(asked(site, source, identity, new_run_id()), source.documents)
    return status, source.redactor.redact


def discover(site: Site, path: Path) -> Catalog:
    """Return the catalogue of the job's source, asked anew."""
    source = prepare_source(site, _load(site, path))
    with own_identity() as identity, source.redactor.errors():
        how = asked(site, source, identity, new_run_id())
        return verbs.discover(
            how, source.documents, site.ledger, key=source.catalog_key, fresh=True
        )


# --- plugins ---------------------------------------------------------------------------------------------------------------


def add(
    site: Site,
    reference: str,
    workspace: Path,
    *,
    locked: bool = False,
    python: str | None = None,
    name: str | None = None,
) -> registry.Installed:
    """Install a connector, ask it for its SPEC once without network or grants, and write it to dativo.lock.

    With ``locked`` the lock is followed instead of written. ``python`` is for packages, ``name`` for images. Raises
    PluginFailed when the connector does not answer.
    """
    if reference.startswith(lock.IMAGE):
        if python is not None:
            raise ConfigError("an image brings its own Python", value=python)
        from dativo.kernel import image_install

        added = image_install.add(
            reference,
            site.paths,
            workspace,
            name=name,
            locked=locked,
            walls=site.walls,
            engine=site.policy.docker.engine,
        )
    elif name is not None:
        raise ConfigError("only an image is given a name", value=name)
    else:
        added = install.add(
            reference, site.paths, workspace, locked=locked, python=python, walls=site.walls
        )
    added = site.policy.admit(added)
    with own_identity() as identity:
        how = verbs.Asked(added, verbs.default_grants(added), identity, site.walls, new_run_id())
        verbs.trial(how, site.ledger)
    site.audit.write(
        "plugin_added", plugin=added.reference, version=added.version, digest=added.digest
    )
    return added


def plugins(site: Site, workspace: Path) -> list[dict[str, str]]:
    """Return the locked connectors of a workspace and whether each is installed here."""
    return registry.listing(workspace, site.paths)


def verify(site: Site, reference: str, workspace: Path) -> registry.Installed:
    """Hash every file of a connector's environment again. Raises TreeMismatch that names the first changed one."""
    return registry.find_source(reference, workspace, site.paths, verify=True)


# --- grants ----------------------------------------------------------------------------------------------------------------


def requested(site: Site, path: Path) -> list[str]:
    """Return what a job asks for beyond the default, one line each, and whether it is approved; by plugin where two ask."""
    wanted = [request for request in requests(site, _load(site, path)) if request.asks]
    if not wanted:
        return ["nothing beyond the default"]
    lines = []
    for request in wanted:
        state = "approved" if grants.is_approved(request, site.paths) else "not approved"
        lines += [f"{request.plugin}:"] if len(wanted) > 1 else []
        lines += [*(str(ask) for ask in request.asks), *notices(request.grants.network)]
        lines.append(f"{state} ({request.key[:12]})")
    return lines


def approve(site: Site, path: Path) -> tuple[list[str], str]:
    """Approve what a job asks for, source and foreign target; returns the asks and the approvals' keys."""
    asks, keys = [], []
    for wanted in requests(site, _load(site, path)):
        if not wanted.asks:
            continue
        grants.approve(wanted, site.paths)
        site.audit.write(
            "grants_approved",
            key=wanted.key,
            plugin=wanted.plugin,
            artefact=wanted.artefact,
            job=str(wanted.job_path),
            asks=[str(ask) for ask in wanted.asks],
        )
        asks += [f"{wanted.plugin}: {ask}" for ask in wanted.asks]
        keys.append(wanted.key)
    return asks, " ".join(keys)


def approvals(site: Site) -> list[str]:
    """Return every approval and every blocked plugin, one line each."""
    approved = [
        f"{entry.key[:12]}  {entry.approved_at}  {entry.pipeline}  {entry.plugin}  {'; '.join(entry.asks)}"
        for entry in grants.listing(site.paths)
    ]
    return [
        *approved,
        *(f"blocked {each}  {each.reason or ''}".rstrip() for each in site.policy.blocked),
    ]


# --- the operator's levers -------------------------------------------------------------------------------------------------
#
# They need no site, and so no policy or ledger that can be read.


def block(plugin: str, reason: str | None, env: Mapping[str, str]) -> Block:
    """Let a plugin (name, name==version, digest) run no more; its runs that are under way end within a second or two."""
    from dativo.kernel import levers

    return levers.block(plugin, reason, env)


def unblock(plugin: str, env: Mapping[str, str]) -> Block:
    """Take back what ``block`` said. Raises ConfigError when it was not said."""
    from dativo.kernel import levers

    return levers.unblock(plugin, env)


def stop(
    run: str | None, plugin: str | None, env: Mapping[str, str], *, grace_s: float
) -> Iterator[tuple[Running, bool]]:
    """End the runs that are meant (all, where neither is given); yields each and whether it had to be killed.

    Blocks up to ``grace_s`` and some seconds. Raises ConfigError when none or several are meant by ``run``, and at the end when
    some could not be ended.
    """
    from dativo.kernel import levers

    return levers.stop(run, plugin, env, grace_s=grace_s)


# --- state -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Committed:
    """What a target holds of a pipeline: last epoch, states as the source wrote them, tables and their live files.

    Of a foreign target only the states are known, those that it has acknowledged: ``epoch`` is None.
    """

    pipeline: str
    epoch: int | None
    states: tuple[StateEntry, ...]
    tables: tuple[events.Table, ...]

    def document(self) -> dict[str, Any]:
        """Return epoch and states as plain JSON values; each state is the source's own text."""
        return {
            "pipeline": self.pipeline,
            "epoch": self.epoch,
            "states": [
                {"kind": entry.kind, "stream": entry.to_event()["stream"], "state": entry.text}
                for entry in self.states
            ],
        }


def committed(site: Site, path: Path) -> Committed:
    """Read from the target what the job's pipeline has committed. Disturbs no run: nothing is fenced or written.

    Raises TargetFailed when the committer does not start, does not answer or ends early.
    """
    job = _load(site, path)
    said = job.target
    if isinstance(said, ForeignTargetJob):
        saved = site.ledger.saved_states(job.workspace, job.pipeline, said.connector)
        return Committed(job.pipeline, None, saved, ())
    if not said.warehouse.is_dir():
        return Committed(job.pipeline, 0, (), ())
    owner, _ = warehouse.prepare(said.warehouse)
    target = own_target(registry.find_target(said.connector), job)
    with contextlib.ExitStack() as stack:
        processes = Processes(stack, site.walls, new_run_id(), site.env)
        found = look_into(processes, target, owner, file=job.path)
    return Committed(job.pipeline, found.opened.epoch, found.opened.states, found.tables)


# --- machine and workspace -------------------------------------------------------------------------------------------------


def doctor() -> list[dict[str, str]]:
    """Build each wall and try it; returns name, state, meaning and remedy of each."""
    return [
        {
            "name": wall.name,
            "state": wall.state,
            "meaning": wall.meaning,
            "remedy": wall.remedy or "",
        }
        for wall in probes()
    ]


_JOB = """\
# yaml-language-server: $schema={schema}
pipeline: {pipeline}
source:
  connector: {reference}
  config: {config}
target:
  connector: iceberg
  config: {{warehouse: ./lake, namespace: {pipeline}}}
"""


def init(folder: Path, reference: str) -> Path:
    """Write a first ``job.yaml`` for a connector into ``folder``. Raises ConfigError where one is."""
    path = folder / "job.yaml"
    if path.exists():
        raise ConfigError("there is a job already", Where(file=str(path)))
    from importlib import resources

    # always_updated is true where it is not said: the faker then makes every row anew in each run.
    faker = reference == "airbyte:source-faker"
    config = {"count": 1000, "always_updated": False} if faker else {}
    text = _JOB.format(
        schema=resources.files("dativo.schemas").joinpath("job.json"),
        pipeline="first",
        reference=reference,
        config=jsontext.dumps(config),  # type: ignore[arg-type]  # a dict of plain values is Json
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise ConfigError(f"cannot write a job: {error.strerror}", Where(file=str(path))) from error
    return path
