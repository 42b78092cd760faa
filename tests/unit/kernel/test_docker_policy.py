"""Which images the policy has a Docker Engine run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.kernel.test_policy import policy

from dativo.kernel.docker_policy import SOCKET
from dativo.kernel.registry import Installed
from dativo.protocol.errors import ConfigError, NotPermitted
from dativo.sandbox import Container

SHOP = Installed(
    "image:shop", "airbyte", "1.0", "d" * 64, ("/app/run",), (), root=Path("/root"), image="1" * 64
)
WHEEL = Installed("airbyte:source-x", "airbyte", "1.0", "d" * 64, ("/env/bin/x",), ())


@pytest.mark.parametrize(
    ("text", "engine"),
    [
        ("{}", None),
        ("docker: {plugins: []}", None),
        ("docker: {plugins: ['image:other']}", None),
        ("docker: {plugins: ['image:other', 'image:shop']}", SOCKET),
        ("docker: {plugins: ['image:*'], engine: /run/own.sock}", Path("/run/own.sock")),
    ],
)
def test_the_images_that_are_listed(tmp_path: Path, text: str, engine: Path | None) -> None:
    said = policy(tmp_path, text)
    container = None if engine is None else Container("sha256:" + "1" * 64, engine)
    assert said.admit(SHOP) == replace(SHOP, container=container)
    assert said.admit(WHEEL) == WHEEL


def test_one_that_is_blocked_runs_nowhere(tmp_path: Path) -> None:
    text = "docker: {plugins: ['image:*']}\nblocked: [{name: 'image:shop'}]"
    with pytest.raises(NotPermitted):
        policy(tmp_path, text).admit(SHOP)


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("docker: {}", "/docker"),
        ("docker: {plugins: [shop]}", "/docker/plugins/0"),
        ("docker: {plugins: ['airbyte:source-x']}", "/docker/plugins/0"),
        ("docker: {plugins: ['image:*'], engine: docker.sock}", "/docker/engine"),
        ("docker: {plugins: ['image:*'], socket: /run/docker.sock}", "/docker/socket"),
    ],
)
def test_faults(tmp_path: Path, text: str, pointer: str) -> None:
    with pytest.raises(ConfigError) as error:
        policy(tmp_path, text)
    assert error.value.where.pointer == pointer
