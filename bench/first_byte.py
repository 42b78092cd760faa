"""`dativo run` to the first byte of the source: CPU of the kernel process.

The committer's imports run meanwhile in its own process; its whole CPU is shown apart.
"""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
import tempfile
from pathlib import Path

from bench.measure import Bar, command, median, table

BAR_S = 0.5
ROOT = Path(__file__).parents[1]
JOB = """\
pipeline: bench
source:
  connector: ./plugins/resumable
  config: {rows: 10000}
target:
  connector: iceberg
  config: {warehouse: ./lake, namespace: bench}
"""


def measure(rounds: int = 10) -> list[Bar]:
    """Run a small job into a new warehouse each time, its catalogue known from the run before; medians."""
    dativo = str(Path(sysconfig.get_path("scripts")) / "dativo")
    kernel_s: list[float] = []
    committer_s: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder, "workspace")
        shutil.copytree(ROOT / "examples/plugins/resumable", workspace / "plugins/resumable")
        job = workspace / "job.yaml"
        job.write_text(JOB)
        env = {**os.environ, "DATIVO_HOME": f"{folder}/home"}
        cgroup = [] if os.geteuid() == 0 else ["--cgroup", "degraded"]
        for _ in range(rounds):
            shutil.rmtree(workspace / "lake", ignore_errors=True)
            argv = [dativo, "run", str(job), "--output", "json", "--quiet", *cgroup]
            report = json.loads(command(argv, env=env).stdout)
            kernel_s.append(report["kernel_cpu_to_first_byte_s"])
            committer_s += [p["cpu_s"] for p in report["processes"] if p["name"] == "committer"]
    return [
        Bar("dativo run to the first byte, CPU of the kernel", median(kernel_s), "s", BAR_S),
        Bar("its committer to the end, CPU", median(committer_s), "s"),
    ]


if __name__ == "__main__":
    print(table(measure()))
