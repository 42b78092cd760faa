"""Docker Engine reached by a job: images taken out of an engine, and run in it where the policy says so."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.docker.engine import Engine
from tests.docker.image import PYTHON, python_image
from tests.images import Built, files, folder, image, layer, shell_files, write_tar
from tests.integration.conftest import ROOT, Workspace, nothing_left, workspace
from tests.integration.outside import Outside, outside

__all__ = ["nothing_left", "workspace"]
pytestmark = pytest.mark.docker
WITHIN_S = 90.0


@pytest.fixture(scope="module")
def shelf(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Images of two plugins with a Python of this machine, loaded into the engine under their names."""
    python, made = python_image(), {}
    for name in ("web", "bad"):
        source = (ROOT / "tests/plugins" / name / "source.py").read_bytes()
        config = {
            "Entrypoint": [PYTHON, "-I", "-B", "/app/source.py"],
            "Env": ["PATH=/usr/bin"],
            "Labels": {"io.airbyte.name": f"airbyte/source-{name}", "io.airbyte.version": "1.0"},
        }
        made[name] = image(
            python, layer(folder("app"), *files({"app/source.py": source})), config=config
        )
        archive = write_tar(tmp_path_factory.mktemp(name) / "image.tar", made[name].saved())
        engine.docker("load", "--input", str(archive))
        engine.docker("tag", f"sha256:{made[name].id}", f"example/source-{name}:1.0")
    return made


@pytest.fixture
def world() -> Iterator[Outside]:
    with outside() as found:
        yield found


@pytest.fixture
def site(
    workspace: Workspace, world: Outside, engine: Engine, shelf: dict[str, Built]
) -> Iterator[Workspace]:
    """A workspace whose operator has images run by the engine; afterwards nothing of them is left there."""
    world.permit(
        workspace, f"docker: {{plugins: ['image:*'], engine: {engine.folder}/docker.sock}}\n"
    )
    yield workspace
    deadline = time.monotonic() + WITHIN_S
    while engine.docker("ps", "-aq").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def add(site: Workspace, name: str) -> None:
    added = site.dativo("plugin", "add", f"image:docker-daemon:example/source-{name}:1.0")
    assert added.status == 0, added.stderr
    assert f"image:source-{name} 1.0" in added.stderr


def job(site: Workspace, name: str, config: dict[str, Any], grants: dict[str, Any]) -> None:
    site.job(
        "pipeline: p\n"
        f"source: {{connector: 'image:source-{name}', config: {json.dumps(config)}, grants: {json.dumps(grants)}}}\n"
        "target: {connector: iceberg, config: {warehouse: ./lake, namespace: p}}\n"
    )


def test_every_verb_and_a_run_with_a_network(
    site: Workspace, world: Outside, shelf: dict[str, Built]
) -> None:
    add(site, "web")
    locked = json.loads((site.folder / "dativo.lock").read_text())["plugins"]["image:source-web"]
    assert shelf["web"].id in locked["images"].values()

    good, evil = world.url("api.test"), world.url("evil.test")
    (site.folder / "c.json").write_text(json.dumps({"urls": [good]}))
    flags = ("--config", "c.json", "--net", f"api.test:{world.port}")
    assert json.loads(site.dativo("spec", "image:source-web").stdout)
    checked = site.dativo("check", "image:source-web", *flags)
    assert (checked.status, json.loads(checked.stdout)["status"]) == (0, "SUCCEEDED"), (
        checked.stderr
    )
    refused = site.dativo("check", "image:source-web", *flags[:2])
    assert json.loads(refused.stdout)["status"] == "FAILED"
    found = site.dativo("discover", "image:source-web", *flags)
    assert '"pages"' in found.stdout, found.stderr
    read = site.dativo("read", "image:source-web", *flags)
    assert f"hello from api.test:{world.port}" in read.stdout, read.stderr

    job(
        site,
        "web",
        {"urls": [good, evil]},
        {"network": [f"api.test:{world.port}"], "memory": "256MiB"},
    )
    assert site.dativo("run", "job.yaml").status == 8
    assert site.dativo("grants", "approve", "job.yaml").status == 0
    planned = json.loads(site.dativo("plan", "job.yaml").stdout)
    assert planned["source"]["docker"].endswith("docker.sock")
    ran = site.run()
    assert ran.status == 0, ran.stderr
    said = dict(
        zip(*site.count("p.pages", "list(url order by url), list(said order by url)"), strict=True)
    )
    assert said[good] == f"hello from api.test:{world.port}"
    assert "Name or service not known" in said[evil]
    (network,) = ran.report["network"]
    assert [each["place"] for each in network["reached"]] == [f"api.test:{world.port}"]
    assert [each["place"] for each in network["refusals"]] == ["evil.test"]
    (source,) = [each for each in ran.report["processes"] if each["name"] == "source"]
    assert "the host's user namespace" in source["walls"] and "6 namespaces" in source["walls"]
    assert f"network api.test:{world.port}" in source["walls"]
    assert 0 < source["peak_memory_bytes"] < 256 << 20


