"""What a build may hand out as a wheel: anything else is refused before an installer sees it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dativo.kernel import limits, wheel

INFO = "tap_own-1.0.dist-info"
METADATA = "Metadata-Version: 2.1\nName: Tap_Own\nVersion: 1.0\n"
ABOUT = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
NAME = "tap_own-1.0-py3-none-any.whl"


def line(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def write(
    folder: Path,
    *,
    name: str = NAME,
    extra: dict[str, bytes] | None = None,
    metadata: str = METADATA,
    info: str = INFO,
    about: str = ABOUT,
    record: str | None = None,
    mode: int = 0,
) -> Path:
    """Write a wheel that is right but for what is asked. ``mode`` is that of the files of ``extra``."""
    parts = {
        "tap_own/__init__.py": b"",
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": about.encode(),
    }
    lines = "".join(
        line(path, data) for path, data in {**parts, **(extra or {})}.items() if path[-1] != "/"
    )
    file = folder / name
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in parts.items():
            archive.writestr(path, data)
        for path, data in (extra or {}).items():
            entry = zipfile.ZipInfo(path)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = mode << 16
            archive.writestr(entry, data)
        archive.writestr(
            f"{info}/RECORD", (lines if record is None else record) + f"{info}/RECORD,,\n"
        )
    return file


def check(file: Path) -> None:
    wheel.check(file, "tap-own", "1.0", "3.11")


def test_a_wheel_that_is_right(tmp_path: Path) -> None:
    check(
        write(tmp_path, extra={"tap_own/data/": b"", "tap_own-1.0.data/scripts/x": b"#!python\n"})
    )


@pytest.mark.parametrize(
    "path",
    ["../escape", "a/../../escape", "/etc/cron.d/x", "./x", "a//b", "a\\..\\b", "x" * 1025],
)
def test_paths_that_lead_elsewhere(tmp_path: Path, path: str) -> None:
    with pytest.raises(wheel.BadWheel, match="not a path below it"):
        check(write(tmp_path, extra={path: b"x"}))


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_what_is_no_file(tmp_path: Path, mode: int) -> None:
    with pytest.raises(wheel.BadWheel, match="neither a file nor a folder"):
        check(write(tmp_path, extra={"tap_own/link": b"/etc/passwd"}, mode=mode | 0o777))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tap_other-1.0-py3-none-any.whl", "is not a wheel of tap-own 1.0"),
        ("tap_own-2.0-py3-none-any.whl", "is not a wheel of tap-own 1.0"),
        ("tap_own-1.0+local-py3-none-any.whl", "is not a wheel of tap-own 1.0"),
        ("tap_own-1.0.whl", "is not the name of a wheel"),
        ("tap_own-1.0-cp27-cp27m-win32.whl", "is not for Python 3.11"),
    ],
)
def test_names(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(wheel.BadWheel, match=says.replace("+", r"\+")):
        check(write(tmp_path, name=name))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"metadata": METADATA.replace("Tap_Own", "tap-other")},
            "its METADATA is that of tap-other",
        ),
        ({"metadata": METADATA.replace("1.0\n", "1.1\n")}, "its METADATA is that of"),
        ({"metadata": METADATA.replace("1.0\n", "one\n")}, "its METADATA says"),
        ({"info": "tap_other-1.0.dist-info"}, "is not of tap-own 1.0"),
        ({"about": "Wheel-Version: 2.0\n"}, "its Wheel-Version is 2.0"),
        ({"extra": {"b-1.dist-info/METADATA": b""}}, "exactly one .dist-info"),
        ({"record": ""}, "is not in RECORD"),
        ({"record": "nowhere,,\n"}, "which is not there"),
        ({"record": '"'}, "RECORD"),
        ({"record": "a,b\n"}, "its RECORD is malformed"),
    ],
)
def test_what_a_wheel_says_of_itself(tmp_path: Path, change: dict[str, object], says: str) -> None:
    with pytest.raises(wheel.BadWheel, match=says):
        check(write(tmp_path, **change))  # type: ignore[arg-type]  # as the table has it


def test_a_file_that_is_not_what_record_says(tmp_path: Path) -> None:
    lines = line("tap_own/__init__.py", b"other") + line(f"{INFO}/METADATA", METADATA.encode())
    with pytest.raises(wheel.BadWheel, match="is not what RECORD says"):
        check(write(tmp_path, record=lines + line(f"{INFO}/WHEEL", ABOUT.encode())))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_there_twice(tmp_path: Path) -> None:
    file = write(tmp_path)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("tap_own/__init__.py", "import os\n")
    with pytest.raises(wheel.BadWheel, match="is in it twice"):
        check(file)


def test_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WHEEL_BYTES", 1 << 20)
    file = write(tmp_path, extra={"tap_own/zeros": bytes(1 << 21)})
    assert file.stat().st_size < 1 << 14
    with pytest.raises(wheel.BadWheel, match="unpacks to more than 1048576 bytes"):
        check(file)


@pytest.mark.parametrize("cut", [0, 10, 200, -1])
def test_damage(tmp_path: Path, cut: int) -> None:
    file = write(tmp_path)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(wheel.BadWheel, match="is damaged"):
        check(file)


@given(places=st.lists(st.tuples(st.floats(0, 0.999999), st.integers(0, 255)), max_size=4))
def test_any_bytes_are_a_wheel_or_refused(
    places: list[tuple[float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = write(tmp_path_factory.mktemp("bytes"))
    data = bytearray(file.read_bytes())
    for place, value in places:
        data[int(place * len(data))] = value
    file.write_bytes(data)
    with contextlib.suppress(wheel.BadWheel):
        check(file)
