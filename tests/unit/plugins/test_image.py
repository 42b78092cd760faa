"""Images, honest and hostile: what a root is made of, and that nothing outside of it is touched."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import platform
import re
import stat
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.images import (
    ARCHITECTURE,
    Built,
    Entry,
    entry,
    folder,
    hard_link,
    image,
    layer,
    link,
    pack,
    write_folder,
    write_tar,
)

from dativo.plugins.image import __main__ as program
from dativo.plugins.image.refusal import Bounds

BOUNDS = Bounds(layers=10, files=1000, bytes=1 << 20, ratio=20, path_bytes=1024)
MACHINE = platform.machine()


class Place:
    """A folder to unpack in, beside one that must stay as it is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.victim = path / "victim"
        write_folder(self.victim, {"file": b"mine", "folder/file": b"mine"})
        self.root = path / "root"
        self.root.mkdir()

    def ask(self, archive: Path, *more: str, bounds: Bounds = BOUNDS) -> tuple[int, dict[str, Any]]:
        said = json.dumps({name: getattr(bounds, name) for name in bounds.__slots__})
        step = "unpack" if more else "describe"
        before = set(os.listdir("/proc/self/fd"))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            status = program.main(step, str(archive), MACHINE, said, *more)
        assert set(os.listdir("/proc/self/fd")) <= before
        return status, json.loads(out.getvalue())

    def unpack(self, built: Built, *, bounds: Bounds = BOUNDS) -> dict[str, Any]:
        archive = write_folder(self.path / "layout", built.layout())
        status, answer = self.ask(archive, str(self.root), built.id, bounds=bounds)
        assert (status == 0) == ("refused" not in answer)
        assert self.found(self.victim) == {"file": "mine", "folder/": "", "folder/file": "mine"}
        assert {file.name for file in self.path.iterdir()} == {"layout", "victim", "root"}
        return answer

    def layers(self, *layers: list[Entry]) -> dict[str, str]:
        """Unpack an image of these layers and return what came out, without /etc."""
        answer = self.unpack(image(*(layer(*entries) for entries in layers)))
        assert "refused" not in answer, answer
        return {k: v for k, v in self.found(self.root).items() if not k.startswith("etc/")}

    def refused(self, *layers: list[Entry], bounds: Bounds = BOUNDS) -> str:
        return str(self.unpack(image(*(layer(*each) for each in layers)), bounds=bounds)["refused"])

    @staticmethod
    def found(root: Path) -> dict[str, str]:
        """Return every path with its content, for links their target."""
        found = {}
        for path in root.rglob("*"):
            name = str(path.relative_to(root))
            if path.is_symlink():
                found[name] = f"-> {os.readlink(path)}"
            elif path.is_dir():
                found[f"{name}/"] = ""
            else:
                found[name] = path.read_text()
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# --- layers ----------------------------------------------------------------------------------------------------------------


def test_later_layers_add_replace_and_take_away(place: Place) -> None:
    assert place.layers(
        [
            folder("a/"),
            entry("a/keep", b"1"),
            entry("a/old", b"1"),
            entry("b", b"file"),
            entry("c/d/e", b"1"),
            link("l", "a"),
        ],
        [
            entry("./a/.wh.old"),
            folder("b"),
            entry("b/inner", b"2"),
            entry("c", b"2"),
            entry("/a/new", b"2"),
        ],
    ) == {
        "a/": "",
        "a/keep": "1",
        "a/new": "2",
        "b/": "",
        "b/inner": "2",
        "c": "2",
        "l": "-> a",
    }


@pytest.mark.parametrize("last", [False, True])
def test_a_whiteout_takes_nothing_of_its_own_layer(place: Place, last: bool) -> None:
    entries = [entry("a/b/new", b"2"), entry("x/own", b"2")]
    whiteouts = [entry("a/.wh.b"), entry("x/.wh..wh..opq")]
    found = place.layers(
        [entry("a/b/old", b"1"), entry("x/old", b"1"), entry("x/deep/old", b"1")],
        entries + whiteouts if last else whiteouts + entries,
    )
    assert found == {"a/": "", "a/b/": "", "a/b/new": "2", "x/": "", "x/own": "2"}


