"""What `dativo jail` builds on: stderr that is handed over, signals to a process group, why an exec failed, protected paths."""

from __future__ import annotations

import errno
import os
import select
import signal
from pathlib import Path

import pytest
from tests.sandbox.conftest import Launch

from dativo.sandbox import (
    Confined,
    Grants,
    Identity,
    Program,
    StartFailed,
    WallMissing,
    Walls,
    launch,
)

WITHIN_S = 30.0


def lines(fd: int, wanted: bytes) -> bytes:
    found = b""
    while wanted not in found:
        assert select.select([fd], [], [], WITHIN_S)[0], f"no {wanted!r} in {found!r}"
        found += (part := os.read(fd, 65536))
        assert part, f"end of {found!r} before {wanted!r}"
    return found


def test_stderr_is_handed_over(identity: Identity | None, walls: Walls) -> None:
    out, into = os.pipe()
    with launch(
        Program("test", ("/bin/sh", "-c", "echo said >&2; ls -l /proc/self/fd >&2")),
        Grants(),
        identity=identity,
        walls=walls,
        stdin=None,
        stdout=None,
        stderr=into,
        control=None,
        run="test",
    ) as confined:
        os.close(into)
        assert confined.wait(WITHIN_S).succeeded
        assert confined.stderr_tail() == b""
    with os.fdopen(out, "rb") as stream:
        said = stream.read().decode()  # to its end: nobody else holds the pipe
    assert said.startswith("said\n")
    open_fds = [line.split()[8] for line in said.splitlines()[2:]]
    assert open_fds == ["0", "1", "2", "3"]  # 3 is the listing itself


def test_what_failed_of_an_exec_is_known(start: Launch) -> None:
    for program, number in (("/nonexistent", errno.ENOENT), ("/usr/share", errno.EACCES)):
        with pytest.raises(StartFailed) as caught:
            start(program)
        assert caught.value.errno == number
    with pytest.raises(StartFailed) as caught:
        start("true")
    assert caught.value.errno is None


def test_a_signal_to_the_group_reaches_what_the_program_started(start: Launch) -> None:
    script = "trap 'echo parent' USR1; sh -c 'trap \"echo child; exit\" USR1; echo up; sleep 60 & wait' & wait; wait"
    for group, expected in ((True, {b"parent", b"child"}), (False, {b"parent"})):
        confined: Confined = start("/bin/sh", "-c", script)
        lines(confined.stdout, b"up\n")
        confined.signal(signal.SIGUSR1, group=group)
        if group:
            confined.wait(WITHIN_S)
        found = lines(confined.stdout, b"parent\n")
        assert set(found.split()) >= expected
        assert (b"child" in found) == group
        confined.close()


# --- protected paths -----------------------------------------------------------------------------------------------


def test_protected_paths_stay(start: Launch, folder: Path) -> None:
    (folder / "deep").mkdir(mode=0o777)
    (folder / "deep").chmod(0o777)
    (folder / "deep/hooks").mkdir()
    (folder / "deep/hooks").chmod(0o777)
    script = f"""cd {folder}; echo x > file; rm -f file; mv file f; mv deep/hooks deep/h; touch deep/hooks/x
    mv deep moved && echo moved; touch moved/hooks/y; echo x > new && cat new"""
    grants = Grants(write=(folder,), protected=(folder / "file", folder / "deep/hooks"))
    confined = start("/bin/sh", "-c", script, grants=grants)
    confined.wait(WITHIN_S)
    assert os.read(confined.stdout, 100) == b"moved\nx\n", confined.stderr_tail()
    assert (folder / "file").read_text() == "content"
    assert list((folder / "moved/hooks").iterdir()) == []
    # The host's own mounts were not touched.
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    (folder / "file").write_text("outside it can be written")


@pytest.mark.parametrize("path", ["link", "linked/file", "absent", "linked/absent"])
def test_a_protected_path_that_is_not_itself_is_refused(
    start: Launch, folder: Path, tmp_path: Path, path: str
) -> None:
    """As when it is replaced between the look and the launch: nothing is followed, nothing is made."""
    (tmp_path / "file").write_text("content")
    (folder / "link").symlink_to(tmp_path / "file")
    (folder / "linked").symlink_to(tmp_path)
    before = sorted(folder.iterdir()), sorted(tmp_path.iterdir())
    with pytest.raises(WallMissing, match="to protect it") as caught:
        start("/bin/true", grants=Grants(write=(folder,), protected=(folder / path,)))
    assert caught.value.wall == "mounts"
    assert (sorted(folder.iterdir()), sorted(tmp_path.iterdir())) == before
