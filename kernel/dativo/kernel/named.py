"""A plugin that a command line names, with its configuration in a file: what its verbs and its run start from.

No job and no approval: flags are the operator's own grants. Blocks, ceilings and the list of secrets hold all the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dativo.kernel import plan, secrets, verbs
from dativo.kernel.configuration import Configuration, check_types
from dativo.kernel.grants import Grants
from dativo.kernel.plan import Site, Source
from dativo.kernel.registry import Installed
from dativo.protocol import airbyte
from dativo.protocol.catalog import Catalog
from dativo.protocol.errors import ConfigError, ProtocolViolation
from dativo.sandbox import Identity


def prepare(
    site: Site,
    plugin: Installed,
    config: Configuration,
    granted: Grants,
    *,
    identity: Identity | None,
    run: str,
) -> Source:
    """Return the plugin ready to be started: not blocked, its secrets resolved, its configuration held against its SPEC.

    Starts an Airbyte connector for a SPEC that is not known yet. Raises ConfigError, NotPermitted.
    """
    plugin = site.policy.admit(plugin)
    values = secrets.resolve(config.references, site.env, frozenset(granted.secrets))
    for reference in config.references:
        site.audit.write("secret_read", plugin=plugin.reference, secret=str(reference))
    source = Source(
        plugin=plugin,
        grants=granted,
        documents=verbs.Documents(config.filled(values)),
        redactor=values.redactor(),
        catalog_key=verbs.catalog_key(plugin, config.identity),
    )
    with source.redactor.errors():
        spec = verbs.spec(asked(site, source, identity, run).offline(), site.ledger)
    if spec is None:
        return source
    plain = tuple(config.plain_secrets(spec))
    source = replace(source, redactor=secrets.Redactor((*values.values.values(), *plain)))
    check_types(spec, source.documents.config, config.where(), "config")
    return source


def asked(site: Site, source: Source, identity: Identity | None, run: str) -> verbs.Asked:
    """Return how the plugin is asked a verb."""
    return plan.asked(site, source, identity, run, "--net")


def spec(
    site: Site, plugin: Installed, granted: Grants, *, identity: Identity | None, run: str
) -> str:
    """Return what the plugin says of itself, asked anew: its SPEC, or its ``--about``. Needs no configuration."""
    plugin = site.policy.admit(plugin)
    outside = verbs.Outside(granted.network, site.policy.network, site.audit, site.env)
    how = verbs.Asked(plugin, verbs.walled(plugin, granted), identity, site.walls, run, outside)
    found = verbs.spec(how, site.ledger, fresh=True)
    return verbs.about(how) if found is None else found.text


def check(
    site: Site, source: Source, *, identity: Identity | None, run: str
) -> airbyte.ConnectionStatus:
    """Ask whether the configuration works; the message is redacted."""
    with source.redactor.errors():
        status = verbs.check(asked(site, source, identity, run), source.documents)
    return replace(status, message=source.redactor.redact(status.message))


def discover(
    site: Site, source: Source, *, identity: Identity | None, run: str, fresh: bool
) -> Catalog:
    """Return the source's catalogue: asked anew, or the known one of this plugin with this file as it stands."""
    with source.redactor.errors(), plugins_word(source):
        return verbs.discover(
            asked(site, source, identity, run),
            source.documents,
            site.ledger,
            key=source.catalog_key,
            fresh=fresh,
        )


@contextlib.contextmanager
def plugins_word(source: Source) -> Iterator[None]:
    """Name the plugin in whatever is found in what it said."""
    try:
        yield
    except ProtocolViolation as error:
        error.where = replace(error.where, plugin=source.plugin.reference)
        raise


@contextlib.contextmanager
def users_file(file: Path) -> Iterator[None]:
    """Blame ``file`` for what is found in it: a document that a user wrote breaks no protocol."""
    try:
        yield
    except (ProtocolViolation, ConfigError) as error:
        if error.where.plugin is not None or error.where.file is not None:
            raise
        raise ConfigError(
            error.message,
            replace(error.where, file=str(file)),
            value=error.value,
            hint=error.hint,
        ) from error