def test_whiteouts_of_nothing_and_of_aufs(place: Place) -> None:
    assert place.layers(
        [entry("a", b"1")],
        [
            entry(".wh.gone"),
            entry("nowhere/.wh.gone"),
            entry("nowhere/.wh..wh..opq"),
            entry(".wh..wh.aufs", b"x"),
            entry(".wh..wh.plnk/1.2", b"x"),
        ],
    ) == {"a": "1"}


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh..."])
def test_a_whiteout_of_a_folder_itself(place: Place, name: str) -> None:
    assert place.refused([entry("a/b", b"1")], [entry(f"a/{name}")]) == (
        "a whiteout of the image names nothing"
    )


def test_links_are_followed_within_the_root(place: Place) -> None:
    found = place.layers(
        [folder("usr/lib"), link("lib", "usr/lib"), link("abs", "/usr/../../usr/lib/./")],
        [
            entry("lib/a", b"1"),
            entry("abs/b", b"2"),
            entry("usr/.wh.none"),
            hard_link("c", "lib/a"),
        ],
    )
    assert found == {
        "usr/": "",
        "usr/lib/": "",
        "usr/lib/a": "1",
        "usr/lib/b": "2",
        "c": "1",
        "lib": "-> usr/lib",
        "abs": "-> /usr/../../usr/lib/./",
    }


@pytest.mark.parametrize("up", ["", "../../../../../../../../../.."])
def test_no_link_leads_out(place: Place, up: str) -> None:
    """What is written, copied or taken away through a link to a folder outside is so within the root."""
    outside = f"{up}{place.victim}"
    inner = str(place.victim)[1:]
    found = place.layers(
        [link("out", outside), entry("out/file", b"theirs"), link("deep/one", "../out")],
        [
            entry("deep/one/second", b"theirs"),
            entry("out/.wh.folder"),
            link("file", f"{outside}/file"),
        ],
        [entry("file", b"plain"), entry("deep/.wh..wh..opq")],
    )
    assert found[f"{inner}/file"] == found[f"{inner}/second"] == "theirs"
    assert found["file"] == "plain"


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([entry("../escape", b"x")], "leads out of it"),
        ([entry("a/../../escape", b"x")], "leads out of it"),
        ([hard_link("a", "../victim/file")], "leads out of it"),
        ([hard_link("a", "{victim}/file")], "a hard link of the image is to no file"),
        ([link("v", "{victim}"), hard_link("a", "v/file")], "a hard link of the image is to no"),
        ([folder("d"), hard_link("a", "d")], "a hard link of the image is to no file"),
        ([hard_link("a", "")], "a hard link of the image is to no file"),
        ([link("a", "b"), link("b", "a"), entry("a/x", b"")], "round in a circle"),
        ([entry("a", b""), entry("a/b", b"")], "leads through a file"),
        ([link("l", "a"), entry("a", b""), entry("l/b", b"")], "leads through a file"),
        ([entry("x" * 256, b"")], "too long"),
        ([entry("x" * 256 + "/y", b"")], "too long"),
        ([entry("/".join("d" * 201), b"")], "too long, or lies too deep"),
        ([link("a", "/".join("d" * 201)), entry("a/x", b"")], "too long, or lies too deep"),
        ([entry("/".join(["d" * 100] * 11), b"")], "a path of more than 1024 bytes"),
        ([link("a", "x" * 4096)], "leads nowhere"),
        ([entry("a", type=b"Q")], "of a kind that is not known"),
        ([entry("a", b"1" * 512, type=tarfile.GNUTYPE_SPARSE)], "not known|no tar file"),
    ],
)
def test_hostile_entries(place: Place, entries: list[Entry], says: str) -> None:
    for info, _ in entries:
        info.linkname = info.linkname.replace("{victim}", str(place.victim))
    assert re.search(says, place.refused(entries))