def started(site: Workspace) -> subprocess.Popen[str]:
    """Start a run whose source says ten rows and a state and then nothing; returns once it has."""
    add(site, "bad")
    job(site, "bad", {"mode": "silent"}, {})
    process = site.start("run", "job.yaml", "--output", "json")
    assert process.stderr is not None
    for line in process.stderr:
        if "nothing more" in line:
            return process
    raise AssertionError(process.communicate())


def test_a_run_is_stopped(site: Workspace, engine: Engine) -> None:
    process = started(site)
    assert len(engine.docker("ps", "-q").stdout.split()) == 1
    stopped = site.dativo("stop", "--plugin", "image:source-bad")
    assert stopped.status == 0, stopped.stderr
    stdout, stderr = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 143, stderr
    assert json.loads(stdout)["status"] == 143
    assert site.count("p.rows") == 10


TAKE = b"""
[ "$1" = spec ] && echo '{"type":"SPEC","spec":{"connectionSpecification":{"type":"object"}}}'
[ "$1" = write ] && while read -r line; do case $line in *'"STATE"'*) echo "$line" ;; esac; done
exit 0
"""


def test_between_two_containers(site: Workspace, engine: Engine, tmp_path: Path) -> None:
    """A foreign target of an image: both write and read pipes that the engine never sees."""
    shell = shell_files()
    parents = sorted({str(parent) for name in shell for parent in Path(name).parents} - {"."})
    taker = image(
        layer(*map(folder, parents), *files(shell), *files({"take.sh": TAKE})),
        config={"Entrypoint": ["/bin/sh", "/take.sh"]},
    )
    archive = write_tar(tmp_path / "destination-take.tar", taker.saved())
    engine.docker("load", "--input", str(archive))
    added = site.dativo("plugin", "add", f"image:{archive}")
    assert added.status == 0, added.stderr
    add(site, "bad")
    site.job(
        "pipeline: p\n"
        "source: {connector: 'image:source-bad', config: {mode: good}}\n"
        "target: {connector: 'image:destination-take', config: {}}\n"
    )
    ran = site.run()
    assert ran.status == 0, ran.stderr
    walls = {each["name"]: each["walls"] for each in ran.report["processes"]}
    for name in ("source", "target"):
        assert "the host's user namespace" in walls[name]
    assert "the host's user namespace" not in walls["relay"]


def test_an_image_that_the_engine_has_not(
    site: Workspace, engine: Engine, shelf: dict[str, Built], tmp_path: Path
) -> None:
    """It is installed from an archive, and the policy has it run where it is not."""
    other = image(
        *shelf["web"].layers, config={**shelf["web"].config["config"], "Env": ["OTHER=1"]}
    )
    added = site.dativo("plugin", "add", f"image:{write_tar(tmp_path / 'web.tar', other.saved())}")
    assert added.status == 9
    assert f"sha256:{other.id}" in added.stderr and "docker load" in added.stderr
    unknown = site.dativo("plugin", "add", "image:docker-daemon:example/none:1")
    assert unknown.status == 3
    assert "does not give example/none:1" in unknown.stderr and "No such image" in unknown.stderr
