"""dativo's own executables see nothing of the host but themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dativo.sandbox import Grants, Identity, Program, StartFailed, Walls, launch

# Prints what is below /, /etc and /dev.
LIST_C = r"""
#include <dirent.h>
#include <stdio.h>
int main(void) {
    const char *folders[] = {"/", "/etc", "/dev"};
    for (int i = 0; i < 3; i++) {
        DIR *folder = opendir(folders[i]);
        if (!folder) { perror(folders[i]); continue; }
        struct dirent *entry;
        while ((entry = readdir(folder)))
            if (entry->d_name[0] != '.' || entry->d_name[1] == 'd') printf("%s:%s\n", folders[i], entry->d_name);
        closedir(folder);
    }
    return 0;
}
"""


@pytest.fixture
def static(folder: Path) -> Path:
    """A program that needs no library."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler is installed here")
    source, binary = folder / "list.c", folder / "list"
    source.write_text(LIST_C)
    subprocess.run(["cc", "-static", "-o", binary, source], check=True, timeout=60)
    return binary


def listed(program: Program, identity: Identity | None, walls: Walls) -> set[str]:
    confined = launch(
        program,
        Grants(),
        identity=identity,
        walls=walls,
        stdin=None,
        stdout=None,
        control=None,
        run="test",
    )
    with confined:
        assert confined.stdout is not None
        with os.fdopen(os.dup(confined.stdout)) as said:
            lines = set(said.read().splitlines())
        assert confined.wait(10).succeeded
    return lines


def test_a_bare_program_sees_itself_alone(
    static: Path, identity: Identity | None, walls: Walls
) -> None:
    bare = Program("test", (str(static),), runtime=(static,), bare=True)
    above = {"/:" + static.parts[1]}
    seen = listed(bare, identity, walls)
    assert seen == above | {"/:.dativo", "/:dev", "/:proc", "/:tmp"} | {
        f"/dev:{name}"
        for name in ("null", "random", "urandom", "fd", "shm", "stdin", "stdout", "stderr")
    }
    assert {"/:usr", "/:etc", "/etc:passwd", "/:sys"} <= listed(
        replace(bare, bare=False), identity, walls
    )


def test_nothing_of_the_host_can_be_run(identity: Identity | None, walls: Walls) -> None:
    program = Program("test", ("/usr/bin/true",), bare=True)
    with pytest.raises(StartFailed, match="cannot run /usr/bin/true: No such file"):
        listed(program, identity, walls)
    assert not listed(replace(program, bare=False), identity, walls)
