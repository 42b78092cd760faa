"""What a confined process finds around it. Hostile acts are probes: test_probes.py."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sandbox.seen import Outcome

from dativo.sandbox import Grants, PrivateFile

Run = Callable[..., Outcome]


# --- files ---------------------------------------------------------------------------------------------------------


def test_a_file_that_was_not_granted_is_not_there(inside: Run, outside: Run, folder: Path) -> None:
    path = str(folder / "file")
    assert inside("read_file", path).errno == "ENOENT"
    assert outside("read_file", path).value == "content"
    assert inside("read_file", path, grants=Grants(read=(folder,))).value == "content"


@pytest.mark.parametrize("path", ["/etc/shadow", "/boot", "/var/lib", "/sys/class", "/.dativo/x"])
def test_the_hosts_own_files_are_not_there(inside: Run, path: str) -> None:
    assert inside("list_folder", path).errno == "ENOENT"


def test_passwd_names_nobody_of_the_host(inside: Run, outside: Run) -> None:
    assert inside("read_file", "/etc/passwd").value.startswith("plugin:x:")
    assert outside("read_file", "/etc/passwd").value.startswith("root:")


def test_a_granted_read_cannot_be_written(inside: Run, outside: Run, folder: Path) -> None:
    path = str(folder / "file")
    # Landlock answers before the read-only mount is asked; either is a wall.
    assert inside("write_file", path, grants=Grants(read=(folder,))).errno in ("EACCES", "EROFS")
    assert inside("write_file", path, grants=Grants(write=(folder,))).errno is None
    assert outside("write_file", path).errno is None
    assert (folder / "file").read_text() == "contentxx"


@pytest.mark.parametrize("path", ["/usr/x", "/etc/x", "/x", "/.dativo/x"])
def test_the_root_cannot_be_written(inside: Run, path: str) -> None:
    assert inside("write_file", path).errno in ("EACCES", "EROFS")


def test_stage_2_cannot_be_changed(inside: Run) -> None:
    """Not even where it belongs to the user who runs it; that it runs (ETXTBSY) is no wall."""
    assert inside("change_mode", "/.dativo/confine").errno == "EROFS"
    assert inside("write_file", "/.dativo/confine").errno in ("EACCES", "EROFS", "ETXTBSY")


def test_a_bind_is_seen_under_its_own_name(inside: Run, folder: Path) -> None:
    found = inside("write_file", "/staging/file", binds=((folder, "/staging", True),))
    assert found.errno is None
    assert (folder / "file").read_text() == "contentx"


def test_private_files(inside: Run, folder: Path) -> None:
    files = (
        PrivateFile("/tmp/a/config.json", b"{}"),
        PrivateFile("/run/secrets/key", b"k" * 30000),
    )
    assert inside("read_file", "/tmp/a/config.json", files=files).value == "{}"
    assert len(inside("read_file", "/run/secrets/key", files=files).value) == 30000
    assert inside("write_file", "/tmp/a/config.json", files=files).errno is None


def test_a_granted_read_is_not_executable(inside: Run, start: Callable[..., object]) -> None:
    assert inside("run_stage").errno == "EACCES"


def test_set_uid_programs_gain_nothing(inside: Run, outside: Run) -> None:
    assert inside("set_uid_run").value == "1"
    assert outside("set_uid_run").value == "0"


# --- processes and the kernel --------------------------------------------------------------------------------------


def test_other_processes_are_not_there(inside: Run, outside: Run) -> None:
    found = inside("processes").value
    assert found[0] == 1
    assert len(found) == 2
    assert os.getpid() in outside("processes").value
    assert inside("kill_zero", str(os.getpid())).errno == "ESRCH"


def test_never_root(inside: Run) -> None:
    found = inside("identity").value
    assert 0 not in found
    if os.geteuid() == 0:
        assert min(found) > 1879048192


def test_stage_2_shows_nothing(inside: Run, outside: Run) -> None:
    grants = Grants(environment=(("TOKEN", "a-secret-value"),))
    assert inside("read_file", "/proc/1/environ", grants=grants).errno in ("EACCES", "EPERM")
    cmdline = inside("read_file", "/proc/1/cmdline", grants=grants).value
    assert cmdline.startswith("/.dativo/confine\0stage2\0")
    assert "secret" not in cmdline
    assert (
        inside("read_file", "/proc/self/environ", grants=grants).value.count("a-secret-value") == 1
    )
    assert outside("read_file", "/proc/self/environ").errno is None


def test_only_the_descriptors_that_were_handed_over(inside: Run, outside: Run) -> None:
    inherited = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        assert inside("descriptors").value == [0, 1, 2]
        left, right = socket.socketpair()
        with left, right:
            assert inside("descriptors", control=right.fileno()).value == [0, 1, 2, 3]
    finally:
        os.close(inherited)


def test_the_environment_is_what_was_granted(
    inside: Run, outside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHERS_OWN", "x")
    found = inside("environment", grants=Grants(environment=(("GIVEN", "y"),))).value
    found.pop("LC_CTYPE", None)  # set by Python itself for the C locale
    assert set(found) == {"HOME", "TMPDIR", "LANG", "PATH", "GIVEN"}
    assert outside("environment").value["LAUNCHERS_OWN"] == "x"


def test_signals_are_reset(inside: Run) -> None:
    assert inside("signals").value == [0]


def test_what_connectors_need_works(inside: Run) -> None:
    assert inside("threads_and_pools").value == 60
