"""Each hostile act is refused by the walls that are named, by each alone, and by nothing else."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sandbox.probes import report
from tests.sandbox.probes.catalogue import (
    IS_ROOT,
    LANDLOCK_ABI,
    STAYS,
    WALLS,
    Elsewhere,
    Probe,
    Residual,
    Setting,
)
from tests.sandbox.probes.matrix import PROBES, Matrix, probes_at, residuals_at
from tests.sandbox.probes.off import STAMP, TAKES_ALONG
from tests.sandbox.probes.places import HERE, NO_ENGINE, measure_all
from tests.sandbox.probes.residual import ACTS, PATTERNS, RESIDUALS
from tests.sandbox.probes.runner import inside
from tests.sandbox.probes.scene import Scene

from dativo.sandbox import Identity, WallMissing

# Which wall an attestation names when one is off. The others it takes from what was asked for: mounts by the order of the
# plan, the filter as one more than the launcher's own, Landlock as the ABI that it reports.
ATTESTED = {
    "identity": "identity",
    "undumpable": "identity",
    "capabilities": "capabilities",
    **dict.fromkeys(("net", "ipc", "uts", "cgroup-ns"), "namespaces"),
}
TESTS = Path(__file__).parents[1]


def each(kept: Callable[[Probe], bool]) -> pytest.MarkDecorator:
    """A test for each probe of each place."""
    found = [
        pytest.param(at, probe, id=f"{at}-{probe.id}")
        for at in HERE
        for probe in probes_at(at)
        if kept(probe)
    ]
    return pytest.mark.parametrize(("matrix", "probe"), found, indirect=["matrix"])


EACH = each(lambda _: True)
EVERYWHERE = pytest.mark.parametrize("matrix", HERE, indirect=True)


@pytest.fixture(scope="module")
def measured(request: pytest.FixtureRequest) -> dict[Setting, Matrix]:
    """Everything that is tried at each place that a chosen test asks for, once."""
    calls = (getattr(item, "callspec", None) for item in request.session.items)
    asked = {call.params["matrix"] for call in calls if call and "matrix" in call.params}
    found = measure_all(setting for setting in HERE if setting in asked)
    request.config.stash[report.FOUND] = found
    return {matrix.setting: matrix for matrix in found}


@pytest.fixture
def matrix(request: pytest.FixtureRequest, measured: dict[Setting, Matrix]) -> Matrix:
    """What was found at one place."""
    return measured[request.param]


def test_docker_is_here() -> None:
    """What is left out is named."""
    if NO_ENGINE:
        pytest.skip(f"no probes in Docker: {NO_ENGINE}")
    assert "docker" in HERE


@EACH
def test_refused_inside(matrix: Matrix, probe: Probe) -> None:
    said = matrix.answer(probe).said
    assert said in (*probe.held_by.values(), *probe.stays.values())
    # Where the filter is among the walls it comes first, and a filter with another errno shows that it was the one.
    by_filter = probe.held_by.get("seccomp") == "EPERM" == said
    assert (matrix.stamped[probe.id].said == errno.errorcode[STAMP]) == by_filter


@each(lambda probe: probe.outside)
def test_works_outside(matrix: Matrix, probe: Probe) -> None:
    answer = matrix.outside[probe.id]
    assert answer.done(probe), answer


@EACH
def test_each_wall_refuses_it_alone(matrix: Matrix, probe: Probe) -> None:
    walls = frozenset(probe.held_by)
    for wall, answer in probe.held_by.items():
        assert matrix.answer(probe, walls - {wall}).said == answer, wall


@EACH
def test_works_with_its_walls_off(matrix: Matrix, probe: Probe) -> None:
    answer = matrix.answer(probe, frozenset(probe.held_by))
    if probe.carried and answer.said != "ENOSYS":  # not in this kernel
        assert not answer.done(probe), "nothing carries it: name the walls and leave `carried` out"
    else:
        assert answer.done(probe), answer


@EVERYWHERE
def test_every_wall_holds_something_alone(matrix: Matrix) -> None:
    """The mutation run: each wall taken off by itself makes possible what nothing else refuses."""
    held = {probe.id: set(probe.held_by) for probe in matrix.probes}
    for wall, turned in matrix.turned.items():
        assert [probe for probe in turned if held[probe] == {wall}], f"nothing misses {wall}"
    untried = set(WALLS) - set(matrix.turned)
    if not IS_ROOT:
        untried -= {"identity", "attach", "cgroup-ns"}
    if matrix.setting == "docker":
        untried -= STAYS
    if LANDLOCK_ABI < 1:
        untried -= {"landlock"}
    assert untried == set()


@EVERYWHERE
def test_a_wall_off_makes_nothing_possible_that_others_hold(matrix: Matrix) -> None:
    held = {probe.id: set(probe.held_by) for probe in matrix.probes}
    for wall, turned in matrix.turned.items():
        for probe in turned:
            along = TAKES_ALONG[matrix.setting].get(wall, set())
            assert held[probe] <= {wall} | along, f"{probe} without {wall}"


@pytest.mark.parametrize("wall", [wall for wall in ATTESTED if IS_ROOT or wall != "identity"])
def test_the_attestation_misses_it(identity: Identity | None, wall: str) -> None:
    """A launch whose wall does not stand is refused before anything of the program runs."""
    with Scene(identity) as scene, pytest.raises(WallMissing) as caught:
        inside(scene, [], {wall}, believed=False)
    assert caught.value.wall == ATTESTED[wall]


@pytest.mark.parametrize(
    ("matrix", "residual"),
    [pytest.param(at, one, id=f"{at}-{one.id}") for at in HERE for one in residuals_at(at)],
    indirect=["matrix"],
)
def test_what_is_left_possible_is(matrix: Matrix, residual: Residual) -> None:
    """The list of what remains is honest both ways: an act that is refused one day moves to the probes."""
    assert matrix.residual[residual.id].said is None


def test_names_are_unique_and_walls_known() -> None:
    names = Counter(one.id for one in (*PROBES, *RESIDUALS))
    assert [name for name, count in names.items() if count > 1] == ["A6loader"]
    for probe in PROBES:
        named = (probe.walls, probe.as_root, probe.image or {}, probe.docker or {})
        assert {wall for walls in named for wall in walls} <= set(WALLS)


@pytest.mark.parametrize("entry", [*ACTS, *PATTERNS], ids=lambda entry: entry.id)
def test_other_tests_are_there(entry: Elsewhere) -> None:
    for test in entry.tests:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (TESTS / path).read_text()


def test_the_page_is_as_the_tables_are() -> None:
    assert report.PAGE.read_text() == report.page(), "python -m tests.sandbox.probes --write"


def test_the_threat_model_names_what_is_left_possible() -> None:
    said = (TESTS.parent / "docs/threat-model.md").read_text().partition("## Residual acts")[2]
    named = {
        name for line in said.splitlines() for name in line.strip("| ").split(" | ")[0].split(", ")
    }
    assert {one.id for one in RESIDUALS} <= named
