"""The table of probes: as it stands in docs/spec/probes.md, and as a run found it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from tests.sandbox.probes.catalogue import (
    CARRIERS,
    IS_ROOT,
    SETTINGS,
    WALLS,
    Elsewhere,
    Probe,
    Residual,
    Setting,
)
from tests.sandbox.probes.matrix import PROBES, Matrix
from tests.sandbox.probes.residual import ACTS, PATTERNS, RESIDUALS

FOUND: Final = pytest.StashKey[list[Matrix]]()
PAGE: Final = Path(__file__).parents[3] / "docs/spec/probes.md"
COLUMNS: Final = ("root", "plain", "image", "Docker")
_COLUMN_OF: Final[dict[Setting, str]] = {
    "host": "root" if IS_ROOT else "plain",
    "image": "image",
    "docker": "Docker",
}

_HEAD: Final = f"""# Probes

What hostile programs try, and which walls refuse it. Written by `python -m tests.sandbox.probes --write`, run by
`tests/sandbox/test_probes.py`: as *root* and as a *plain* user, in the root of an unpacked *image* ([images.md](images.md)), and
in a container of *Docker* Engine ([docker.md](docker.md)). In each place each act is refused inside; it works outside; each wall
that is named refuses it alone, with the answer that is given here; with exactly these walls off it works. For every wall there
is a probe that nothing else would refuse. The tests print what they found, as `python -m tests.sandbox.probes` does.

`=` is the same as for root, `–` an act that takes what a plain user has not, `works` one that is
[left possible](#possible-and-left-so). `+` after the walls: without them it is refused still, by what no run can do without
({CARRIERS}). `*` after a wall: in Docker it cannot be taken off, so the
act stays refused. An image's root is tried as root and as a plain user; its column is root's.

## Walls

| wall | what it is |
|---|---|
"""


def page() -> str:
    """Return the whole page."""
    lines = [f"| `{name}` | {text} |" for name, text in WALLS.items()]
    lines += [
        "",
        "## Acts",
        "",
        "| id | act | root | plain | image | Docker |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(probe) for probe in PROBES]
    lines += ["", "## Possible, and left so", "", "| id | act | where | why |", "|---|---|---|---|"]
    lines += [f"| {one.id} | {one.title} | {_where(one)} | {one.why} |" for one in RESIDUALS]
    lines += ["", "## Acts that are tested otherwise", "", *_elsewhere(ACTS)]
    lines += ["", "## Patterns of published weaknesses", "", *_elsewhere(PATTERNS)]
    return _HEAD + "\n".join(lines) + "\n"


def _row(probe: Probe) -> str:
    root = _refused_by(probe)
    plain = _refused_by(replace(probe, as_root={})) if probe.needs is None else "–"
    others = (plain, _refused_by(probe.at("image")), _refused_by(probe.at("docker")))
    cells = [root, *("=" if cell == root else cell for cell in others)]
    return f"| {probe.id} | {probe.title} | {' | '.join(cells)} |"


def _refused_by(probe: Probe) -> str:
    parts = [f"`{wall}` {answer}" for wall, answer in {**probe.walls, **probe.as_root}.items()]
    parts += [f"`{wall}`* {answer}" for wall, answer in probe.stays.items()]
    carried = probe.carried and not probe.stays
    return (", ".join(parts) or "works") + (" +" if carried else "")


def _where(one: Residual) -> str:
    where = "everywhere" if one.settings == SETTINGS else ", ".join(one.settings)
    return f"{where}, as a plain user" if one.plain else where


def _elsewhere(entries: Iterable[Elsewhere]) -> list[str]:
    lines = ["| id | act | tests |", "|---|---|---|"]
    for one in entries:
        tests = ", ".join(f"`{test}`" for test in one.tests)
        lines.append(f"| {one.id} | {one.title} | {tests} |")
    return lines


def found(matrices: Iterable[Matrix]) -> list[str]:
    """Return the table of one run: a line for each probe, then, for each place, one for each wall.

    A cell is the answer inside and what became of the act with exactly its walls off. A place that was not tried has none.
    """
    places = {_COLUMN_OF[matrix.setting]: matrix for matrix in matrices}
    lines = [_line("id", COLUMNS, "act, and whether it works outside")]
    for probe in PROBES:
        cells = [_cell(places[column], probe) if column in places else "" for column in COLUMNS]
        lines.append(_line(probe.id, cells, probe.title + _outside(places.values(), probe)))
    for column, matrix in places.items():
        lines += [
            f"{column} without {wall:<14}{len(turned)} possible: {' '.join(turned)}"
            for wall, turned in matrix.turned.items()
        ]
    return lines


def _line(first: str, cells: Iterable[str], last: str) -> str:
    return f"{first:<15}" + "".join(f"{cell:<17}" for cell in cells) + last


def _outside(matrices: Iterable[Matrix], probe: Probe) -> str:
    tried = [one.outside[probe.id].done(probe) for one in matrices if probe.id in one.outside]
    if not tried:
        return ""
    return " (works)" if all(tried) else " (REFUSED)"


def _cell(matrix: Matrix, named: Probe) -> str:
    probe = next((each for each in matrix.probes if each.id == named.id), None)
    if probe is None:
        return "-"
    off = matrix.answer(probe, frozenset(probe.held_by))
    became = "works"
    if not off.done(probe):
        became = "stays" if probe.stays else "carried" if probe.carried else "REFUSED"
    return f"{matrix.answer(probe).said or 'WORKS'} {became}"
