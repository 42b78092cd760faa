"""The plan: everything a run will do and may do, frozen and printable before anything starts.

job + policy + lock → grants (demanded where they go beyond the default) → secrets → catalogue → selection → plan.
`dativo plan` prints it, `dativo run` carries it out, the audit record repeats it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dativo.kernel import grants as kernel_grants
from dativo.kernel import registry, secrets, verbs
from dativo.kernel.audit import Audit
from dativo.kernel.job import Job, load_job
from dativo.kernel.ledger import Ledger
from dativo.kernel.paths import Paths
from dativo.kernel.policy import Policy, load_policy
from dativo.protocol import jsontext
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


@dataclass(frozen=True, slots=True)
class Source:
    """A connector that may run: its grants were asked for, permitted and approved; its secrets are resolved."""

    plugin: registry.Installed
    grants: kernel_grants.Grants
    documents: verbs.Documents = field(repr=False)
    redactor: secrets.Redactor = field(repr=False)
    catalog_key: str

    def walled(self) -> Walled:
        """Return the grants in the sandbox's terms."""
        return verbs.walled(self.plugin, self.grants)


@dataclass(frozen=True, slots=True)
class Plan:
    """One run before it starts."""

    job: Job
    source: Source
    target: registry.Installed
    discovered: Catalog
    selected: Catalog
    walls: Walls
    asks: tuple[kernel_grants.Ask, ...]

    def document(self) -> dict[str, object]:
        """Return the plan as plain JSON values; no secret and no record is part of it."""
        job = self.job
        return {
            "pipeline": job.pipeline,
            "job": str(job.path),
            "job_digest": job.digest,
            "source": {
                "connector": self.source.plugin.reference,
                "version": self.source.plugin.version,
                "digest": self.source.plugin.digest,
                "dialect": self.source.plugin.dialect,
                "grants": self.source.grants.document(),
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
            "target": {
                "connector": self.target.reference,
                "mode": job.target.mode,
                **job.target.config,
            },
            "beyond_default": [str(ask) for ask in self.asks],
            "walls": {"cgroup": self.walls.cgroup},
        }


def prepare_source(site: Site, job: Job) -> tuple[Source, kernel_grants.Request]:
    """Find the connector, hold its request against policy and approvals, and resolve its secrets.

    Raises ConfigError, NotPermitted (exit 8) with what to type.
    """
    plugin = registry.find_source(job.source.connector, job.workspace, site.paths)
    site.policy.check_blocked(plugin.reference, plugin.version, plugin.digest)
    granted = kernel_grants.effective(job.source.grants, site.policy, job)
    wanted = kernel_grants.request(job, plugin.reference, plugin.digest, granted)
    kernel_grants.demand(wanted, site.paths)
    values = secrets.resolve(job.source.secrets, site.env, frozenset(granted.secrets))
    for ref in job.source.secrets:
        site.audit.write(
            "secret_read", pipeline=job.pipeline, plugin=plugin.reference, secret=str(ref)
        )
    as_written = secrets.inject(job.source.config, _references_as_text(job))
    source = Source(
        plugin=plugin,
        grants=granted,
        documents=verbs.Documents(secrets.inject(job.source.config, values)),
        redactor=values.redactor(),
        catalog_key=verbs.catalog_key(plugin, as_written),
    )
    return source, wanted


def _references_as_text(job: Job) -> secrets.Secrets:
    """Return each reference as its own text, so that a cache key can be made without any value."""
    return secrets.Secrets({ref: f"secret {ref}" for ref in job.source.secrets})


def asked(site: Site, source: Source, identity: Identity | None, run: str) -> verbs.Asked:
    """Return how the source is asked a verb."""
    return verbs.Asked(source.plugin, source.walled(), identity, site.walls, run)


def make_plan(
    site: Site, path: Path, *, identity: Identity | None, run: str, refresh_catalog: bool = False
) -> Plan:
    """Return the plan of the job at ``path``. Starts the connector only for a SPEC or CATALOG that is not known yet."""
    job = load_job(path, site.policy.variables(site.env))
    source, wanted = prepare_source(site, job)
    how = asked(site, source, identity, run)
    with source.redactor.errors():
        spec = verbs.spec(how, site.ledger)
        if spec is not None:
            check_config(spec, source.documents.config, job)
        discovered = verbs.discover(
            how, source.documents, site.ledger, key=source.catalog_key, fresh=refresh_catalog
        )
    return Plan(
        job=job,
        source=source,
        target=registry.find_target(job.target.connector),
        discovered=discovered,
        selected=select(discovered, job.source.streams),
        walls=site.walls,
        asks=wanted.asks,
    )


def check_config(spec: Spec, config: bytes, job: Job) -> None:
    """Hold the configuration against the connector's SPEC: missing and mistyped top-level keys, before the connector starts.

    A full JSON Schema of a plugin is hostile (patterns, references), so only what is linear is looked at; the connector's own
    ``check`` does the rest. Raises ConfigError that names the key and never its value.
    """
    schema = spec.connection_specification
    given = jsontext.loads(config.decode(), "config")
    if not isinstance(schema, dict) or not isinstance(given, dict):
        return
    where = Where(file=str(job.path), pointer="/source/config", plugin=job.source.connector)
    required = schema.get("required")
    for key in required if isinstance(required, list) else ():
        if isinstance(key, str) and key not in given:
            raise ConfigError(f"source.config lacks {key!r}, which the connector requires", where)
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return
    for key, value in given.items():
        node = properties.get(key)
        kind = node.get("type") if isinstance(node, dict) else None
        if isinstance(kind, str) and not _is(kind, value):
            raise ConfigError(f"source.config.{key} is not of type {kind}", where)


def _is(kind: str, value: jsontext.Json) -> bool:
    from decimal import Decimal

    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | Decimal) and not isinstance(value, bool)
    return isinstance(value, {"string": str, "object": dict, "array": list}.get(kind, object))


def render(plan: Plan) -> str:
    """Return the plan for people."""
    return json.dumps(plan.document(), indent=2, ensure_ascii=False)
