"""Sdists of the index: what uv answers, and what is fetched."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dativo.kernel import limits, sdist
from dativo.kernel.sdist import Sdist
from dativo.protocol.errors import ConfigError, LimitExceeded

PYLOCK = """
lock-version = "1.0"
[[packages]]
name = "Tap.Own"
version = "1.0"
sdist = {{ {where}, hashes = {{ sha256 = "{sha256}" }} }}
"""
SHA256 = "ab" * 32


def test_an_address_and_a_path(tmp_path: Path) -> None:
    said = PYLOCK.format(where='url = "https://index.example/tap_own-1.0.tar.gz"', sha256=SHA256)
    found = sdist.from_pylock(said, "tap-own", tmp_path)
    assert found == Sdist("tap-own", "1.0", SHA256, "https://index.example/tap_own-1.0.tar.gz")
    assert found.requirement == f"tap-own==1.0 --hash=sha256:{SHA256}"
    assert found.ending == ".tar.gz"
    said = PYLOCK.format(where='path = "../shelf/tap_own-1.0.zip"', sha256=SHA256)
    found = sdist.from_pylock(said, "tap-own", tmp_path / "cache")
    assert (found.address, found.ending) == ((tmp_path / "shelf/tap_own-1.0.zip").as_uri(), ".zip")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "packages = 3",
        PYLOCK.format(where='url = "x"', sha256=SHA256).replace("sdist", "wheel"),
        PYLOCK.format(where='url = "x"', sha256=SHA256).replace("Tap.Own", "other"),
        PYLOCK.format(where='url = "x"', sha256="short"),
        PYLOCK.format(where='url = "x"', sha256=SHA256).replace(
            '"1.0"\nsdist', '"1 --hash"\nsdist'
        ),
    ],
)
def test_answers_without_an_sdist(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="the index"):
        sdist.from_pylock(text, "tap-own", tmp_path)


def test_an_archive_of_another_kind() -> None:
    with pytest.raises(ConfigError, match="no archive that is known"):
        _ = Sdist("tap-own", "1.0", SHA256, "https://index.example/tap_own-1.0.rpm").ending


def at(file: Path, data: bytes, sha256: str | None = None) -> Sdist:
    file.write_bytes(data)
    return Sdist("tap-own", "1.0", sha256 or hashlib.sha256(data).hexdigest(), file.as_uri())


def test_a_file_by_its_hash(tmp_path: Path) -> None:
    found = sdist.download(at(tmp_path / "a b.tar.gz", b"archive"), tmp_path, {})
    assert (found.read_bytes(), found.stat().st_mode & 0o777) == (b"archive", 0o444)
    with pytest.raises(ConfigError, match="its hash is not"):
        sdist.download(at(tmp_path / "x.tar.gz", b"archive", SHA256), tmp_path, {})


def test_what_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SDIST_BYTES", 100)
    with pytest.raises(LimitExceeded, match="more than 100 bytes"):
        sdist.download(at(tmp_path / "x.zip", bytes(101)), tmp_path, {})


@pytest.mark.parametrize(
    "address", ["ftp://127.0.0.1/x.zip", "x.zip", "data:,x.zip", "file:///nowhere/x.zip"]
)
def test_addresses_that_are_not_opened(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match=r"downloading the sdist of tap-own 1\.0 failed"):
        sdist.download(Sdist("tap-own", "1.0", SHA256, address), tmp_path, {})


@pytest.mark.parametrize(
    ("env", "address", "said"),
    [
        ({}, "https://i.example/x", None),
        ({"UV_DEFAULT_INDEX": "https://i.example/simple"}, "https://i.example/x", None),
        ({"UV_DEFAULT_INDEX": "https://u:p%40@i.example/simple"}, "https://i.example/x", b"u:p@"),
        (
            {"UV_INDEX": "https://a.example own=https://u:p@i.example"},
            "https://i.example/x",
            b"u:p",
        ),
        ({"UV_INDEX_URL": "https://u:p@i.example/"}, "https://i.example:444/x", None),
        ({"UV_INDEX_URL": "https://u:p@i.example/"}, "http://i.example/x", None),
        ({"UV_INDEX_URL": "https://u:p@i.example/"}, "https://i.example.org/x", None),
        ({}, "https://v:w@i.example/x", b"v:w"),
        ({}, "https://n.example/x", b"me:word"),
    ],
)
def test_passwords(tmp_path: Path, env: dict[str, str], address: str, said: bytes | None) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine n.example login me password word\n")
    netrc.chmod(0o600)
    found = sdist._credentials({"HOME": str(tmp_path), **env}, urlsplit(address))
    assert (None if found is None else base64.b64decode(found)) == said


def test_a_netrc_that_is_none(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("nonsense")
    wanted = Sdist("tap-own", "1.0", SHA256, "https://i.example/x.zip")
    with pytest.raises(ConfigError, match=r"\.netrc"):
        sdist.download(wanted, tmp_path, {"HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("env", "host", "proxy"),
    [
        ({}, "index.example", None),
        ({"HTTPS_PROXY": "http://p:1"}, "index.example", "http://p:1"),
        ({"https_proxy": "http://q:1", "HTTPS_PROXY": "http://p:1"}, "index.example", "http://q:1"),
        ({"HTTP_PROXY": "http://p:1"}, "index.example", None),
        ({"ALL_PROXY": "http://p:1"}, "index.example", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a, .example"}, "index.example", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "ndex.example"}, "index.example", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "index.example", None),
    ],
)
def test_proxies(env: dict[str, str], host: str, proxy: str | None) -> None:
    assert sdist._proxy(env, "https", host) == proxy