def test_modes_devices_and_set_uid(place: Place) -> None:
    built = image(
        layer(
            folder("dark"),
            entry("dark/file", b"x", mode=0),
            entry("su", b"x", mode=0o6755),
            entry("dev/null", type=tarfile.CHRTYPE),
            entry("dev/sda", type=tarfile.BLKTYPE),
            entry("pipe", type=tarfile.FIFOTYPE),
            entry("closed", type=tarfile.DIRTYPE, mode=0),
        )
    )
    answer = place.unpack(built)
    assert (answer["devices"], answer["set_uid"]) == (3, 1)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.root.rglob("*")}
    assert modes.items() >= {"dark": 0o755, "file": 0o644, "su": 0o755, "closed": 0o755}.items()
    assert not (place.root / "pipe").exists()
    assert (place.root / "su").stat().st_mtime == 1_600_000_000


@pytest.mark.parametrize("mtime", [-5, 1 << 40, 1.5])
def test_times(place: Place, mtime: float) -> None:
    assert place.layers([entry("a", b"", mtime=mtime)]) == {"a": ""}


def test_etc_is_made_plain(place: Place) -> None:
    place.unpack(
        image(
            layer(
                link("etc/resolv.conf", str(place.victim / "file")),
                folder("etc/hosts"),
                entry("etc/passwd", b"root"),
            )
        )
    )
    etc = Place.found(place.root / "etc")
    expected = {"resolv.conf": "", "hosts": "", "passwd": "root", "group": "", "nsswitch.conf": ""}
    assert etc == expected


def test_etc_that_is_a_link(place: Place) -> None:
    assert "etc" not in place.layers([link("etc", str(place.victim))])
    assert (place.root / "etc").is_dir()
    assert not (place.root / "etc").is_symlink()


