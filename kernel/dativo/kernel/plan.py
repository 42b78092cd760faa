"""The plan: everything a run will do and may do, frozen and printable before anything starts.

job + policy + lock → grants (demanded where they go beyond the default) → secrets → catalogue → selection → plan.
A foreign target is prepared like a source: grants, approval and secrets of its own.
`dativo plan` prints it, `dativo run` carries it out, the audit record repeats it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from dativo.kernel import exchange, registry, secrets, variables, verbs, waivers
from dativo.kernel import grants as kernel_grants
from dativo.kernel.audit import Audit
from dativo.kernel.broker import Networks
from dativo.kernel.configuration import check_types
from dativo.kernel.contracts import REJECTS, Contract
from dativo.kernel.job import ForeignTargetJob, Job, SourceJob, load_job
from dativo.kernel.ledger import Ledger
from dativo.kernel.network import NetworkGrant
from dativo.kernel.network_policy import notices
from dativo.kernel.paths import Paths
from dativo.kernel.policy import Policy, load_policy
from dativo.protocol.airbyte import Spec
from dativo.protocol.catalog import Catalog, select
from dativo.protocol.errors import ConfigError, Where
from dativo.sandbox import Grants as Walled
from dativo.sandbox import Identity, Walls


@dataclass(frozen=True, slots=True)
class Site:
    """Where this command works: the operator's folders, environment and policy."""

    paths: Paths
    env: Mapping[str, str] = field(repr=False)
    policy: Policy
    walls: Walls
    ledger: Ledger
    audit: Audit

    @classmethod
    def open(
        cls, env: Mapping[str, str], *, cgroup: Literal["required", "degraded"] | None = None
    ) -> Site:
        """Read paths and policy and open the ledger. ``cgroup``: the operator's word on the command line."""
        paths = Paths.from_environment(env)
        paths.ensure()
        policy = load_policy(paths, env)
        degraded = cgroup == "degraded" or policy.walls.get("cgroup") == "degraded"
        return cls(
            paths,
            env,
            policy,
            Walls(cgroup="degraded" if degraded else "required"),
            Ledger(paths.state),
            Audit.below(paths.state),
        )

    def networks(
        self, clients: Mapping[str, tuple[NetworkGrant, ...]], run: str, *, observe: bool = False
    ) -> Networks:
        """Return the networks of a run's processes, by the names of their programs, under this policy."""
        return Networks(clients, self.policy.network, self.audit, observe, {"run": run})


@dataclass(frozen=True, slots=True)
class Source:
    """A connector that may run: its grants were asked for, permitted and approved; its secrets are resolved."""

    plugin: registry.Installed
    grants: kernel_grants.Grants
    documents: verbs.Documents = field(repr=False)
    redactor: secrets.Redactor = field(repr=False)
    catalog_key: str
    waivers: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def document(self) -> dict[str, object]:
        """Return what it is and what it may do as plain JSON values."""
        container = self.plugin.container
        return {
            "connector": self.plugin.reference,
            "version": self.plugin.version,
            "digest": self.plugin.digest,
            "dialect": self.plugin.dialect,
            "grants": self.grants.document(),
            **({} if container is None else {"docker": str(container.engine)}),
        }

    def walled(self) -> Walled:
        """Return the grants in the sandbox's terms."""
        return verbs.walled(self.plugin, self.grants, self.environment)


