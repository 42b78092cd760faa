"""Turn grants into walls and a program into a confined process. Knows argv, paths and limits, not records.

Standard library only, one thread, usable alone::

    with launch(program, grants, identity=None, walls=Walls(), stdin=None, stdout=None,
                control=None, run="demo") as confined:
        end = confined.wait(60)

docs/spec/sandbox.md tells the pipeline and every wall. Importing this package costs nothing; names load on first use.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers read it; typing itself is not loaded
if TYPE_CHECKING:
    from dativo.sandbox.attestation import Attestation as Attestation
    from dativo.sandbox.confined import Confined as Confined
    from dativo.sandbox.doctor import probes as probes
    from dativo.sandbox.ending import Exit as Exit
    from dativo.sandbox.ending import Usage as Usage
    from dativo.sandbox.errors import LimitsTooSmall as LimitsTooSmall
    from dativo.sandbox.errors import SandboxError as SandboxError
    from dativo.sandbox.errors import StartFailed as StartFailed
    from dativo.sandbox.errors import WallMissing as WallMissing
    from dativo.sandbox.identity import allocate_identity as allocate_identity
    from dativo.sandbox.launching import Launching as Launching
    from dativo.sandbox.network import Network as Network
    from dativo.sandbox.pipeline import begin_launch as begin_launch
    from dativo.sandbox.pipeline import launch as launch
    from dativo.sandbox.program import Container as Container
    from dativo.sandbox.program import Grants as Grants
    from dativo.sandbox.program import Identity as Identity
    from dativo.sandbox.program import Limits as Limits
    from dativo.sandbox.program import PrivateFile as PrivateFile
    from dativo.sandbox.program import Program as Program
    from dativo.sandbox.program import Walls as Walls
    from dativo.sandbox.status import WallStatus as WallStatus

__all__ = [
    "Attestation",
    "Confined",
    "Container",
    "Exit",
    "Grants",
    "Identity",
    "Launching",
    "Limits",
    "LimitsTooSmall",
    "Network",
    "PrivateFile",
    "Program",
    "SandboxError",
    "StartFailed",
    "Usage",
    "WallMissing",
    "WallStatus",
    "Walls",
    "allocate_identity",
    "begin_launch",
    "launch",
    "probes",
]

_HOMES = {
    "Attestation": "attestation",
    "Confined": "confined",
    "Container": "program",
    "Exit": "ending",
    "Grants": "program",
    "Identity": "program",
    "Launching": "launching",
    "Limits": "program",
    "LimitsTooSmall": "errors",
    "Network": "network",
    "PrivateFile": "program",
    "Program": "program",
    "SandboxError": "errors",
    "StartFailed": "errors",
    "Usage": "ending",
    "WallMissing": "errors",
    "WallStatus": "status",
    "Walls": "program",
    "allocate_identity": "identity",
    "begin_launch": "pipeline",
    "launch": "pipeline",
    "probes": "doctor",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
