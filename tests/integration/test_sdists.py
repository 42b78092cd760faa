"""Packages without a wheel: built behind the walls, locked by the hash of the sdist; hostile builds get nothing."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import socket
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from tests.integration.conftest import plain_flags
from tests.integration.test_install import Site, wheel

from dativo.kernel import install
from dativo.kernel.registry import Installed
from dativo.protocol.errors import ConfigError, DativoError, LimitExceeded
from dativo.sandbox import Walls

BACKEND = """
import base64, hashlib, os, zipfile
{act}
NAME, VERSION = {name!r}, {version!r}

def get_requires_for_build_wheel(config_settings=None):
    return {wants!r}

def build_wheel(folder, config_settings=None, metadata_directory=None):
    {when}
    stem = NAME.replace("-", "_") + "-" + VERSION
    files = {{
        "tap_own/__init__.py": "def main():\\n    print('hello')\\n",
        f"{{stem}}.dist-info/METADATA": f"Metadata-Version: 2.1\\nName: {{NAME}}\\nVersion: {{VERSION}}\\n{more}",
        f"{{stem}}.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{{stem}}.dist-info/entry_points.txt": "[console_scripts]\\ntap-own = tap_own:main\\n",
    }}
    {spoil}
    record = ""
    name = f"{{stem}}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for path, text in files.items():
            data = text.encode()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{{path}},sha256={{digest}},{{len(data)}}\\n"
            archive.writestr(path, data)
        archive.writestr(f"{{stem}}.dist-info/RECORD", record + f"{{stem}}.dist-info/RECORD,,\\n")
    print("the backend speaks")
    return name
"""
PYPROJECT = """
[build-system]
requires = {requires}
build-backend = "own_backend"
backend-path = ["."]
"""


def sdist(
    folder: Path,
    *,
    name: str = "tap-own",
    version: str = "1.0",
    act: str = "",
    when: str = "pass",
    spoil: str = "pass",
    requires: str = "[]",
    wants: tuple[str, ...] = (),
    more: str = "",
    inside: dict[str, str] | None = None,
) -> Path:
    """Write an sdist whose own backend acts when it is imported (``act``) or asked for a wheel (``when``, ``spoil``)."""
    stem = f"{name.replace('-', '_')}-{version}"
    backend = BACKEND.format(
        act=act, when=when, name=name, version=version, wants=list(wants), more=more, spoil=spoil
    )
    files = {
        "PKG-INFO": f"Metadata-Version: 1.0\nName: {name}\nVersion: {version}\n",
        "pyproject.toml": PYPROJECT.format(requires=requires),
        "own_backend.py": backend,
        # What every other installer would execute at once.
        "setup.py": act or "raise SystemExit('not asked')",
        **(inside or {}),
    }
    file = folder / f"{stem}.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{stem}/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return file


class Shop(Site):
    """A site that installs from a folder of sdists and wheels."""

    @property
    def folder(self) -> Path:
        return Path(self.env["UV_FIND_LINKS"])

    def add(self, reference: str = "singer:tap-own", *, locked: bool = False) -> Installed:
        self.said.clear()
        return install.add(
            reference,
            self.paths,
            self.workspace,
            locked=locked,
            env=self.env,
            walls=Walls(cgroup="degraded" if plain_flags() else "required"),
            progress=self.said.append,
        )

    @property
    def builds(self) -> int:
        return sum("Building" in line for line in self.said)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    folder = tmp_path / "shelf"
    folder.mkdir()
    return Shop(tmp_path / "site", UV_NO_INDEX="1", UV_FIND_LINKS=str(folder))


def test_an_sdist_is_built_locked_and_installed(shop: Shop, tmp_path: Path) -> None:
    file = sdist(shop.folder)
    found = shop.add()
    assert (found.version, Path(found.argv[-1]).name, shop.builds) == ("1.0", "tap-own", 1)
    entry = shop.entry("singer:tap-own")
    assert entry.built == {"tap-own": ()}
    assert entry.requirements == (f"tap-own==1.0 --hash=sha256:{_sha256(file)}",)
    # Another machine builds the same files, and asks nobody for versions.
    other = Shop(tmp_path / "other", UV_NO_INDEX="1", UV_FIND_LINKS=str(shop.folder))
    other.lock.write_bytes(shop.lock.read_bytes())
    assert other.add(locked=True).version == found.version
    assert other.builds == 1
    assert other.lock.read_bytes() == shop.lock.read_bytes()
    # What was built is kept: an installation that is gone is made again without a build.
    assert install.remove(entry, shop.paths)
    shop.add()
    assert shop.builds == 0
    assert not list((shop.paths.cache / "built").glob("tmp*"))


def test_a_dependency_and_what_builds_it(shop: Shop) -> None:
    wheel(shop.folder, "tool", "2.0", {"tool.py": "WORD = 'made'\n"})
    wheel(shop.folder, "late", "3.0", {"late.py": ""})
    wheel(
        shop.folder,
        "tap-front",
        "1.0",
        {
            "front.py": "def main() -> None: ...\n",
            "tap_front-1.0.dist-info/entry_points.txt": "[console_scripts]\ntap-front = front:main\n",
        },
        requires="tap-own>=0.5",
    )
    sdist(
        shop.folder,
        act="import tool",
        when="import late",
        requires='["tool>=1"]',
        wants=("late",),
    )
    assert shop.add("singer:tap-front").version == "1.0"
    built = shop.entry("singer:tap-front").built
    assert [line.split(" ")[0] for line in built["tap-own"]] == ["late==3.0", "tool==2.0"]


def test_wheels_alone_build_nothing(shop: Shop) -> None:
    sdist(shop.folder, version="2.0", act="raise SystemExit('built')")
    contents = {
        "tap_own/__init__.py": "def main() -> None: ...\n",
        "tap_own-1.0.dist-info/entry_points.txt": "[console_scripts]\ntap-own = tap_own:main\n",
    }
    wheel(shop.folder, "tap-own", "1.0", contents)
    assert (shop.add().version, shop.builds) == ("1.0", 0)
    assert "built" not in json.loads(shop.lock.read_text())["plugins"]["singer:tap-own"]


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of this machine that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


BOMB = """
import os, time
children = 0
while children < 5000:
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    children += 1
"""

# The descriptor of the answer is not told to a backend; it is found by trying.
FLOOD = """
import os
for fd in range(3, 20):
    try:
        os.write(fd, b'{}\\n')
        while True:
            os.write(fd, b'x' * 65536)
    except OSError:
        pass
