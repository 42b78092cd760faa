"""Images as connectors: from an archive into the store, and run in the same walls as any other."""

from __future__ import annotations

import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.images import (
    Built,
    entry,
    files,
    folder,
    image,
    layer,
    link,
    shell_files,
    write_folder,
    write_tar,
)
from tests.integration.conftest import Workspace, plain_flags
from tests.integration.test_install import Site

from dativo.kernel import image_install, install, limits, registry, tree
from dativo.kernel.lock import LockedImage, load_lock, lock_text, platform_name
from dativo.kernel.registry import Installed
from dativo.protocol.errors import ConfigError, LimitExceeded
from dativo.sandbox import WallMissing, Walls, roots

SCRIPT = (Path(__file__).parents[1] / "plugins/image_source.sh").read_bytes()
CONFIG = {
    "Entrypoint": ["sh", "/app/source.sh"],
    "Env": ["PATH=/usr/local/bin:/bin", "WHO=image", "HOME=/root", "LD_PRELOAD=/app/none.so"],
    "WorkingDir": "/app",
    "User": "0",
    "Labels": {"io.airbyte.name": "airbyte/source-shop", "io.airbyte.version": "6.2.0"},
}
SHOP = image(layer(*files(shell_files())), layer(*files({"app/source.sh": SCRIPT})), config=CONFIG)


class Shelf(Site):
    """A site that installs images."""

    def put(self, built: Built, name: str = "shop.tar") -> str:
        return f"image:{write_tar(self.workspace / name, built.saved())}"

    def install(
        self, reference: str, *, name: str | None = None, locked: bool = False
    ) -> Installed:
        self.said.clear()
        return image_install.add(
            reference,
            self.paths,
            self.workspace,
            name=name,
            locked=locked,
            walls=Walls(cgroup="degraded" if plain_flags() else "required"),
            progress=self.said.append,
        )

    def image(self, reference: str = "image:shop") -> LockedImage:
        found = load_lock(self.lock)[reference]
        assert isinstance(found, LockedImage)
        return found

    def is_clean(self) -> bool:
        return [file.name for file in self.paths.images.iterdir()] == [".lock"]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    site = Shelf(tmp_path)
    yield site
    if site.paths.images.exists():
        tree.make_removable(site.paths.images)


def test_an_image_is_unpacked_locked_and_found(shelf: Shelf, tmp_path: Path) -> None:
    added = shelf.install(shelf.put(SHOP))
    assert (added.reference, added.version, added.kind) == ("image:shop", "6.2.0", "airbyte")
    assert added.argv == ("/bin/sh", "/app/source.sh")
    assert (added.cwd, added.role) == ("/app", "source")
    assert added.root == shelf.paths.images / SHOP.id / "root"
    assert added == shelf.find("image:shop", verify=True)
    locked = shelf.image()
    assert locked.images == {platform_name(): SHOP.id}
    # Nobody's but ours, and nothing can be written.
    assert added.root is not None
    for path in [added.root, *added.root.rglob("*")]:
        found = path.lstat()
        assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())
        assert path.is_symlink() or not found.st_mode & 0o222
    # Again: nothing is unpacked. From the lock elsewhere, packed in another way: the same.
    shelf.install(shelf.put(SHOP))
    assert not any("Unpacking" in line for line in shelf.said)
    other = Shelf(tmp_path / "other")
    other.lock.write_bytes(shelf.lock.read_bytes())
    archive = write_folder(other.workspace / "Layout.of/it", SHOP.layout())
    again = other.install(f"image:{archive}", name="shop", locked=True)
    assert again.digest == added.digest
    assert other.lock.read_bytes() == shelf.lock.read_bytes()
    tree.make_removable(other.paths.images)
    (listed,) = registry.listing(shelf.workspace, shelf.paths)
    assert (listed["reference"], listed["state"]) == ("image:shop", "installed")
    assert listed["digest"] == added.digest
    assert install.remove(locked, shelf.paths)
    with pytest.raises(ConfigError, match="locked but not installed") as error:
        shelf.find("image:shop")
    assert error.value.hint is not None
    assert "image:ARCHIVE --name shop" in error.value.hint


@pytest.mark.parametrize(
    ("file", "name"),
    [("source-shop.tar", "source-shop"), ("Shop_6.2.tar", "shop-6-2"), ("x", "x")],
)
def test_names(shelf: Shelf, file: str, name: str) -> None:
    assert shelf.install(shelf.put(SHOP, file)).reference == f"image:{name}"


