"""A folder that one process writes for another (`Grants.exchange`): files and folders, no links, and nobody else sees it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dativo.sandbox import Confined, Grants, WallMissing

Launch = Callable[..., Confined]
WITHIN_S = 60.0
INSIDE = "/exchange"
CODE = """
import os, socket, sys
os.chdir(sys.argv[1])
def file(): open("made", "w").write("content")
def folder(): os.mkdir("folder"); open("folder/file", "w").write("x")
def move(): os.rename("made", "folder/moved")
def hard_link(): os.link("folder/moved", "linked")
def link(): os.symlink("/etc/passwd", "link")
def fifo(): os.mkfifo("fifo")
def link_from_elsewhere(): os.symlink("/etc/passwd", "/tmp/link"); os.rename("/tmp/link", "link")
for act in (file, folder, move, hard_link, link, fifo, link_from_elsewhere):
    try:
        act()
        print(act.__name__, 0)
    except OSError as error:
        print(act.__name__, error.errno)
"""


def python(code: str, *arguments: str) -> tuple[str, ...]:
    return ("/usr/bin/python3", "-I", "-c", code, *arguments)


def told(confined: Confined) -> str:
    end = confined.wait(WITHIN_S)
    assert end.succeeded, confined.stderr_tail()
    return os.read(confined.stdout, 65536).decode()


@pytest.fixture(autouse=True)
def _system_python() -> None:
    if not Path("/usr/bin/python3").exists():
        pytest.skip("no python3 in /usr/bin")


def test_files_and_folders_are_made_and_nothing_that_leads_elsewhere(
    start: Launch, folder: Path
) -> None:
    confined = start(*python(CODE, INSIDE), grants=Grants(exchange=((folder, INSIDE),)))
    found = dict(line.split() for line in told(confined).splitlines())
    assert found == {
        "file": "0",
        "folder": "0",
        "move": "0",
        "hard_link": "0",
        "link": str(errno.EACCES),
        "fifo": str(errno.EACCES),
        "link_from_elsewhere": str(errno.EXDEV),
    }
    assert (folder / "folder/moved").read_text() == "content"


def test_a_write_grant_takes_links(start: Launch, folder: Path) -> None:
    """The same acts, with exactly this wall off."""
    confined = start(*python(CODE, str(folder)), grants=Grants(write=(folder,)))
    found = dict(line.split() for line in told(confined).splitlines())
    assert (found["link"], found["fifo"]) == ("0", "0")


def test_the_reader_reads_and_nobody_else_sees_it(start: Launch, folder: Path) -> None:
    (folder / "made").write_text("content")
    read = "import sys; print(open(sys.argv[1]).read())"
    binds = ((folder, INSIDE, False),)
    assert told(start(*python(read, f"{INSIDE}/made"), binds=binds)) == "content\n"
    write = "import sys\ntry: open(sys.argv[1], 'w')\nexcept OSError as error: print(error.errno)"
    denied = (f"{errno.EACCES}\n", f"{errno.EROFS}\n")
    assert told(start(*python(write, f"{INSIDE}/made"), binds=binds)) in denied
    look = "import os; print(os.path.exists('/exchange'))"
    assert told(start(*python(look))) == "False\n"


def test_nothing_in_it_is_executed(start: Launch, folder: Path) -> None:
    code = (
        "import os, subprocess\n"
        f"path = '{INSIDE}/tool'\n"
        "open(path, 'w').write('#!/bin/sh\\nexit 0\\n'); os.chmod(path, 0o755)\n"
        "try: print(subprocess.run([path]).returncode)\n"
        "except OSError as error: print(error.errno)\n"
    )
    confined = start(*python(code), grants=Grants(exchange=((folder, INSIDE),)))
    assert told(confined) == f"{errno.EACCES}\n"


def test_a_kernel_without_landlock_is_refused(
    start: Launch, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = json.loads

    def without(text: bytes) -> object:
        said = loads(text)
        return {**said, "landlock_abi": 0} if isinstance(said, dict) else said

    monkeypatch.setattr(json, "loads", without)
    assert told(start(*python("print(1)"))) == "1\n"
    with pytest.raises(WallMissing, match="landlock") as error:
        start(*python("print(1)"), grants=Grants(exchange=((folder, INSIDE),)))
    assert error.value.wall == "landlock"
