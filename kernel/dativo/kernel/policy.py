"""The operator's policy: ceilings, variables, secrets, accepted weaker walls, blocked plugins (docs/spec/policy.md).

It lies in the config folder, outside every workspace. Without the file nothing is capped, listed or blocked, and whatever goes
beyond the default still needs an approval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dativo.kernel import document, expansion, shapes
from dativo.kernel.paths import Paths
from dativo.kernel.secrets import SecretRef
from dativo.protocol.errors import ConfigError, NotPermitted, Where


@dataclass(frozen=True, slots=True)
class Block:
    """A plugin that must not run: by name, by name and version, or by digest (hex)."""

    name: str | None
    version: str | None
    digest: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy as it was read. ``ceilings`` by setting name; ``secrets`` None = no list, an approval is enough."""

    file: Path
    protected: tuple[Path, ...]
    ceilings: Mapping[str, float] = field(default_factory=dict)
    listed_variables: tuple[str, ...] = ()
    secrets: frozenset[str] | None = None
    walls: Mapping[str, str] = field(default_factory=dict)
    blocked: tuple[Block, ...] = ()

    def variables(self, env: Mapping[str, str]) -> dict[str, str | None]:
        """Return every variable that a job may use, with its value in ``env`` or None."""
        return {name: env.get(name) for name in self.listed_variables}

    def check_blocked(self, name: str, version: str, digest: str) -> None:
        """Raise NotPermitted when the plugin is blocked. ``name`` is the reference or the package's name."""
        short = name.rpartition(":")[2]
        names = (name, short, f"airbyte-{short}") if name.startswith("airbyte:") else (name, short)
        for block in self.blocked:
            if block.digest == digest or (
                block.digest is None and block.name in names and block.version in (None, version)
            ):
                raise NotPermitted(
                    f"{name} {version} is blocked" + (f": {block.reason}" if block.reason else ""),
                    Where(file=str(self.file), plugin=name),
                )


def load_policy(paths: Paths, env: Mapping[str, str]) -> Policy:
    """Read the policy, or return the empty one when there is no file.

    Raises ConfigError with file, line and column; also when the file or its folder can be written by others.
    """
    file = paths.policy
    try:
        folder = paths.config.stat()
        file.lstat()
    except FileNotFoundError:
        return Policy(file, paths.protected)
    except OSError as error:
        raise ConfigError(
            f"cannot read the policy: {error.strerror}", Where(file=str(file))
        ) from error
    document.check_owner(folder, paths.config, "the policy's folder")
    written = document.load_yaml(file, "policy", trusted=True)
    if written.value is None:
        return Policy(file, paths.protected)
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
        walls=said.get("walls", {}),
        blocked=tuple(
            Block(*(block.get(key) for key in ("name", "version", "digest", "reason")))
            for block in said.get("blocked", ())
        ),
    )
