"""The table of probes: as it stands in docs/spec/probes.md, and as a run found it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import pytest
from tests.sandbox.probes.catalogue import CARRIERS, WALLS, Elsewhere, Probe
from tests.sandbox.probes.matrix import PROBES, Matrix
from tests.sandbox.probes.residual import ACTS, PATTERNS, RESIDUALS

FOUND: Final = pytest.StashKey[list[str]]()
PAGE: Final = Path(__file__).parents[3] / "docs/spec/probes.md"

_HEAD: Final = f"""# Probes

What hostile programs try, and which walls refuse it. Written by `python -m tests.sandbox.probes --write`, run by
`tests/sandbox/test_probes.py` as root and as a plain user: each act is refused inside; it works outside; each wall that is
named refuses it alone, with the answer that is given here; with exactly these walls off it works. For every wall there is a
probe that nothing else would refuse.

`+` after the walls: without them it is refused still, by what no run can do without ({CARRIERS}). *root*: as root also by these.

## Walls

| wall | what it is |
|---|---|
"""


def page() -> str:
    """Return the whole page."""
    lines = [f"| `{name}` | {text} |" for name, text in WALLS.items()]
    lines += ["", "## Acts", "", "| id | act | refused by |", "|---|---|---|"]
    lines += [f"| {probe.id} | {probe.title} | {_refused_by(probe)} |" for probe in PROBES]
    lines += ["", "## Possible, and left so", "", "| id | act | why |", "|---|---|---|"]
    lines += [f"| {one.id} | {one.title} | {one.why} |" for one in RESIDUALS]
    lines += ["", "## Acts that are tested otherwise", "", *_elsewhere(ACTS)]
    lines += ["", "## Patterns of published weaknesses", "", *_elsewhere(PATTERNS)]
    return _HEAD + "\n".join(lines) + "\n"


def _refused_by(probe: Probe) -> str:
    parts = [_answers(probe.walls)] if probe.walls else []
    if probe.as_root:
        parts.append(f"*root*: {_answers(probe.as_root)}")
    return "; ".join(parts) + (" +" if probe.carried else "")


def _answers(walls: Mapping[str, str]) -> str:
    return ", ".join(f"`{wall}` {answer}" for wall, answer in walls.items())


def _elsewhere(entries: Iterable[Elsewhere]) -> list[str]:
    lines = ["| id | act | tests |", "|---|---|---|"]
    for one in entries:
        tests = ", ".join(f"`{test}`" for test in one.tests)
        lines.append(f"| {one.id} | {one.title} | {tests} |")
    return lines


def found(matrix: Matrix) -> list[str]:
    """Return the table of one run, a line for each probe, then one for each wall."""
    lines = [f"{'id':<14}{'inside':<14}{'outside':<9}{'all off':<10}walls: act"]
    for probe in matrix.probes:
        off = matrix.answer(probe, frozenset(probe.held_by))
        outside = matrix.outside.get(probe.id)
        seen = (
            f"{matrix.answer(probe).said or 'WORKS':<14}"
            f"{'-' if outside is None else 'works' if outside.done(probe) else 'REFUSED':<9}"
            f"{'works' if off.done(probe) else 'carried' if probe.carried else 'REFUSED':<10}"
        )
        lines.append(f"{probe.id:<14}{seen}{' '.join(probe.held_by)}: {probe.title}")
    lines += [
        f"without {wall:<14}{len(turned)} possible: {' '.join(turned)}"
        for wall, turned in matrix.turned.items()
    ]
    return lines
