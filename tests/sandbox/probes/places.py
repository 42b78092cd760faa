"""The places that probes are tried from, as far as this machine has them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.docker.engine import Engine, missing
from tests.docker.image import python_image
from tests.sandbox.probes.catalogue import Setting
from tests.sandbox.probes.scene import Scene

from dativo.sandbox import Container, allocate_identity

# Why there is no Docker Engine here, or None.
NO_ENGINE: Final = missing()
HERE: Final[tuple[Setting, ...]] = ("host", "image") if NO_ENGINE else ("host", "image", "docker")


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