"""

HOSTILE = {
    "reads a key of ours": ("open({key!r}).read()", "FileNotFoundError"),
    "writes outside": (
        "open({outside!r}, 'w').write('x'); raise RuntimeError('wrote')",
        "No such file|Read-only|wrote",
    ),
    "writes into its interpreter": (
        "import os, sys; open(os.path.join(sys.prefix, 'x'), 'w')",
        "Read-only|Permission",
    ),
    "writes into the sdist": (
        "import sys; open(sys.argv[2], 'r+b').write(b'x')",
        "Read-only|denied",
    ),
    "dials out": (
        "import socket; socket.create_connection(('127.0.0.1', {port}), 5)",
        "refused|unreachable|not permitted|denied",
    ),
    "asks a name": (
        "import socket; socket.getaddrinfo('example.com', 443)",
        "name resolution|not known|[Tt]emporary failure",
    ),
    "forks without end": (BOMB, "unavailable|limit|refused"),
    "becomes somebody": ("import os; os.setuid(0)", "not permitted|Invalid argument"),
    "says nothing": ("import os; os._exit(0)", "JSON|no answer|names no"),
    "fails": ("raise RuntimeError('\\x1b[31mmy own words')", r"\\x1b\[31mmy own words"),
}


@pytest.mark.parametrize("act", HOSTILE)
def test_a_hostile_build_gets_nothing(shop: Shop, tmp_path: Path, listener: int, act: str) -> None:
    key = tmp_path / "id_ed25519"
    key.write_text("secret")
    outside = tmp_path / "outside"
    code, says = HOSTILE[act]
    code = code.format(key=str(key), outside=str(outside), port=listener)
    sdist(shop.folder, act=code)
    with pytest.raises((ConfigError, LimitExceeded)) as error:
        shop.add()
    assert "building tap-own 1.0" in str(error.value)
    assert re.search(says, str(error.value)), str(error.value)
    assert not outside.exists()
    assert_nothing_is_left(shop)


def assert_nothing_is_left(shop: Shop) -> None:
    assert not shop.lock.exists()
    assert not list(shop.paths.plugins.glob("*/*"))
    assert not list((shop.paths.cache / "built").rglob("*"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"when": "global NAME; NAME = 'tap-other'"}, "is not a wheel of tap-own 1.0"),
        ({"when": "global VERSION; VERSION = '9.0'"}, "is not a wheel of tap-own 1.0"),
        ({"spoil": "files['../../escape.py'] = 'x'"}, "is not a path below it"),
        ({"spoil": "files['/etc/cron.d/x'] = 'x'"}, "is not a path below it"),
        ({"spoil": "files[stem + '.dist-info/METADATA'] = 'Name: x'"}, "its METADATA"),
        ({"spoil": "return '/etc/passwd'"}, "names no wheel"),
        ({"spoil": "return 'nowhere.whl'"}, "No such file"),
    ],
)
def test_a_wheel_that_is_not_the_one_asked_for(
    shop: Shop, changes: dict[str, str], says: str
) -> None:
    """Each way of lying inside of a wheel: tests/unit/kernel/test_wheel.py."""
    sdist(shop.folder, **changes)  # type: ignore[arg-type]  # as the table has it
    with pytest.raises(ConfigError, match=says) as error:
        shop.add()
    assert "building tap-own 1.0" in str(error.value)
    assert_nothing_is_left(shop)


def test_a_build_that_floods_is_stopped(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from dativo.kernel import limits

    monkeypatch.setattr(limits, "WHEEL_BYTES", 1 << 20)
    sdist(shop.folder, act=FLOOD)
    with pytest.raises(LimitExceeded, match="gave more than 1048576 bytes"):
        shop.add()


def test_requirements_of_a_build_are_names_only(shop: Shop) -> None:
    sdist(shop.folder, requires='["tool @ file:///etc/passwd"]')
    with pytest.raises(ConfigError, match="not of the index"):
        shop.add()


def test_paths_of_an_sdist_lead_nowhere(shop: Shop, tmp_path: Path) -> None:
    sdist(shop.folder, inside={"../../../../../../../.." + str(tmp_path / "escaped"): "x"})
    with pytest.raises(DativoError, match="building tap-own"):
        shop.add()
    assert not (tmp_path / "escaped").exists()


def test_an_sdist_that_changed_after_locking_is_refused(shop: Shop, tmp_path: Path) -> None:
    sdist(shop.folder)
    shop.add()
    sdist(shop.folder, inside={"more.txt": "x"})
    other = Shop(tmp_path / "other", UV_NO_INDEX="1", UV_FIND_LINKS=str(shop.folder))
    other.lock.write_bytes(shop.lock.read_bytes())
    with pytest.raises(ConfigError, match="another sdist"):
        other.add(locked=True)


class Index(BaseHTTPRequestHandler):
    """A package index that asks for a password, and hands out files from another port."""

    shelf: Path
    store: str
    seen: ClassVar[list[tuple[str, str | None]]]

    def do_GET(self) -> None:
        password = self.headers.get("Authorization")
        self.seen.append((self.path, password))
        if self.connection.getsockname()[1] == int(self.store.rpartition(":")[2]):
            self.answer(200, (self.shelf / Path(self.path).name).read_bytes())
        elif password != "Basic " + base64.b64encode(b"me:pa@ss").decode():
            self.answer(401, b"", ("WWW-Authenticate", "Basic realm=x"))
        elif self.path.startswith("/files/"):
            self.answer(302, b"", ("Location", f"{self.store}{self.path}"))
        elif self.path == "/simple/tap-own/":
            (file,) = self.shelf.iterdir()
            line = f"<a href='/files/{file.name}#sha256={_sha256(file)}'>{file.name}</a>"
            self.answer(200, line.encode(), ("Content-Type", "text/html"))
        else:
            self.answer(404, b"")

    def answer(self, status: int, data: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(data)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None: ...


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_an_index_with_a_password(tmp_path: Path) -> None:
    """It goes to the index, and not on to where the index sends us."""
    (tmp_path / "shelf").mkdir()
    file = sdist(tmp_path / "shelf")

    class Here(Index):
        shelf = tmp_path / "shelf"
        seen: ClassVar[list[tuple[str, str | None]]] = []

    with serving(Here) as store, serving(Here) as place:
        Here.store = f"http://{store}"
        site = Shop(
            tmp_path / "site",
            UV_DEFAULT_INDEX=f"http://me:pa%40ss@{place}/simple/",
            UV_CACHE_DIR=str(tmp_path / "cache"),
        )
        site.add()
    fetched = [password for path, password in Here.seen if path == f"/files/{file.name}"]
    assert len(fetched) == 2
    assert [password is None for password in fetched] == [False, True]
    # A password belongs into no lock.
    assert "pa" not in site.lock.read_text().replace("package", "")


def test_a_target_whose_dependencies_are_sdists(tmp_path: Path) -> None:
    """target-jsonl 0.1.4 pins a singer-python that has no wheel, which pins a simplejson with an extension in C."""
    site, other = Shop(tmp_path / "one"), Shop(tmp_path / "other")
    assert site.add("singer:target-jsonl==0.1.4").role == "target"
    assert {"singer-python", "simplejson"} == set(site.entry("singer:target-jsonl").built)
    # Built again elsewhere, from the lock: the same bytes.
    other.lock.write_bytes(site.lock.read_bytes())
    assert other.add("singer:target-jsonl", locked=True).role == "target"
    assert other.builds == 2
    assert other.lock.read_bytes() == site.lock.read_bytes()


def _sha256(file: Path) -> str:
    import hashlib

    return hashlib.sha256(file.read_bytes()).hexdigest()