# --- bounds ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "bounds", "says"),
    [
        ([entry(f"f{n}", b"") for n in range(11)], {"files": 10}, "more than 10 files"),
        ([entry("/".join("abcdefghijk"), b"")], {"files": 10}, "more than 10 files"),
        ([entry("a", bytes(101))], {"bytes": 100}, "unpacks to more than 100 bytes"),
        (
            [entry("a", bytes(60)), hard_link("b", "a")],
            {"bytes": 100},
            "unpacks to more than 100 bytes",
        ),
        # Written over again and again, it was written all the same.
        ([entry("a", bytes(60)), entry("a", bytes(60))], {"bytes": 100}, "more than 100 bytes"),
    ],
)
def test_bombs(place: Place, entries: list[Entry], bounds: dict[str, int], says: str) -> None:
    assert says in place.refused(entries, bounds=replace(BOUNDS, **bounds))


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_a_layer_that_grows_without_end(
    place: Place, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dativo.plugins.image import layer as layers

    monkeypatch.setattr(layers, "_ALWAYS_BYTES", 4096)
    built = image(layer(entry("zeros", bytes(1 << 19))), packing=packing)
    assert place.unpack(built)["refused"] == "a layer unpacks to more than 20 times its size"


def test_layers_are_counted(place: Place) -> None:
    assert "it has 11 layers" in place.refused(*([entry("a", b"")] for _ in range(11)))
    assert "it has 0 layers" in place.refused()


# --- archives --------------------------------------------------------------------------------------------------------------

SAMPLE = image(layer(entry("a", b"1")), layer(entry("b", b"2")))


@pytest.mark.parametrize("packing", ["", "gzip", "zstd"])
def test_the_same_root_however_it_is_packed(place: Place, packing: str) -> None:
    built = replace(SAMPLE, packing=packing)
    roots = []
    for number, archive in enumerate(
        (
            write_folder(place.path / "folder", built.layout()),
            write_tar(place.path / "layout.tar", built.layout()),
            write_tar(place.path / "saved.tar", built.saved()),
        )
    ):
        root = place.path / f"root{number}"
        root.mkdir()
        assert place.ask(archive)[1]["id"] == built.id
        status, answer = place.ask(archive, str(root), built.id)
        assert (status, answer["id"]) == (0, SAMPLE.id)
        roots.append(Place.found(root))
    assert roots[0] == roots[1] == roots[2]
    assert roots[0]["a"] == "1"


def test_another_image_than_was_described(place: Place) -> None:
    archive = write_folder(place.path / "layout", SAMPLE.layout())
    assert place.ask(archive, str(place.root), "ab" * 32)[1]["refused"] == (
        "the image changed while it was read"
    )


Spoil = Callable[[dict[str, bytes]], None]


def _change(part: bytes, to: bytes) -> Spoil:
    def spoil(files: dict[str, bytes]) -> None:
        (name,) = (name for name, data in files.items() if part in data and "blobs" in name)
        files[name] = files[name].replace(part, to)

    return spoil


def _largest(change: Callable[[bytes], bytes]) -> Spoil:
    """Change a layer, whose name keeps its digest."""

    def spoil(files: dict[str, bytes]) -> None:
        name = next(name for name, data in files.items() if data[:2] == b"\x1f\x8b")
        files[name] = change(files[name])

    return spoil


def _index(change: Callable[[dict[str, Any]], None]) -> Spoil:
    def spoil(files: dict[str, bytes]) -> None:
        said = json.loads(files["index.json"])
        change(said)
        files["index.json"] = json.dumps(said).encode()

    return spoil


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_change(b'"os"', b'"OS"'), "the configuration is not what its digest says"),
        (_change(b"schemaVersion", b"schemaversion"), "is not what its digest says"),
        (_largest(lambda data: pack(b"x" * 1024, "gzip")), "no tar file|content is not what"),
        (_largest(lambda data: data[:-9]), "is damaged"),
        (_largest(lambda data: data[:60]), "damaged"),
        (_largest(lambda data: data + b"trailing"), "is damaged"),
        (_largest(lambda data: gzip.compress(gzip.decompress(data), 9, mtime=1)), "its digest"),
        (_largest(lambda data: b""), "damaged|content is not what"),
        (_index(lambda said: said.pop("manifests")), "`manifests` is missing"),
        (_index(lambda said: said["manifests"].clear()), "it holds no image for linux/"),
        (_index(lambda said: said.update(manifests=["x"])), "`digest` is missing"),
        (
            _index(lambda said: said["manifests"][0].update(digest="sha512:" + "a" * 128)),
            "a digest is not of SHA-256",
        ),
        (
            _index(lambda said: said["manifests"][0].update(digest="sha256:../../x")),
            "a digest is not of SHA-256",
        ),
        (
            _index(lambda said: said["manifests"][0].update(digest="sha256:" + "a" * 64)),
            "is not in the archive",
        ),
        (
            _index(
                lambda said: said["manifests"][0].update(
                    platform={"os": "linux", "architecture": "s390x"}
                )
            ),
            "it holds no image for linux/",
        ),
        (lambda files: files.update({"index.json": b"[" * 100}), "is nested deeper"),
        (lambda files: files.update({"index.json": b"{"}), "is not JSON"),
        (lambda files: files.update({"index.json": b"\xff"}), "is not UTF-8"),
        (lambda files: files.pop("index.json"), "holds neither index.json"),
    ],
)
@pytest.mark.parametrize("form", ["folder", "tar"])
def test_what_is_wrong_with_a_layout(place: Place, spoil: Spoil, says: str, form: str) -> None:
    contents = SAMPLE.layout()
    spoil(contents)
    if form == "folder":
        archive = write_folder(place.path / "layout", contents)
    else:
        archive = write_tar(place.path / "layout.tar", contents)
    status, answer = place.ask(archive, str(place.root), SAMPLE.id)
    assert status == program.REFUSED
    assert re.search(says, answer["refused"]), answer


def test_an_index_in_an_index(place: Place) -> None:
    """As docker save and buildx write it: an index of platforms, with an attestation beside the image."""
    import hashlib

    contents = SAMPLE.layout()
    (descriptor,) = json.loads(contents["index.json"])["manifests"]
    here = {**descriptor, "platform": {"os": "linux", "architecture": ARCHITECTURE}}
    other = {**descriptor, "platform": {"os": "linux", "architecture": "s390x"}}
    attest = {**descriptor, "platform": {"os": "unknown", "architecture": "unknown"}}
    inner = json.dumps({"manifests": [other, here, attest]}).encode()
    sha256 = hashlib.sha256(inner).hexdigest()
    contents[f"blobs/sha256/{sha256}"] = inner
    contents["index.json"] = json.dumps({"manifests": [{"digest": f"sha256:{sha256}"}]}).encode()
    status, answer = place.ask(write_folder(place.path / "layout", contents))
    assert (status, answer["id"]) == (0, SAMPLE.id)


