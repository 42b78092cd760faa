"""Where dativo keeps things: the store, the operator's config, and its own state.

| folder | root | plain user | holds |
|---|---|---|---|
| store | /var/lib/dativo (0755) | $XDG_DATA_HOME/dativo | plugin environments, read by plugins' own users |
| config | /etc/dativo (0755) | $XDG_CONFIG_HOME/dativo (0700) | policy.yaml, approvals |
| state | /var/lib/dativo/state (0700) | $XDG_STATE_HOME/dativo (0700) | ledger, audit, caches |

All three lie outside every workspace, so that no repository can write them.
XDG Base Directory Specification 0.8.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dativo.kernel import environment
from dativo.protocol.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Paths:
    """The three folders. Absolute; nothing is created until ``ensure``."""

    store: Path
    config: Path
    state: Path
    private_config: bool = True

    @classmethod
    def from_environment(cls, env: Mapping[str, str], *, uid: int | None = None) -> Paths:
        """Return the folders for ``uid`` (default: the effective one). Raises ConfigError."""
        if home := _folder(env, environment.DATIVO_HOME):
            return cls(home / "store", home / "config", home / "state")
        if (os.geteuid() if uid is None else uid) == 0:
            return cls(
                Path("/var/lib/dativo"),
                Path("/etc/dativo"),
                Path("/var/lib/dativo/state"),
                private_config=False,
            )
        return cls(
            _base(env, environment.XDG_DATA_HOME, ".local/share"),
            _base(env, environment.XDG_CONFIG_HOME, ".config"),
            _base(env, environment.XDG_STATE_HOME, ".local/state"),
        )

    @property
    def plugins(self) -> Path:
        """Installed plugin environments: ``<package>/<version>-<digest>/``."""
        return self.store / "plugins"

    @property
    def images(self) -> Path:
        """Unpacked images: ``<id>/``."""
        return self.store / "images"

    @property
    def policy(self) -> Path:
        """The operator's policy; need not exist."""
        return self.config / "policy.yaml"

    @property
    def approvals(self) -> Path:
        """One JSON file per approval."""
        return self.config / "approvals"

    @property
    def blocked(self) -> Path:
        """One JSON file per plugin that ``dativo grants block`` keeps from running."""
        return self.config / "blocked"

    @property
    def cache(self) -> Path:
        """Caches that may be deleted at any time between runs."""
        return self.state / "cache"

    @property
    def protected(self) -> tuple[Path, ...]:
        """Folders that no grant and no warehouse may overlap."""
        return (self.store, self.config, self.state)

    def ensure(self) -> None:
        """Create the missing folders with their modes. Raises ConfigError when that is impossible."""
        for folder, mode in (
            (self.store, 0o755),
            (self.config, 0o700 if self.private_config else 0o755),
            (self.state, 0o700),
        ):
            make_folder(folder, mode)


def make_folder(folder: Path, mode: int) -> None:
    """Create ``folder`` with ``mode`` whatever the umask is; an existing one is left as it is."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            return
        folder.chmod(mode)
    except OSError as error:
        raise ConfigError(
            f"cannot create {folder}: {error.strerror}",
            hint=f"Create it, or set {environment.DATIVO_HOME} to a folder that you can write",
        ) from error


def _folder(env: Mapping[str, str], variable: environment.Variable) -> Path | None:
    value = env.get(variable.name, "")
    if not value:
        return None
    if not value.startswith("/"):
        raise ConfigError(f"{variable} must be an absolute path", value=value)
    return Path(os.path.normpath(value))


def _base(env: Mapping[str, str], variable: environment.Variable, default: str) -> Path:
    if folder := _folder(env, variable):
        return folder / "dativo"
    home = _folder(env, environment.HOME)
    if home is None:
        raise ConfigError(
            f"neither {variable} nor {environment.HOME} is set",
            hint=f"Set one of them, or {environment.DATIVO_HOME}",
        )
    return home / default / "dativo"