def test_a_name_that_is_none(shelf: Shelf) -> None:
    for name in ("", "Shop", "../x", "a--b", "x" * 129):
        with pytest.raises(ConfigError, match="no name for an image"):
            shelf.install(shelf.put(SHOP), name=name)


def test_a_destination_by_its_label(shelf: Shelf) -> None:
    labels = {"io.airbyte.name": "airbyte/destination-x", "io.airbyte.version": "not one"}
    built = image(SHOP.layers[0], config={**CONFIG, "Labels": labels})
    added = shelf.install(shelf.put(built))
    assert (added.role, added.version) == ("target", f"0+{built.id[:12]}")
    with pytest.raises(ConfigError, match="is a target, not a source"):
        shelf.find("image:shop")


def test_the_digest_covers_what_the_image_says(shelf: Shelf) -> None:
    """The same files with another entrypoint are another artefact, so that no approval of the one is one of the other."""
    one = shelf.install(shelf.put(SHOP))
    built = image(*SHOP.layers, config={**CONFIG, "Entrypoint": ["sh", "-x", "/app/source.sh"]})
    other = shelf.install(shelf.put(built))
    assert one.root != other.root
    assert one.digest != other.digest
    assert shelf.image().images == {platform_name(): built.id}


def test_locked_refuses_another_image(shelf: Shelf) -> None:
    shelf.install(shelf.put(SHOP))
    before = shelf.lock.read_bytes()
    with pytest.raises(ConfigError, match="the lock does not hold this image") as error:
        shelf.install(shelf.put(image(SHOP.layers[0], config=CONFIG)), name="shop", locked=True)
    assert error.value.value is not None
    with pytest.raises(ConfigError, match="the lock does not hold this image"):
        shelf.install(shelf.put(SHOP, "else.tar"), locked=True)
    assert shelf.lock.read_bytes() == before


def test_a_changed_file_stops_the_launch(shelf: Shelf) -> None:
    added = shelf.install(shelf.put(SHOP))
    assert added.root is not None
    script = added.root / "app/source.sh"
    script.chmod(0o755)
    script.write_text("exit 0\n")
    for verify in (False, True):
        with pytest.raises(tree.TreeMismatch, match="was changed") as error:
            shelf.find("image:shop", verify=verify)
        assert error.value.where.file == str(script)


def test_a_lock_with_other_contents_is_refused(shelf: Shelf) -> None:
    reference = shelf.put(SHOP)
    shelf.install(reference)
    found = shelf.image()
    wrong = LockedImage(found.reference, found.version, found.images, {platform_name(): "ab" * 32})
    shelf.lock.write_text(lock_text({"image:shop": wrong}))
    with pytest.raises(tree.TreeMismatch, match="the lock has other contents"):
        shelf.find("image:shop")
    with pytest.raises(tree.TreeMismatch, match="the lock has other contents"):
        shelf.install(reference, locked=True)


def test_an_interrupted_installation_is_made_anew(shelf: Shelf) -> None:
    added = shelf.install(shelf.put(SHOP))
    assert added.root is not None
    (added.root.parent / "record.json").unlink()
    added.root.chmod(0o755)
    (added.root / "rubble").touch()
    left = shelf.paths.images / "staging/root/x"
    left.mkdir(parents=True)
    left.chmod(0o555)
    assert shelf.install(shelf.put(SHOP)).digest == added.digest
    assert not (added.root / "rubble").exists()
    assert not (shelf.paths.images / "staging").exists()