def test_several_images_and_another_machine(place: Place) -> None:
    contents, other = SAMPLE.layout(), image(layer(entry("c", b"3"))).layout()
    manifests = [json.loads(each["index.json"])["manifests"][0] for each in (contents, other)]
    contents = {**other, **contents, "index.json": json.dumps({"manifests": manifests}).encode()}
    answer = place.ask(write_folder(place.path / "two", contents))[1]
    assert answer["refused"].startswith("it holds 2 images")
    foreign = image(layer(entry("c", b"3")), architecture="s390x")
    for name, said in (("one", foreign.layout()), ("two.saved", foreign.saved())):
        answer = place.ask(write_folder(place.path / name, said))[1]
        assert (answer["refused"][:13], answer["value"]) == ("it is not for", "linux/s390x")


def test_what_docker_save_linked(place: Place) -> None:
    contents = SAMPLE.saved()
    first, second = (name for name in contents if name.endswith("layer.tar"))
    entries = [entry(name, data) for name, data in contents.items() if name != second]
    # The same layer twice is a link in old archives; here it leads to a layer of another content.
    entries.append(link(second, f"../{first}"))
    archive = place.path / "saved.tar"
    archive.write_bytes(layer(*entries))
    answer = place.ask(archive, str(place.root), SAMPLE.id)[1]
    assert answer["refused"].startswith("a layer's content is not what")
    archive.write_bytes(layer(*entries[:-1], link(second, second.rpartition("/")[2])))
    answer = place.ask(archive, str(place.root), SAMPLE.id)[1]
    assert answer["refused"] == "links of the archive lead to one another"


def test_a_saved_configuration_of_another_name(place: Place) -> None:
    contents = SAMPLE.saved()
    config = f"{SAMPLE.id}.json"
    contents[config] = contents[config].replace(b'"linux"', b' "linux"')
    answer = place.ask(write_tar(place.path / "saved.tar", contents))[1]
    assert answer["refused"] == "the configuration is not what its name says"


@pytest.mark.parametrize("how", ["link", "pipe", "folder"])
def test_a_layout_reaches_no_other_file(place: Place, how: str) -> None:
    archive = write_folder(place.path / "layout", SAMPLE.layout())
    blob = archive / "blobs/sha256" / SAMPLE.id
    blob.rename(place.path / "moved")
    if how == "link":
        blob.symlink_to(place.path / "moved")
    elif how == "pipe":
        os.mkfifo(blob)
    else:
        blob.mkdir()
    answer = place.ask(archive)[1]
    assert "file of the archive" in answer["refused"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "neither a folder nor a tar file"),
        (b"x" * 5000, "neither a folder nor a tar file"),
        (gzip.compress(b"x", mtime=0), "compressed as a whole"),
        (layer(entry("index.json", b"{}"), entry("index.json", b"{}")), "in the archive twice"),
        (layer(entry("index.json", b"x" * 9000))[:6000], "neither|too early"),
        (layer(entry("index.json", b" " * (5 << 20))), "index.json has more than"),
    ],
)
def test_archives_that_are_none(place: Place, data: bytes, says: str) -> None:
    archive = place.path / "image.tar"
    archive.write_bytes(data)
    assert re.search(says, place.ask(archive)[1]["refused"])


# --- configuration ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "program_found"),
    [
        ({"Entrypoint": ["run", "x"], "Env": ["PATH=/nowhere:/opt/bin"]}, "/opt/bin/run"),
        ({"Entrypoint": ["run"]}, None),
        ({"Entrypoint": ["linked"]}, "/usr/bin/linked"),
        ({"Entrypoint": ["/opt/bin/run"]}, "/opt/bin/run"),
        ({"Entrypoint": ["bin/run"], "WorkingDir": "/opt/"}, "/opt/bin/run"),
        ({"Entrypoint": ["data"], "Env": ["PATH=/opt/bin"]}, None),
        ({"Entrypoint": ["round"], "Env": ["PATH=/opt/bin"]}, None),
        ({"Entrypoint": ["/etc/passwd"]}, None),
        ({"Env": ["AIRBYTE_ENTRYPOINT=/opt/bin/run 'a b'"]}, "/opt/bin/run"),
        ({"Cmd": ["/opt/bin/run"]}, None),
    ],
)
def test_the_program(place: Place, config: dict[str, Any], program_found: str | None) -> None:
    files = layer(
        entry("opt/bin/run", b"", mode=0o755),
        entry("opt/bin/data", b""),
        link("opt/bin/round", "round"),
        link("usr/bin/linked", "../../opt/bin/../bin/run"),
    )
    assert place.unpack(image(files, config=config))["program"] == program_found


