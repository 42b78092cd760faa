"""The operator's policy: ceilings, variables, secrets, networks, accepted weaker walls, blocked plugins (docs/spec/policy.md).

It lies in the config folder, outside every workspace. Without the file nothing is capped, listed or blocked, and whatever goes
beyond the default still needs an approval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dativo.kernel import blocks, document, expansion, shapes, waivers
from dativo.kernel.blocks import Block
from dativo.kernel.docker_policy import DockerPolicy
from dativo.kernel.document import Document
from dativo.kernel.network_policy import NetworkPolicy
from dativo.kernel.paths import Paths
from dativo.kernel.registry import Installed
from dativo.kernel.secrets import SecretRef
from dativo.kernel.waivers import Waiver
from dativo.protocol.errors import ConfigError, NotPermitted, Where


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy as it was read.

    ``ceilings`` by setting name; ``secrets`` None = no list, an approval is enough; ``environment`` are the only variables that
    processes may be given, ``execute`` the only programs beside their own that they may execute, None for any that is approved.
    """

    file: Path
    protected: tuple[Path, ...]
    ceilings: Mapping[str, float] = field(default_factory=dict)
    listed_variables: tuple[str, ...] = ()
    secrets: frozenset[str] | None = None
    environment: frozenset[str] = frozenset()
    execute: tuple[Path, ...] | None = None
    walls: Mapping[str, str] = field(default_factory=dict)
    blocked: tuple[Block, ...] = ()
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    waivers: tuple[Waiver, ...] = ()
    docker: DockerPolicy = field(default_factory=DockerPolicy)

    def admit(self, plugin: Installed) -> Installed:
        """Return ``plugin`` as it runs here, in dativo's own walls or in Docker Engine. Raises NotPermitted when blocked."""
        self.check_blocked(plugin.reference, plugin.version, plugin.digest)
        return self.docker.placed(plugin)

    def for_plugin(self, name: str, version: str, digest: str) -> Policy:
        """Return the policy as it holds for one plugin today: with the ceilings that its waivers raise.

        ``name`` is its reference; ``waivers`` of the answer are those of this plugin, expired ones too.
        """
        own = tuple(each for each in self.waivers if each.plugin.fits(name, version, digest))
        if not own:
            return replace(self, waivers=())
        today = waivers.today()
        holding = tuple(each for each in own if each.holds(today))
        return replace(self, ceilings=waivers.raised(self.ceilings, holding), waivers=own)

    def variables(self, env: Mapping[str, str]) -> dict[str, str | None]:
        """Return every variable that a job may use, with its value in ``env`` or None."""
        return {name: env.get(name) for name in self.listed_variables}

    def check_blocked(self, name: str, version: str, digest: str) -> None:
        """Raise NotPermitted when the plugin is blocked. ``name`` is its reference."""
        for block in self.blocked:
            if block.fits(name, version, digest):
                lift = f"dativo grants unblock {block}" if block.kept else "take it out there"
                raise NotPermitted(
                    f"{name} {version} is blocked" + (f": {block.reason}" if block.reason else ""),
                    Where(file=str(block.kept or self.file), plugin=name),
                    hint=f"Only the operator can lift it: {lift}",
                )


def load_policy(paths: Paths, env: Mapping[str, str]) -> Policy:
    """Read the policy, or return the empty one when there is no file.

    What ``dativo grants block`` keeps belongs to it. Raises ConfigError with file, line and column; also when others can write
    it.
    """
    file = paths.policy
    blocked = blocks.kept(paths)
    try:
        folder = paths.config.stat()
        file.lstat()
    except FileNotFoundError:
        return Policy(file, paths.protected, blocked=blocked)
    except OSError as error:
        raise ConfigError(
            f"cannot read the policy: {error.strerror}", Where(file=str(file))
        ) from error
    document.check_owner(folder, paths.config, "the policy's folder")
    written = document.load_yaml(file, "policy", trusted=True)
    if written.value is None:
        return Policy(file, paths.protected, blocked=blocked)
    expanded = expansion.expand(written, dict(env))
    said = shapes.read(shapes.POLICY, expanded, "policy")
    secrets = None
    if "secrets" in said:
        secrets = frozenset(
            str(SecretRef.parse(text, expanded.where(("secrets", index))))
            for index, text in enumerate(said["secrets"])
        )
    return Policy(
        file=file,
        protected=paths.protected,
        ceilings=said.get("ceilings", {}),
        listed_variables=said.get("variables", ()),
        secrets=secrets,
        environment=frozenset(said.get("environment", ())),
        execute=None if "exec" not in said else tuple(map(Path, said["exec"])),
        walls=said.get("walls", {}),
        blocked=(
            *(
                Block(*(block.get(key) for key in ("name", "version", "digest", "reason")))
                for block in said.get("blocked", ())
            ),
            *blocked,
        ),
        waivers=tuple(
            Waiver(*(entry[key] for key in ("plugin", "ceilings", "reason", "until")))
            for entry in said.get("waivers", ())
        ),
        network=NetworkPolicy.of(_network(said.get("network", {}), expanded)),
        docker=DockerPolicy.of(said.get("docker", {})),
    )


def _network(said: Mapping[str, Any], expanded: Document) -> Mapping[str, Any]:
    """Return ``network`` of the policy with its reference parsed."""
    if "proxy_credentials" not in said:
        return said
    where = expanded.where(("network", "proxy_credentials"))
    return {**said, "proxy_credentials": SecretRef.parse(said["proxy_credentials"], where)}
