"""The places that probes are tried from, as far as this machine has them; all at the same time."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.docker.engine import Engine, missing
from tests.docker.image import python_image
from tests.sandbox.probes.catalogue import Setting
from tests.sandbox.probes.matrix import Matrix, measure, probes_at
from tests.sandbox.probes.scene import Scene

from dativo.sandbox import Container, allocate_identity

# Why there is no Docker Engine here, or None.
NO_ENGINE: Final = missing()
HERE: Final[tuple[Setting, ...]] = ("host", "image") if NO_ENGINE else ("host", "image", "docker")


def measure_all(settings: Iterable[Setting]) -> list[Matrix]:
    """Measure at each of these places, in a process of its own."""
    wanted = list(settings)
    with ProcessPoolExecutor(len(wanted), multiprocessing.get_context("fork")) as pool:
        found = pool.map(_measure_at, wanted)
        return [replace(matrix, probes=probes_at(matrix.setting)) for matrix in found]


def _measure_at(setting: Setting) -> Matrix:
    with scene_at(setting) as scene:
        return replace(measure(scene), probes=())  # they are the same in both processes


@contextmanager
def scene_at(setting: Setting) -> Iterator[Scene]:
    """Make everything for one place; in Docker an engine of its own, too."""
    with ExitStack() as stack:
        identity = None
        if os.geteuid() == 0:
            identity = stack.enter_context(allocate_identity()).identity
        container = stack.enter_context(_image_in_engine()) if setting == "docker" else None
        yield stack.enter_context(Scene(identity, setting, container))


@contextmanager
def _image_in_engine() -> Iterator[Container]:
    folder = Path(tempfile.mkdtemp(prefix="dativo-docker-"))
    folder.chmod(0o711)
    try:
        with Engine.start(folder) as engine:
            made = engine.docker("import", "-", stdin=python_image())
            yield Container(made.stdout.decode().strip(), folder / "docker.sock")
    finally:
        shutil.rmtree(folder)
