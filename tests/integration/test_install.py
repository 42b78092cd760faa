"""Real installations: from the package index, and from hostile wheels in a folder."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from dativo.kernel import install, registry, tree
from dativo.kernel.lock import Locked, load_lock
from dativo.kernel.paths import Paths
from dativo.kernel.registry import Installed
from dativo.protocol.errors import ConfigError


class Site:
    """A home and a workspace."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.workspace = folder / "workspace"
        self.workspace.mkdir(parents=True)
        kept = ("HOME", "SSL_CERT_FILE", "UV_CACHE_DIR", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
        self.env = {k: os.environ[k] for k in kept if k in os.environ}
        self.env |= {"DATIVO_HOME": str(folder / "home"), **env}
        self.paths = Paths.from_environment(self.env)
        self.said: list[str] = []

    def add(self, reference: str, *, locked: bool = False) -> Installed:
        self.said.clear()
        return install.add(
            reference,
            self.paths,
            self.workspace,
            locked=locked,
            env=self.env,
            progress=self.said.append,
        )

    def find(self, reference: str, *, verify: bool = False) -> Installed:
        return registry.find_source(reference, self.workspace, self.paths, verify=verify)

    def entry(self, reference: str) -> Locked:
        found = load_lock(self.lock)[reference]
        assert isinstance(found, Locked)
        return found

    @property
    def lock(self) -> Path:
        return self.workspace / "dativo.lock"


@pytest.fixture(scope="module")
def jsonl(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("jsonl"))
    site.add("singer:tap-jsonl==0.3.1")
    return site


def test_a_tap_from_the_index(jsonl: Site) -> None:
    found = jsonl.find("singer:tap-jsonl")
    assert (found.kind, found.version) == ("singer", "0.3.1")
    about = subprocess.run(
        [*found.argv, "--about", "--format=json"], capture_output=True, check=True
    )
    assert json.loads(about.stdout)["name"] == "tap-jsonl"
    env = Path(found.path[0]).parent
    assert not [p for p in env.rglob("*") if not p.is_symlink() and p.stat().st_mode & 0o222]
    assert [p for p in env.rglob("*.pyc")]


def test_adding_again_asks_nobody_and_changes_nothing(jsonl: Site) -> None:
    before = jsonl.lock.read_bytes()
    for reference in ("singer:tap-jsonl==0.3.1", "singer:tap-jsonl", "singer:tap-jsonl>=0.3"):
        jsonl.add(reference)
        assert jsonl.said == []
    jsonl.add("singer:tap-jsonl", locked=True)
    assert jsonl.lock.read_bytes() == before


def test_another_machine_gets_the_same_contents_from_the_lock(jsonl: Site, tmp_path: Path) -> None:
    other = Site(
        tmp_path, UV_CACHE_DIR=jsonl.env.get("UV_CACHE_DIR", str(jsonl.paths.cache / "uv"))
    )
    other.lock.write_bytes(jsonl.lock.read_bytes())
    found = other.add("singer:tap-jsonl", locked=True)
    assert found.version == "0.3.1"
    assert not any("Resolving" in line for line in other.said)
    assert other.lock.read_bytes() == jsonl.lock.read_bytes()


def test_locked_refuses_what_the_lock_does_not_hold(jsonl: Site) -> None:
    for reference in ("singer:tap-csv", "singer:tap-jsonl==0.3.0"):
        with pytest.raises(ConfigError, match="the lock does not hold"):
            jsonl.add(reference, locked=True)


def test_what_the_index_does_not_have(tmp_path: Path) -> None:
    site = Site(tmp_path, UV_NO_INDEX="1", UV_FIND_LINKS=str(tmp_path))
    with pytest.raises(ConfigError, match="resolving tap-nowhere failed"):
        site.add("singer:tap-nowhere")
    assert not site.lock.exists()


# --- wheels of our own -----------------------------------------------------------------------------------------------------


def wheel(
    folder: Path, name: str, version: str, contents: Mapping[str, str], requires: str = ""
) -> None:
    """Write a wheel whose RECORD is right."""
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    if requires:
        metadata += f"Requires-Dist: {requires}\n"
    parts = {
        **contents,
        f"{stem}.dist-info/METADATA": metadata,
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in parts.items():
        digest = (
            base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        )
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    parts[f"{stem}.dist-info/RECORD"] = record + f"{stem}.dist-info/RECORD,,\n"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        for path, text in parts.items():
            archive.writestr(path, text)


def tap(version: str = "1.0", scripts: str = "tap-own = tap_own:main") -> dict[str, str]:
    return {
        "tap_own/__init__.py": "def main() -> None:\n    print('hello')\n",
        f"tap_own-{version}.dist-info/entry_points.txt": f"[console_scripts]\n{scripts}\n",
    }


@pytest.fixture
def wheels(tmp_path: Path) -> Site:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return Site(tmp_path / "site", UV_NO_INDEX="1", UV_FIND_LINKS=str(folder))


def wheel_folder(site: Site) -> Path:
    return Path(site.env["UV_FIND_LINKS"])


def test_nothing_that_was_downloaded_is_executed(wheels: Site, tmp_path: Path) -> None:
    witness = tmp_path / "executed"
    act = f"import pathlib; pathlib.Path({str(witness)!r}).touch()"
    contents = {
        "own.pth": act + "\n",
        "sitecustomize.py": act + "\n",
        "tap_own/import_me.py": act + "\n",
    }
    wheel(wheel_folder(wheels), "tap-own", "1.0", {**tap(), **contents})
    found = wheels.add("singer:tap-own")
    wheels.add("singer:tap-own")
    wheels.find("singer:tap-own", verify=True)
    assert not witness.exists()
    # The same files do act once the environment's own interpreter is started, so this test can fail.
    done = subprocess.run(found.argv, capture_output=True, text=True, check=True)
    assert done.stdout == "hello\n"
    assert witness.exists()


def test_a_wheel_does_not_replace_the_interpreter(wheels: Site) -> None:
    contents = {**tap(), "tap_own-1.0.data/data/bin/python": "#!/bin/sh\n"}
    wheel(wheel_folder(wheels), "tap-own", "1.0", contents)
    with pytest.raises(ConfigError, match="reserved name `python`"):
        wheels.add("singer:tap-own")
    assert not wheels.lock.exists()


def test_an_address_among_the_dependencies_is_refused(wheels: Site, tmp_path: Path) -> None:
    wheel(tmp_path / "elsewhere", "hidden", "1.0", {"hidden.py": ""})
    address = next((tmp_path / "elsewhere").iterdir()).as_uri()
    wheel(wheel_folder(wheels), "tap-own", "1.0", tap(), requires=f"hidden @ {address}")
    with pytest.raises(ConfigError, match=r"resolving tap-own failed|not a wheel of the index"):
        wheels.add("singer:tap-own")


def test_a_changed_file_stops_the_launch(wheels: Site) -> None:
    wheel(wheel_folder(wheels), "tap-own", "1.0", tap())
    env = Path(wheels.add("singer:tap-own").path[0]).parent
    (module,) = env.glob("lib/python*/site-packages/tap_own/__init__.py")
    module.chmod(0o644)
    module.write_text("def main() -> None:\n    print('hallo')\n")
    for verify in (False, True):
        with pytest.raises(tree.TreeMismatch, match="was changed") as error:
            wheels.find("singer:tap-own", verify=verify)
        assert error.value.where.file == str(module)


def test_an_interrupted_installation_is_built_anew(wheels: Site) -> None:
    wheel(wheel_folder(wheels), "tap-own", "1.0", tap())
    folder = Path(wheels.add("singer:tap-own").path[0]).parent.parent
    (folder / "record.json").unlink()
    (folder / "env/bin").chmod(0o755)
    (folder / "env/bin/rubble").touch()
    wheels.add("singer:tap-own")
    assert any("Installing" in line for line in wheels.said)
    assert not (folder / "env/bin/rubble").exists()


def test_a_lock_with_other_contents_is_refused(wheels: Site) -> None:
    wheel(wheel_folder(wheels), "tap-own", "1.0", tap())
    wheels.add("singer:tap-own")
    document = json.loads(wheels.lock.read_text())
    (platform,) = document["plugins"]["singer:tap-own"]["contents"]
    document["plugins"]["singer:tap-own"]["contents"][platform] = "ab" * 32
    wheels.lock.write_text(json.dumps(document))
    with pytest.raises(tree.TreeMismatch, match="the lock has other contents"):
        wheels.find("singer:tap-own")
    with pytest.raises(tree.TreeMismatch, match="the lock has other contents"):
        wheels.add("singer:tap-own")


def test_a_wheel_that_changed_after_locking_is_refused(wheels: Site, tmp_path: Path) -> None:
    wheel(wheel_folder(wheels), "tap-own", "1.0", tap())
    wheels.add("singer:tap-own")
    wheel(wheel_folder(wheels), "tap-own", "1.0", {**tap(), "tap_own/more.py": "x = 1\n"})
    # A cache of its own: one that both shared would still hold the wheel that was locked.
    other = Site(
        tmp_path / "other",
        UV_NO_INDEX="1",
        UV_FIND_LINKS=wheels.env["UV_FIND_LINKS"],
        UV_CACHE_DIR=str(tmp_path / "cache"),
    )
    other.lock.write_bytes(wheels.lock.read_bytes())
    with pytest.raises(ConfigError, match=r"installing tap-own failed: [\s\S]*[Hh]ash"):
        other.add("singer:tap-own")
    assert not list(other.paths.plugins.glob("*/*/record.json"))


def test_an_older_version_that_resolves_is_noted(wheels: Site) -> None:
    wheel(wheel_folder(wheels), "tap-own", "1.0", tap())
    wheel(wheel_folder(wheels), "tap-own", "2.0", tap("2.0"), requires="nowhere-to-be-found")
    found = wheels.add("singer:tap-own")
    assert found.version == "1.0"
    assert any("the index has 2.0" in line for line in wheels.said)
    (entry,) = registry.listing(wheels.workspace, wheels.paths)
    assert entry["newest"] == "2.0"


@pytest.mark.parametrize(
    ("scripts", "script"),
    [
        ("own = tap_own:main", "own"),
        ("tap-own = tap_own:main\nhelper = tap_own:main", "tap-own"),
        ("tap-other = tap_own:main\nhelper = tap_own:main", "tap-other"),
        ("a = tap_own:main\nb = tap_own:main", None),
        ("", None),
    ],
)
def test_the_console_script_is_found_or_its_absence_named(
    wheels: Site, scripts: str, script: str | None
) -> None:
    wheel(wheel_folder(wheels), "tap-own", "1.0", tap(scripts=scripts))
    if script is None:
        with pytest.raises(ConfigError, match="no command that looks like a connector"):
            wheels.add("singer:tap-own")
        assert not wheels.lock.exists()
    else:
        assert Path(wheels.add("singer:tap-own").argv[-1]).name == script


def test_the_workspace_does_not_steer_the_installer(
    wheels: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(wheel_folder(wheels), "tap-own", "1.0", tap())
    (wheels.workspace / "uv.toml").write_text('index-url = "http://127.0.0.1:9/"\nnonsense = 1\n')
    (wheels.workspace / "pyproject.toml").write_text("[tool.uv]\nnonsense = 1\n")
    (wheels.workspace / ".python-version").write_text("3.99\n")
    monkeypatch.chdir(wheels.workspace)
    assert wheels.add("singer:tap-own").version == "1.0"


def test_removing(wheels: Site) -> None:
    wheel(wheel_folder(wheels), "tap-own", "1.0", tap())
    wheels.add("singer:tap-own")
    entry = wheels.entry("singer:tap-own")
    assert install.remove(entry, wheels.paths)
    assert not install.remove(entry, wheels.paths)
    with pytest.raises(ConfigError, match="locked but not installed"):
        wheels.find("singer:tap-own")
