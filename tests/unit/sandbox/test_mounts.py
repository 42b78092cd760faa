"""What may be mounted where, before anything is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dativo.sandbox import Grants, Identity, Network, PrivateFile, Program, WallMissing
from dativo.sandbox.mounts import View, bubblewrap_options, etc_files, plan_view


def view(
    *,
    read: tuple[Path, ...] = (),
    write: tuple[Path, ...] = (),
    runtime: tuple[Path, ...] = (),
    files: tuple[PrivateFile, ...] = (),
    binds: tuple[tuple[Path, str, bool], ...] = (),
) -> View:
    program = Program("test", ("/usr/bin/true",), runtime=runtime, files=files, binds=binds)
    return plan_view(program, Grants(read=read, write=write))


def insides(found: View) -> list[tuple[str, str]]:
    return [(mount.inside, mount.access) for mount in found.given]


def test_a_granted_path_is_seen_where_it_is(tmp_path: Path) -> None:
    found = view(read=(tmp_path,))
    assert insides(found) == [(str(tmp_path), "read")]
    assert ("read", str(tmp_path)) in found.rules


def test_a_granted_link_is_seen_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (mount,) = view(read=(tmp_path / "link",)).given
    assert (mount.source, mount.inside) == (str(tmp_path / "real"), str(tmp_path / "link"))


def test_outer_mounts_come_first_and_inner_reads_need_none(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    found = view(read=(tmp_path / "a/b", tmp_path))
    assert insides(found) == [(str(tmp_path), "read")]
    found = view(read=(tmp_path,), write=(tmp_path / "a/b",))
    assert insides(found) == [(str(tmp_path), "read"), (str(tmp_path / "a/b"), "write")]


def test_nothing_is_mounted_in_what_the_program_can_write(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    with pytest.raises(WallMissing, match="which the program can write"):
        view(write=(tmp_path,), read=(tmp_path / "inner",))
    with pytest.raises(WallMissing, match="which the program can write"):
        view(write=(tmp_path,), binds=((Path("/usr"), f"{tmp_path}/inner/usr", False),))
    with pytest.raises(WallMissing, match="private file"):
        view(write=(tmp_path,), files=(PrivateFile(f"{tmp_path}/config.json", b""),))


def test_a_link_planted_in_a_writable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(WallMissing):
        view(write=(tmp_path, tmp_path / "link"))
    with pytest.raises(WallMissing, match="another folder"):
        view(read=(tmp_path,), write=(tmp_path / "link",))


def test_a_link_in_a_read_only_mount_leads_to_a_mount_of_its_target(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tree/python").symlink_to(tmp_path / "elsewhere")
    found = view(runtime=(tmp_path / "tree", tmp_path / "tree/python"))
    assert insides(found) == [
        (str(tmp_path / "elsewhere"), "execute"),
        (str(tmp_path / "tree"), "execute"),
    ]


def test_a_bind_covers_what_a_read_only_mount_shows_there(tmp_path: Path) -> None:
    tree, other = tmp_path / "tree", tmp_path / "other"
    tree.mkdir()
    (tree / "file").write_text("hidden")
    (tree / "link").symlink_to(tree / "file")
    other.write_text("shown")
    covering = ((other, str(tree / "file"), False),)
    program = Program("test", ("/usr/bin/true",), runtime=(tree,), binds=covering)
    view = plan_view(program, Grants())
    assert [(mount.source, mount.inside, mount.access) for mount in view.given] == [
        (str(tree), str(tree), "execute"),
        (str(other), str(tree / "file"), "read"),
    ]
    # Nothing can be mounted where there is only a link, or nothing.
    for name in ("link", "missing"):
        program = replace(program, binds=((other, str(tree / name), False),))
        given = plan_view(program, Grants()).given
        assert {mount.inside for mount in given} == {str(tree), str(other)}
    with pytest.raises(WallMissing, match="another folder"):
        plan_view(replace(program, binds=((other, str(tree / "file"), True),)), Grants())


def test_links_within_usr_need_no_mount() -> None:
    assert insides(view(runtime=(Path("/usr/bin/python3"), Path("/bin/sh")))) == []


def test_the_same_path_read_and_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WallMissing, match="asked for twice"):
        view(read=(tmp_path,), write=(tmp_path,))


@pytest.mark.parametrize("path", ["/", "/tmp", "/etc", "/run", "/proc", "/proc/1", "/dev", "/sys"])
def test_what_is_made_for_each_process_cannot_be_given(path: str) -> None:
    with pytest.raises(WallMissing, match="cannot be given"):
        view(read=(Path(path),))


def test_paths_are_plain(tmp_path: Path) -> None:
    with pytest.raises(WallMissing, match="absolute"):
        view(binds=((tmp_path, "staging", True),))
    with pytest.raises(WallMissing, match="absolute"):
        view(binds=((tmp_path, "/a/../staging", True),))
    with pytest.raises(WallMissing, match="No such file"):
        view(read=(tmp_path / "missing",))


@pytest.mark.parametrize("path", ["/etc/x", "/tmp", "/tmp/../etc/x", "/tmpx", "/run//x", "x"])
def test_private_files_lie_below_tmp_or_run(path: str) -> None:
    with pytest.raises(WallMissing, match="below /tmp or /run"):
        view(files=(PrivateFile(path, b""),))


def test_private_content_is_never_shown() -> None:
    assert "secret" not in repr(PrivateFile("/tmp/x", b"secret"))
    assert "secret" not in repr(Grants(environment=(("TOKEN", "secret"),)))


def test_options_make_everything_before_the_root_is_closed(tmp_path: Path) -> None:
    found = view(write=(tmp_path,), files=(PrivateFile("/run/x/config.json", b"12345"),))
    options = bubblewrap_options(
        found,
        Grants(),
        stage2_source="/neutral/confine",
        sources={str(tmp_path): "/neutral/0"},
        fds={"/run/x/config.json": 42, "/etc/passwd": 43},
    )
    text = " ".join(options)
    assert text.endswith("--remount-ro / --chdir /")
    assert f"--bind /neutral/0 {tmp_path}" in text
    assert "--perms 0600 --file 42 /run/x/config.json" in text
    assert "--perms 0444 --file 43 /etc/passwd" in text
    assert text.index("--tmpfs /run") < text.index("--file 42")
    assert text.index("--tmpfs /dev/shm") < text.index("--remount-ro /dev")
    for namespace in ("user", "pid", "ipc", "uts", "net", "cgroup"):
        assert f"--unshare-{namespace} " in text


def test_passwd_names_one_user() -> None:
    passwd = etc_files(Identity(1234, 1235), Grants())["/etc/passwd"].decode()
    assert passwd == "plugin:x:1234:1235:plugin:/tmp:/bin/sh\n"


def test_only_a_network_of_names_has_a_resolver() -> None:
    def files(network: Network | None) -> dict[str, bytes]:
        return etc_files(Identity(1, 1), Grants(network=network))

    assert files(Network(((443, 443),)))["/etc/resolv.conf"] == b"nameserver 127.0.0.1\n"
    for network in (None, Network(loopback=True)):
        assert "/etc/resolv.conf" not in files(network)


def test_protected_paths_lie_in_what_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    real = tmp_path / "real"

    def protected(*paths: Path) -> tuple[tuple[str, str], ...]:
        grants = Grants(read=(Path("/usr/share"),), write=(tmp_path / "link",), protected=paths)
        return plan_view(Program("test", ("/usr/bin/true",)), grants).protected

    assert protected() == ()
    assert protected(real / "deep/x", real / "a") == ((str(real), "deep/x"), (str(real), "a"))
    for outside in (real, tmp_path / "link/deep", Path("/usr/share/doc"), Path("/etc/passwd")):
        with pytest.raises(WallMissing, match="is to be protected"):
            protected(outside)
