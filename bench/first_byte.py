"""`dativo run` to the first byte of the source: CPU of the kernel process. Bar: 0.5 s.

The committer's imports run meanwhile in its own process; its whole CPU is printed apart.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from bench.measure import median

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


def measure(rounds: int = 10) -> tuple[list[float], list[float]]:
    """Return the kernel's CPU seconds to the first byte and the committer's CPU seconds, one of each per run."""
    dativo = str(Path(sysconfig.get_path("scripts")) / "dativo")
    kernel, committer = [], []
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder, "workspace")
        shutil.copytree(ROOT / "examples/plugins/resumable", workspace / "plugins/resumable")
        (workspace / "job.yaml").write_text(JOB)
        env = {**os.environ, "DATIVO_HOME": f"{folder}/home"}
        cgroup = [] if os.geteuid() == 0 else ["--cgroup", "degraded"]
        for _ in range(rounds):
            shutil.rmtree(workspace / "lake", ignore_errors=True)
            told = subprocess.run(
                [dativo, "run", "job.yaml", "--output", "json", "--quiet", *cgroup],
                cwd=workspace,
                env=env,
                capture_output=True,
                check=True,
            )
            report = json.loads(told.stdout)
            kernel.append(report["kernel_cpu_to_first_byte_s"])
            committer += [p["cpu_s"] for p in report["processes"] if p["name"] == "committer"]
    return kernel, committer


if __name__ == "__main__":
    kernel, committer = measure()
    print(
        f"kernel to first byte {median(kernel):.3f} s CPU (bar {BAR_S}), committer in all {median(committer):.2f} s CPU"
    )
