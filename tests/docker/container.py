"""docs/guide/containers/pod.yaml as options of `docker run`, so that what is tested is what is written there."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import yaml
from tests.docker.engine import FIRST_UID, IMAGE, ROOT, Engine, host_binds

CONTAINERS = ROOT / "docs/guide/containers"


def pod() -> dict[str, Any]:
    job = yaml.safe_load((CONTAINERS / "pod.yaml").read_text())
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


@dataclass(frozen=True)
class Container:
    """What a container is started with; ``work`` and ``home`` are its two volumes outside."""

    engine: Engine
    work: Path
    home: Path
    options: tuple[str, ...]
    uid: int

    @classmethod
    def of_pod(cls, engine: Engine, folder: Path, *, own_users: bool = True) -> Self:
        """Translate the pod. ``own_users``: with ``hostUsers: false``, as it stands there."""
        [container] = pod()["containers"]
        of_pod, own = pod()["securityContext"], container["securityContext"]
        assert pod()["hostUsers"] is False and own["privileged"] is False
        assert own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"] is True
        assert own["procMount"] == "Unmasked" and of_pod["runAsNonRoot"] is True
        limits = container["resources"]["limits"]
        uid = int(of_pod["runAsUser"])
        options = [
            f"--user={uid}:{of_pod['runAsGroup']}",
            *(f"--cap-drop={name}" for name in own["capabilities"]["drop"]),
            "--security-opt=no-new-privileges",
            f"--security-opt=seccomp={CONTAINERS / Path(own['seccompProfile']['localhostProfile']).name}",
            "--security-opt=systempaths=unconfined",
            "--read-only",
            "--network=none",
            f"--memory={limits['memory'].removesuffix('i')}",
            f"--cpus={limits['cpu']}",
            f"--workdir={container['workingDir']}",
            *(f"--env={variable['name']}={variable['value']}" for variable in container["env"]),
        ]
        volumes = {"work": folder / "work", "dativo": folder / "dativo"}
        outside = FIRST_UID + uid if own_users else uid
        for path in volumes.values():
            path.mkdir()
        for mount in container["volumeMounts"]:
            if volume := volumes.get(mount["name"]):
                options.append(f"--volume={volume}:{mount['mountPath']}")
            else:
                options.append(f"--tmpfs={mount['mountPath']}:mode=1777")
        if not own_users:
            options.append("--userns=host")
        return cls(engine, volumes["work"], volumes["dativo"], tuple(options), outside)

    def without(self, *begins: str) -> Self:
        """Leave out the options that begin so; each must be there."""
        assert all(any(option.startswith(begin) for option in self.options) for begin in begins)
        return replace(
            self, options=tuple(option for option in self.options if not option.startswith(begins))
        )

    def with_options(self, *options: str) -> Self:
        return replace(self, options=(*self.options, *options))

    def run(self, *command: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command inside, to its end."""
        for folder in (self.work, self.home):
            subprocess.run(
                ["chown", "-R", "--no-dereference", f"{self.uid}:{self.uid}", folder], check=True
            )
        return subprocess.run(
            self.engine.command("run", "--rm", *self.options, *host_binds(), IMAGE, *command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