@dataclass(frozen=True, slots=True)
class Plan:
    """One run before it starts. ``foreign`` is the target, ready to run, where it is not dativo's own; ``exchange_bytes`` is the
    size of the folder that it shares with the source, 0 for none.
    """

    job: Job
    source: Source
    target: registry.Installed
    discovered: Catalog
    selected: Catalog
    walls: Walls
    asks: tuple[kernel_grants.Ask, ...]
    foreign: Source | None = None
    observe: bool = False
    exchange_bytes: int = 0

    def document(self) -> dict[str, object]:
        """Return the plan as plain JSON values; no secret and no record is part of it."""
        job = self.job
        return {
            "pipeline": job.pipeline,
            "job": str(job.path),
            "job_digest": job.digest,
            "source": {
                **self.source.document(),
                "streams": [
                    {
                        "stream": str(entry.stream),
                        "key": list(entry.key),
                        "incremental": entry.incremental,
                        "left_out": sorted(entry.deselected),
                    }
                    for entry in self.selected.streams
                ],
            },
            "target": self._target_document(),
            "beyond_default": [str(ask) for ask in self.asks],
            "notices": self._notices(),
            "walls": {"cgroup": self.walls.cgroup},
            "observe": self.observe,
        }

    def _notices(self) -> list[str]:
        """Return what is to be known of the plan before it is approved."""
        networks = [each.grants.network for each in self._connectors] + [self._committer_network]
        shared = [text for grants in networks for text in notices(grants)]
        return [*self.waivers, *shared]

    @property
    def _connectors(self) -> tuple[Source, ...]:
        return (self.source,) if self.foreign is None else (self.source, self.foreign)

    @property
    def waivers(self) -> tuple[str, ...]:
        """The operator's waivers that hold for the plugins of this run."""
        return tuple(text for each in self._connectors for text in each.waivers)

    def networks(self, site: Site, run: str) -> Networks:
        """Return the networks of the run's processes."""
        clients = {"source": self.source.grants.network}
        if self.foreign is not None:
            clients["target"] = self.foreign.grants.network
        elif self._committer_network:
            clients["committer"] = self._committer_network
        return site.networks(clients, run, observe=self.observe)

    @property
    def _committer_network(self) -> tuple[NetworkGrant, ...]:
        return self.job.own_target.network if self.foreign is None else ()

    def _target_document(self) -> dict[str, object]:
        if self.foreign is not None:
            return {**self.foreign.document(), "mode": "append"}
        target = self.job.own_target
        grants = {"network": [str(grant) for grant in target.network]}
        said = {"connector": self.target.reference, "mode": target.mode, **target.config}
        rules = {"contracts": self._contracts(), "layout": self._layouts()}
        return {**said, "grants": grants, "metadata": target.metadata, **rules}

    def _contracts(self) -> dict[str, object]:
        """Return what holds for each stream that the job has a contract for."""
        found = ((e.stream, self.job.contracts.of(e.stream)) for e in self.selected.streams)
        return {str(stream): one.document() for stream, one in found if one != Contract()}

    def _layouts(self) -> dict[str, object]:
        """Return what the job says of the table of each stream."""
        found = (
            (e.stream, self.job.layouts.of(e.stream).document()) for e in self.selected.streams
        )
        return {str(stream): one for stream, one in found if one}

    @property
    def redactor(self) -> secrets.Redactor:
        """What takes the secrets of source and target out of a text."""
        found = self.source.redactor
        return found if self.foreign is None else found.joined(self.foreign.redactor)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A connector of a job and what it asks for."""

    plugin: registry.Installed
    said: SourceJob | ForeignTargetJob
    grants: kernel_grants.Grants
    request: kernel_grants.Request
    waivers: tuple[str, ...]


def _waivers(policy: Policy) -> tuple[str, ...]:
    today = waivers.today()
    return tuple(str(each) for each in policy.waivers if each.holds(today))


def _source_of(site: Site, job: Job) -> _Candidate:
    plugin = site.policy.admit(
        registry.find_source(job.source.connector, job.workspace, site.paths)
    )
    policy = site.policy.for_plugin(plugin.reference, plugin.version, plugin.digest)
    granted = kernel_grants.effective(job.source.grants, policy, job)
    wanted = kernel_grants.request(job, plugin.reference, plugin.digest, granted)
    return _Candidate(plugin, job.source, granted, wanted, _waivers(policy))


def _target_of(site: Site, job: Job) -> _Candidate | None:
    said = job.target
    if not isinstance(said, ForeignTargetJob):
        return None
    plugin = site.policy.admit(registry.find_target(said.connector, job.workspace, site.paths))
    policy = site.policy.for_plugin(plugin.reference, plugin.version, plugin.digest)
    granted = kernel_grants.effective(said.grants, policy, job)
    wanted = kernel_grants.request_target(job, plugin.reference, plugin.digest, granted)
    return _Candidate(plugin, said, granted, wanted, _waivers(policy))


def _committer_of(site: Site, job: Job) -> kernel_grants.Request | None:
    """Return what the committer of one of dativo's own targets asks for; None for nothing. Its limits are dativo's own."""
    said = job.target
    if isinstance(said, ForeignTargetJob) or not said.network:
        return None
    plugin = registry.find_target(said.connector)
    site.policy.network.permit(said.network, site.policy.file)
    granted = replace(kernel_grants.Grants.default(), network=said.network)
    return kernel_grants.request_target(job, plugin.reference, plugin.digest, granted)


def requests(site: Site, job: Job) -> tuple[kernel_grants.Request, ...]:
    """Return what a job asks for, one request for each connector of it. Raises ConfigError, NotPermitted above a ceiling."""
    found = (_source_of(site, job), _target_of(site, job))
    asked = [candidate.request for candidate in found if candidate is not None]
    committer = _committer_of(site, job)
    return (*asked, *([committer] if committer is not None else ()))


def prepare_source(site: Site, job: Job) -> Source:
    """Find the job's source, hold its request against policy and approvals, and resolve its secrets.

    Raises ConfigError, NotPermitted (exit 8) with what to type.
    """
    found = _source_of(site, job)
    kernel_grants.demand([found.request], site.paths)
    return _ready(site, job, found)


def _ready(site: Site, job: Job, found: _Candidate) -> Source:
    """Resolve the secrets and variables of a connector whose request is approved."""
    references = found.said.secrets
    values = secrets.resolve(references, site.env, frozenset(found.grants.secrets))
    for ref in references:
        site.audit.write(
            "secret_read", pipeline=job.pipeline, plugin=found.plugin.reference, secret=str(ref)
        )
    given = variables.resolve(found.grants.environment, site.env)
    for name, _ in given:
        site.audit.write(
            "variable_read", pipeline=job.pipeline, plugin=found.plugin.reference, variable=name
        )
    # Each reference as its own text, so that a cache key can be made without any value.
    named = secrets.Secrets({ref: f"secret {ref}" for ref in references})
    return Source(
        plugin=found.plugin,
        grants=found.grants,
        documents=verbs.Documents(secrets.inject(found.said.config, values)),
        redactor=secrets.Redactor((*values.values.values(), *dict(given).values())),
        catalog_key=verbs.catalog_key(
            found.plugin, secrets.inject(found.said.config, named), found.grants.environment
        ),
        waivers=found.waivers,
        environment=given,
    )


def asked(
    site: Site,
    source: Source,
    identity: Identity | None,
    run: str,
    written_in: str = "source.grants.network of the job",
) -> verbs.Asked:
    """Return how a connector is asked a verb; ``written_in`` says where its grants are written."""
    outside = verbs.Outside(
        source.grants.network, site.policy.network, site.audit, site.env, written_in
    )
    return verbs.Asked(source.plugin, source.walled(), identity, site.walls, run, outside)


def make_plan(
    site: Site,
    path: Path,
    *,
    identity: Identity | None,
    run: str,
    refresh_catalog: bool = False,
    observe: bool = False,
) -> Plan:
    """Return the plan of the job at ``path``. Starts connectors only for a SPEC or CATALOG that is not known yet."""
    job = load_job(path, site.policy.variables(site.env))
    reading, writing = _source_of(site, job), _target_of(site, job)
    committing = _committer_of(site, job)
    wanted = [reading.request] + ([writing.request] if writing is not None else [])
    wanted += [committing] if committing is not None else []
    exchanged = exchange.agreed(
        job,
        reading.grants,
        writing.grants if writing is not None else None,
        (reading.plugin.dialect, (writing or reading).plugin.dialect),
    )
    kernel_grants.demand(wanted, site.paths)
    source = _ready(site, job, reading)
    foreign = _ready(site, job, writing) if writing is not None else None
    how = asked(site, source, identity, run)
    with source.redactor.errors():
        _check_config(verbs.spec(how.offline(), site.ledger), source, job, "source")
        discovered = verbs.discover(
            how, source.documents, site.ledger, key=source.catalog_key, fresh=refresh_catalog
        )
    selected = select(discovered, job.source.streams)
    if foreign is not None:
        _check_target(site, foreign, job, identity, run)
    else:
        _check_streams(job, discovered, selected)
    return Plan(
        job=job,
        source=source,
        target=registry.find_target(job.target.connector) if foreign is None else foreign.plugin,
        discovered=discovered,
        selected=selected,
        walls=site.walls,
        asks=tuple(ask for request in wanted for ask in request.asks),
        foreign=foreign,
        observe=observe,
        exchange_bytes=exchanged,
    )


def _check_streams(job: Job, discovered: Catalog, selected: Catalog) -> None:
    """Hold contracts, layouts and names of streams against each other. Raises ConfigError."""
    streams = [entry.stream for entry in discovered.streams]
    job.contracts.check(streams, Where(file=str(job.path), pointer="/contracts"))
    job.layouts.check(streams, Where(file=str(job.path), pointer="/layout"))
    for entry in selected.streams:
        where = Where(file=str(job.path), pointer="/layout", stream=str(entry.stream))
        job.layouts.check_properties(entry, where)
    if any(entry.stream == REJECTS for entry in selected.streams):
        raise ConfigError(
            f"the name of the stream {REJECTS} is reserved for rejects",
            Where(file=str(job.path), pointer="/source/streams", stream=str(REJECTS)),
            hint=f'Leave it out: streams: ["!{REJECTS}"]',
        )


def _check_target(
    site: Site, target: Source, job: Job, identity: Identity | None, run: str
) -> None:
    # Its SPEC is asked without its grants: what it may write need not be there yet.
    walled = replace(verbs.default_grants(target.plugin), execute=target.grants.execute)
    how = verbs.Asked(target.plugin, walled, identity, site.walls, run)
    with target.redactor.errors():
        _check_config(verbs.spec(how, site.ledger), target, job, "target")


def _check_config(
    spec: Spec | None, connector: Source, job: Job, part: Literal["source", "target"]
) -> None:
    """Hold a configuration against the connector's SPEC, before the connector starts. Raises ConfigError."""
    if spec is not None:
        where = Where(
            file=str(job.path), pointer=f"/{part}/config", plugin=connector.plugin.reference
        )
        check_types(spec, connector.documents.config, where, f"{part}.config")


def render(plan: Plan) -> str:
    """Return the plan for people."""
    return json.dumps(plan.document(), indent=2, ensure_ascii=False)
