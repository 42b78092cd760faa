"""Try probes outside, and inside with walls taken off; many in one launch."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final

from tests.sandbox.probes.catalogue import Probe, Residual
from tests.sandbox.probes.off import find_cgroup, without
from tests.sandbox.probes.off_docker import without_in_docker
from tests.sandbox.probes.scene import LAUNCHERS_SECRET, SECRET, Scene, Victim

from dativo.sandbox import Grants, Limits, Program, Walls, launch
from dativo.sandbox.program import MIB

ACT_WITHIN_S: Final = 10.0
BATCH_WITHIN_S: Final = 120.0
LIMITS: Final = Limits(
    pids=40,
    open_files=64,
    file_bytes=8 * MIB,
    tmp_bytes=4 * MIB,
    shm_bytes=2 * MIB,
    wall_time_s=BATCH_WITHIN_S,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an act: ``said`` is None when it was done."""

    said: str | None
    value: Any

    def done(self, probe: Probe | Residual) -> bool:
        """Whether no wall stood in its way."""
        return self.said is None or (isinstance(probe, Probe) and self.said in probe.works)


def outside(scene: Scene, probes: Iterable[Probe | Residual]) -> dict[str, Answer]:
    """Try each without walls."""
    found = subprocess.run(
        scene.runner,
        input=_jobs(probes, scene),
        env={LAUNCHERS_SECRET: SECRET},
        capture_output=True,
        text=True,
        check=True,
        timeout=BATCH_WITHIN_S,
    )
    return _read(found.stdout)


def inside(
    scene: Scene,
    probes: Iterable[Probe | Residual],
    off: Iterable[str] = (),
    *,
    stamped: bool = False,
    believed: bool = True,
) -> dict[str, Answer]:
    """Try each in one confined process, without the walls ``off``; ``stamped`` and ``believed`` are those of off.py."""
    off = frozenset(off)
    limits = LIMITS
    if "sizes" in off:
        limits = replace(limits, tmp_bytes=64 * MIB, shm_bytes=64 * MIB)
    if "bounds" in off:
        limits = replace(limits, pids=512)
    grants = Grants(
        read=(scene.given, scene.code),
        write=(scene.out,),
        environment=((LAUNCHERS_SECRET, SECRET),) if "environment" in off else (),
        limits=limits,
    )
    program = Program("probe", scene.runner, root=scene.image, container=scene.container)
    with ExitStack() as stack:
        jobs_out, jobs_in = os.pipe()
        stack.callback(os.close, jobs_out)
        into = stack.enter_context(os.fdopen(jobs_in, "w"))
        taken_off = without if scene.container is None else without_in_docker
        with taken_off(off, scene, stamped=stamped, believed=believed):
            confined = launch(
                program,
                grants,
                identity=scene.identity,
                walls=Walls() if find_cgroup() else Walls(cgroup="degraded"),
                stdin=jobs_out,
                stdout=None,
                control=scene.leaked if "descriptors" in off else None,
                run="probes",
            )
        stack.enter_context(confined)
        victim = None
        if "pid" in off:
            own_users = scene.container is None
            victim = Victim(scene.identity, confined.attestation.pid, own_users=own_users)
            stack.callback(victim.close)
        into.write(_jobs(probes, scene, victim))
        into.close()
        end = confined.wait(BATCH_WITHIN_S)
        with os.fdopen(os.dup(confined.stdout), "rb") as stdout:
            text = stdout.read().decode()
        if not end.succeeded:
            raise AssertionError(f"the runner ended: {end}, {confined.read_stderr()!r}")
    return _read(text)


def _jobs(probes: Iterable[Probe | Residual], scene: Scene, victim: Victim | None = None) -> str:
    return json.dumps(
        [
            {
                "id": probe.id,
                "act": probe.act,
                "arguments": scene.filled(probe.arguments, victim),
                "within_s": ACT_WITHIN_S,
            }
            for probe in probes
        ]
    )


def _read(text: str) -> dict[str, Answer]:
    lines = [json.loads(line) for line in text.splitlines()]
    return {line["id"]: Answer(line["answer"], line["value"]) for line in lines}