def test_how_it_wants_to_be_run(place: Place) -> None:
    said = {
        "Env": ["A=1", "B=x=y", "A=2"],
        "Entrypoint": ["/x"],
        "Cmd": ["y"],
        "WorkingDir": "//srv//app/",
        "User": "root",
        "Labels": {"io.airbyte.name": "airbyte/source-x"},
    }
    answer = place.unpack(image(layer(entry("a", b"")), config=said))
    assert answer["config"] == {
        "entrypoint": ["/x"],
        "command": ["y"],
        "environment": {"A": "2", "B": "x=y"},
        "folder": "/srv/app",
        "user": "root",
        "labels": {"io.airbyte.name": "airbyte/source-x"},
    }
    assert (place.root / "srv/app").is_dir()


@pytest.mark.parametrize(
    "config",
    [
        {"Env": "A=1"},
        {"Env": ["A"]},
        {"Env": ["=1"]},
        {"Env": ["A=\0"]},
        {"Entrypoint": "sh -c"},
        {"Entrypoint": [1]},
        {"Cmd": {"x": 1}},
        {"WorkingDir": "../.."},
        {"WorkingDir": "/a/../.."},
        {"WorkingDir": 1},
        {"User": 0.5},
        {"Labels": ["x"]},
        {"Labels": {"x": 1}},
        {"Env": ["AIRBYTE_ENTRYPOINT='"]},
    ],
)
def test_malformed_configurations(place: Place, config: dict[str, Any]) -> None:
    answer = place.unpack(image(layer(entry("a", b"")), config=config))
    assert "malformed" in answer["refused"] or "no plain path" in answer["refused"]


# --- any bytes -------------------------------------------------------------------------------------------------------------

NAMES = st.lists(
    st.sampled_from(["a", "b", "l", "..", ".", "", ".wh.a", ".wh..wh..opq", ".wh.", "etc"]),
    min_size=1,
    max_size=4,
).map("/".join)
ENTRIES = st.lists(
    st.one_of(
        NAMES.map(lambda name: entry(name, b"x")),
        NAMES.map(folder),
        st.tuples(NAMES, NAMES).map(lambda pair: link(*pair)),
        st.tuples(NAMES, NAMES).map(lambda pair: link(pair[0], "/" + pair[1])),
        st.tuples(NAMES, NAMES).map(lambda pair: hard_link(*pair)),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(layers=st.lists(ENTRIES, min_size=1, max_size=3))
def test_any_entries_stay_within(
    layers: list[list[Entry]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Place(tmp_path_factory.mktemp("any"))
    place.unpack(image(*(layer(*entries) for entries in layers)))


@settings(deadline=None)
@given(places=st.lists(st.tuples(st.floats(0, 0.999999), st.integers(0, 255)), max_size=5))
def test_any_bytes_of_an_archive(
    places: list[tuple[float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Place(tmp_path_factory.mktemp("bytes"))
    archive = write_tar(place.path / "layout.tar", SAMPLE.layout())
    data = bytearray(archive.read_bytes())
    for where, value in places:
        data[int(where * len(data))] = value
    archive.write_bytes(data)
    status, answer = place.ask(archive, str(place.root), SAMPLE.id)
    assert status == 0 or answer["refused"]


@settings(deadline=None)
@given(places=st.lists(st.tuples(st.floats(0, 0.999999), st.integers(0, 255)), max_size=5))
def test_any_bytes_of_a_layer(
    places: list[tuple[float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Place(tmp_path_factory.mktemp("bytes"))
    data = bytearray(layer(entry("a", b"1"), link("b", "a"), hard_link("c", "a"), folder("d")))
    for where, value in places:
        data[int(where * len(data))] = value
    place.unpack(image(bytes(data)))
