"""Every probe in every state that proves something."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from tests.sandbox.probes import table_files, table_kernel, table_network, table_processes
from tests.sandbox.probes.catalogue import WALLS, Probe, Residual, Setting
from tests.sandbox.probes.residual import RESIDUALS
from tests.sandbox.probes.runner import Answer, inside, outside
from tests.sandbox.probes.scene import Scene

PROBES: Final = (
    *table_files.PROBES,
    *table_processes.PROBES,
    *table_kernel.PROBES,
    *table_network.PROBES,
)
NOTHING: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Matrix:
    """What every probe got, tried from ``setting``. ``stamped``: with a filter whose refusals can be told from others.

    ``turned`` is the mutation run: for each wall, the probes that became possible when it alone was taken off, of all probes.
    """

    setting: Setting
    probes: tuple[Probe, ...]
    outside: dict[str, Answer]
    stamped: dict[str, Answer]
    off: dict[frozenset[str], dict[str, Answer]]
    turned: dict[str, tuple[str, ...]]
    residual: dict[str, Answer]

    def answer(self, probe: Probe, off: frozenset[str] = NOTHING) -> Answer:
        """Return what a probe got without the walls ``off``."""
        return self.off[off][probe.id]


def probes_at(setting: Setting) -> tuple[Probe, ...]:
    """Return those that apply there, with the walls of there."""
    return tuple(probe for each in PROBES if (probe := each.at(setting)).applies())


def residuals_at(setting: Setting) -> tuple[Residual, ...]:
    """Return what is left possible there."""
    return tuple(each for each in RESIDUALS if setting in each.settings and each.applies())


def measure(scene: Scene) -> Matrix:
    """Try everything that applies here: a launch for each set of walls to be taken off."""
    probes = probes_at(scene.setting)
    tried: defaultdict[frozenset[str], dict[str, Probe]] = defaultdict(dict)
    for probe in probes:
        walls = frozenset(probe.held_by)
        for off in (NOTHING, walls, *(walls - {wall} for wall in walls)):
            tried[off][probe.id] = probe
    mutants = [wall for wall in WALLS if any(wall in probe.held_by for probe in probes)]
    for wall in mutants:
        tried[frozenset({wall})].update({probe.id: probe for probe in probes})
    found = {off: inside(scene, some.values(), off) for off, some in tried.items()}
    return Matrix(
        scene.setting,
        probes,
        outside(scene, [probe for probe in probes if probe.outside]),
        inside(scene, probes, stamped=True),
        found,
        {wall: _turned(probes, found[frozenset({wall})]) for wall in mutants},
        inside(scene, residuals_at(scene.setting)),
    )


def _turned(probes: tuple[Probe, ...], answers: dict[str, Answer]) -> tuple[str, ...]:
    return tuple(probe.id for probe in probes if answers[probe.id].done(probe))