@pytest.mark.parametrize(
    ("built", "says"),
    [
        (image(layer(entry("../escape"))), "is refused: a path of the image leads out of it"),
        (image(layer(entry("a")), architecture="s390x"), "it is not for linux"),
        (image(layer(entry("a")), config={"Cmd": ["sh"]}), "names no entrypoint"),
        (image(layer(entry("a")), config={"Entrypoint": ["sh"]}), "entrypoint is not in it"),
        (image(layer(entry("a")), config={"Env": ["x"]}), "`Env` of its configuration"),
        (
            image(layer(entry("a")), config={"Labels": {"x": "\ud800"}}),
            "malformed",
        ),
        (image(layer(entry("a")), config={"Env": ["X=" + "x" * 200_000]}), "malformed: expected"),
    ],
)
def test_images_that_are_refused(shelf: Shelf, built: Built, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        shelf.install(shelf.put(built))
    assert not shelf.lock.exists()
    assert not (shelf.workspace / "escape").exists()
    assert not list(shelf.paths.images.rglob("record.json"))
    assert not (shelf.paths.images / "staging").exists()


def test_bounds(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = shelf.put(SHOP)
    monkeypatch.setattr(limits, "TREE_FILES", 10)
    with pytest.raises(ConfigError, match="more than 10 files"):
        shelf.install(reference)
    monkeypatch.setattr(limits, "IMAGE_BYTES", 1 << 20)
    with pytest.raises(LimitExceeded, match="has more than 1048576 bytes"):
        shelf.install(reference)
    assert shelf.is_clean()


@pytest.mark.parametrize("what", ["nothing", "empty", "pipe", "compressed"])
def test_archives_that_are_none(shelf: Shelf, what: str) -> None:
    archive = shelf.workspace / "shop.tar"
    if what == "empty":
        archive.mkdir()
    elif what == "pipe":
        os.mkfifo(archive)
    elif what == "compressed":
        with tarfile.open(archive, "w:gz"):
            pass
    with pytest.raises(ConfigError, match=r"cannot be copied|is refused"):
        shelf.install(f"image:{archive}")
    assert shelf.is_clean()


def test_a_layout_that_leads_elsewhere(shelf: Shelf, tmp_path: Path) -> None:
    """A blob that is a link is not followed: as root it could name any file of the machine."""
    archive = write_folder(tmp_path / "layout", SHOP.layout())
    (archive / "blobs/sha256" / SHOP.id).rename(tmp_path / "config")
    (archive / "blobs/sha256" / SHOP.id).symlink_to(tmp_path / "config")
    with pytest.raises(ConfigError, match="cannot be copied"):
        shelf.install(f"image:{archive}")


COMPROMISED = """
import json, os, pathlib, sys
said = {{"entrypoint": ["x"], "command": [], "environment": {{}}, "folder": "/", "user": "", "labels": {{}}}}
answer = {{"id": {id!r}, "config": said}}
if sys.argv[1] == "unpack":
    root = pathlib.Path("/image/root")
    (root / "bin").mkdir()
    (root / "bin/sh").write_text("")
    (root / "bin/sh").chmod(0o777)
    (root / "seen").write_text(repr([path for path in {paths!r} if os.path.exists(path)]))
    {act}
    answer["program"] = "/bin/sh"
print(json.dumps(answer))
"""


@pytest.fixture
def compromise(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], None]:
    """Put a program that does as it likes in the place of the one that unpacks."""
    (tmp_path / "secret").write_text("x")
    paths = [str(tmp_path / "secret"), str(shelf.workspace), str(shelf.paths.images)]

    def put(act: str) -> None:
        code = COMPROMISED.format(id=SHOP.id, paths=paths, act=act)
        python = registry.own_module("x")[0]
        monkeypatch.setattr(registry, "own_module", lambda _: (python, "-c", code))

    return put


def test_a_compromised_unpacker_sees_nothing_else(
    shelf: Shelf, compromise: Callable[[str], None]
) -> None:
    compromise("pass")
    added = shelf.install(shelf.put(SHOP))
    assert added.root is not None
    assert (added.root / "seen").read_text() == "[]"
    assert stat.S_IMODE((added.root / "bin/sh").stat().st_mode) == 0o555


@pytest.mark.parametrize(
    ("act", "says"),
    [
        ("os.mkfifo(root / 'pipe')", "neither a plain file|not permitted"),
        ("os.link(root / 'seen', root / 'second')", "second name"),
        ("os.symlink('/', root / 'etc')", None),
        ("(root / 'bin/sh').chmod(0o6755)", "not permitted"),
        ("os.mknod(root / 'null', 0o20666, os.makedev(1, 3))", "not permitted"),
        ("open('/image/archive', 'r+b')", "Read-only|denied"),
        ("open('/image/new', 'w')", "Read-only|denied"),
    ],
)
def test_a_compromised_unpacker_hides_nothing(
    shelf: Shelf, compromise: Callable[[str], None], act: str, says: str | None
) -> None:
    compromise(act)
    reference = shelf.put(SHOP)
    if says is None:
        # A root that is whole for the store and none for the walls, which look for themselves.
        added = shelf.install(reference)
        with pytest.raises(WallMissing, match="/etc of the image"):
            roots.entries(added.root or Path(), [])
        return
    with pytest.raises((ConfigError, tree.TreeMismatch), match=says):
        shelf.install(reference)
    assert not list(shelf.paths.images.rglob("record.json"))


@pytest.mark.parametrize(
    "code",
    [
        "",
        "print('x')",
        "print('[]')",
        """print('{"id": "../x"}')""",
        "print('\\udcff')",
        "print('x' * (5 << 20))",
        "import sys; sys.exit(3)",
    ],
)
def test_answers_that_are_none(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    python = registry.own_module("x")[0]
    code = f"import sys; sys.stdout.reconfigure(errors='surrogateescape'); {code}"
    monkeypatch.setattr(registry, "own_module", lambda _: (python, "-c", code))
    with pytest.raises((ConfigError, LimitExceeded), match=r"malformed|too much"):
        shelf.install(shelf.put(SHOP))


def test_roots_hold_links_and_odd_names(shelf: Shelf) -> None:
    odd = layer(link("app/out", "/etc/shadow"), entry("app/\udcff \n", b"x"), folder("app/deep/er"))
    added = shelf.install(shelf.put(image(*SHOP.layers, odd, config=CONFIG)))
    assert added == shelf.find("image:shop", verify=True)
    assert added.root is not None
    assert os.readlink(added.root / "app/out") == "/etc/shadow"


def test_json_of_the_lock(shelf: Shelf) -> None:
    shelf.install(shelf.put(SHOP))
    said = json.loads(shelf.lock.read_text())["plugins"]["image:shop"]
    assert set(said) == {"kind", "version", "images", "contents"}


def test_the_verbs_see_what_the_image_asks_for(workspace: Workspace) -> None:
    """Its folder and variables, but for those that the walls set; the run itself: docs/guide/images.md in test_docs.py."""
    write_tar(workspace.folder / "shop.tar", SHOP.layout())
    (workspace.folder / "c.json").write_text('{"rows": "3"}')
    flags = workspace.flags
    added = workspace.dativo("plugin", "add", "image:shop.tar", *flags)
    assert (added.status, "image:shop 6.2.0" in added.stderr) == (0, True), added.stderr
    checked = workspace.dativo("check", "image:shop", "--config", "c.json", *flags)
    assert json.loads(checked.stdout)["message"] == "in /app as image of /tmp"
    for wrong in (("image:shop.tar", "--python", "3.11"), ("singer:tap-x", "--name", "x")):
        assert workspace.dativo("plugin", "add", *wrong, *flags).status == 3


def test_an_image_that_does_not_answer(workspace: Workspace) -> None:
    silent = image(SHOP.layers[0], config={"Entrypoint": ["sh", "-c", "exit 7"]})
    write_tar(workspace.folder / "shop.tar", silent.layout())
    added = workspace.dativo("plugin", "add", "image:shop.tar", *workspace.flags)
    assert added.status == 4
    assert "spec gave no answer (exit status 7)" in added.stderr


DESTINATION = b"""
verb=$1
case $verb in
spec) echo '{"type":"SPEC","spec":{"connectionSpecification":{"type":"object"}}}' ;;
write)
    rows=0
    while read -r line; do
        case $line in
        *'"RECORD"'*) rows=$((rows + 1)) ;;
        *'"STATE"'*) echo "$line" ;;
        esac
    done
    echo "took $rows rows" >&2
    [ $rows = "$ROWS" ]
    ;;
esac
"""


def test_a_destination_in_an_image(workspace: Workspace) -> None:
    """From one image into another, each in a root of its own. It ends well only when it got as many rows as it should."""
    flags = workspace.flags
    write_tar(workspace.folder / "source-shop.tar", SHOP.layout())
    assert workspace.dativo("plugin", "add", "image:source-shop.tar", *flags).status == 0
    for rows in (3, 4):
        taker = image(
            layer(*files(shell_files()), entry("take.sh", DESTINATION)),
            config={"Entrypoint": ["/bin/sh", "/take.sh"], "Env": [f"ROWS={rows}"]},
        )
        write_tar(workspace.folder / "destination-shop.tar", taker.layout())
        added = workspace.dativo("plugin", "add", "image:destination-shop.tar", *flags)
        assert added.status == 0, added.stderr
        workspace.job(
            f"pipeline: shop{rows}\n"
            "source: {connector: 'image:source-shop', config: {rows: '3'}}\n"
            "target: {connector: 'image:destination-shop', config: {}}\n"
        )
        told = workspace.run()
        assert told.status == (0 if rows == 3 else 5), told.stderr
