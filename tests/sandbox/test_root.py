"""A program in a root of its own: what it sees is the image's, and the walls are the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.images import shell_files, write_root
from tests.sandbox.conftest import WITHIN_S

from dativo.sandbox import Grants, Identity, PrivateFile, Program, Walls, launch

LOOK = b"""#!/bin/sh
read -r user </etc/passwd; echo "passwd $user"
for path in /*; do echo "has $path"; done
read -r line </usr/share/word && echo "image $line"
read -r line <"$1" && echo "granted $line"
read -r line </run/own/config && echo "private $line"
echo x 2>/dev/null >/usr/share/word || echo "refused image"
echo x 2>/dev/null >/new || echo "refused root"
echo x >/tmp/x && echo "wrote tmp"
echo "cwd $PWD HOME $HOME"
"""

SHOW = b"""#!/bin/sh
read -r line </run/dativo/trust/ca.pem && echo "$line"
echo x 2>/dev/null >/run/dativo/trust/ca.pem || echo refused
echo x 2>/dev/null >/run/dativo/new || echo refused
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the walls can show to another uid."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def run(program: Program, grants: Grants, identity: Identity | None, walls: Walls) -> list[str]:
    with launch(
        program,
        grants,
        identity=identity,
        walls=walls,
        stdin=None,
        stdout=None,
        control=None,
        run="test",
    ) as confined:
        with open(confined.stdout, "rb", closefd=False) as stream:
            said = stream.read()
        ended = confined.wait(WITHIN_S)
        assert ended.code == 0, (ended, confined.stderr_tail())
    return said.decode().splitlines()


def test_what_a_program_of_an_image_sees(
    folder: Path, identity: Identity | None, walls: Walls
) -> None:
    files = {**shell_files(), "usr/share/word": b"word\n", "srv/old": b"", "look": LOOK}
    root = write_root(folder / "root", files)
    (root / "proc").mkdir()
    # Granted below a folder that the image has too.
    (root / str(folder)[1:] / "mine").mkdir(parents=True)
    data = folder / "data"
    data.write_text("given\n")
    data.chmod(0o644)
    program = Program(
        "test",
        ("/look", str(data)),
        root=root,
        cwd="/srv",
        files=(PrivateFile("/run/own/config", b"secret\n"),),
    )
    said = run(program, Grants(read=(data,)), identity, walls)
    for line in (
        "image word",
        "granted given",
        "private secret",
        "refused image",
        "refused root",
        "wrote tmp",
        "cwd /srv HOME /tmp",
    ):
        assert line in said
    assert any(line.startswith("passwd plugin:x:") for line in said)
    tops = {Path("/", path).parts[1] for path in files} | {
        "etc",
        "proc",
        "dev",
        "run",
        "sys",
        "tmp",
        folder.parts[1],
    }
    # All of the host that is there is on the way to what was granted.
    assert {line[5:] for line in said if line.startswith("has ")} == tops - {".dativo"}
    assert (root / "usr/share/word").read_text() == "word\n"
    assert not (root / "new").exists()
    assert (root / "etc/passwd").read_text() == ""


@pytest.mark.parametrize("has", [(), ("run/lock/other",), ("run/dativo/trust/ca.pem",)])
def test_a_folder_of_the_operators_lies_over_what_an_image_has(
    folder: Path, identity: Identity | None, walls: Walls, has: tuple[str, ...]
) -> None:
    files = {**shell_files(), "look": SHOW, **dict.fromkeys(has, b"of the image\n")}
    root = write_root(folder / "root", files)
    trust = folder / "trust"
    trust.mkdir()
    (trust / "ca.pem").write_text("the operator's\n")
    program = Program(
        "test", ("/look",), root=root, cwd="/tmp", binds=((trust, "/run/dativo/trust", False),)
    )
    said = run(program, Grants(), identity, walls)
    assert said == ["the operator's", "refused", "refused"]
    assert (trust / "ca.pem").read_text() == "the operator's\n"
