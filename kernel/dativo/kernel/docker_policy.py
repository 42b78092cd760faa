"""Docker Engine as the policy names it: which images it runs.

    docker: {plugins: ["image:shop"], engine: /run/docker.sock}

An image that is listed runs in a container of the engine, under the same grants (docs/spec/docker.md); what is not listed runs in
dativo's own walls. The image must lie in the engine under the id that was installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from dativo.kernel import lock
from dativo.kernel.registry import Installed
from dativo.sandbox import Container

SOCKET: Final = Path("/run/docker.sock")
EVERY: Final = f"{lock.IMAGE}*"


@dataclass(frozen=True, slots=True)
class DockerPolicy:
    """``plugins`` are references, of which ``image:*`` is every image; ``engine`` is the engine's socket."""

    plugins: frozenset[str] = frozenset()
    engine: Path = SOCKET

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> DockerPolicy:
        """Return what the policy says."""
        return cls(frozenset(said.get("plugins", ())), Path(said.get("engine", SOCKET)))

    def placed(self, plugin: Installed) -> Installed:
        """Return ``plugin`` as it runs: an image that is listed in the engine, any other as it is."""
        if plugin.image is None or not {plugin.reference, EVERY} & self.plugins:
            return plugin
        return replace(plugin, container=Container(f"sha256:{plugin.image}", self.engine))
