"""From a name to a program: the workspace's plugins, dativo's own, and what is refused."""

import sys
from pathlib import Path

import pytest

from dativo.kernel import manifest, registry
from dativo.kernel.lock import Locked, save_lock
from dativo.kernel.paths import Paths
from dativo.protocol.errors import ConfigError

MANIFEST = """\
name: mine
version: 0.1.0
type: reader
language: python
protocol: airbyte
entry_point: {file: source.py}
api_version: "1"
"""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths.from_environment({"DATIVO_HOME": str(tmp_path / "home")})


def workspace(tmp_path: Path, text: str = MANIFEST) -> Path:
    folder = tmp_path / "workspace"
    (folder / "plugins/mine").mkdir(parents=True)
    (folder / "plugins/mine/plugin.yaml").write_text(text)
    (folder / "plugins/mine/source.py").write_text("print()\n")
    return folder


@pytest.mark.parametrize("reference", ["mine", "./plugins/mine", "plugins/mine/"])
def test_a_plugin_of_the_workspace(tmp_path: Path, paths: Paths, reference: str) -> None:
    folder = workspace(tmp_path)
    found = registry.find_source(reference, folder, paths)
    assert (found.kind, found.dialect, found.version) == ("airbyte", "airbyte", "0.1.0")
    assert found.argv[-1] == str(folder / "plugins/mine/source.py")
    assert folder / "plugins/mine" in found.runtime
    (folder / "plugins/mine/source.py").write_text("print(1)\n")
    assert registry.find_source(reference, folder, paths).digest != found.digest


def test_a_target_of_the_workspace(tmp_path: Path, paths: Paths) -> None:
    folder = workspace(tmp_path, MANIFEST.replace("type: reader", "type: writer"))
    found = registry.find_target("mine", folder, paths)
    assert (found.role, found.dialect) == ("target", "airbyte")
    assert registry.find_plugin("mine", folder, paths) == found
    with pytest.raises(ConfigError, match="mine is a target, not a source"):
        registry.find_source("mine", folder, paths)


def test_a_source_is_no_target(tmp_path: Path, paths: Paths) -> None:
    with pytest.raises(ConfigError, match="mine is a source, not a target"):
        registry.find_target("mine", workspace(tmp_path), paths)
    with pytest.raises(ConfigError, match="iceberg is a target, not a source"):
        registry.find_source("iceberg", tmp_path, paths)


def test_the_repositorys_own_example(paths: Paths) -> None:
    examples = Path(__file__).parents[3] / "examples"
    assert registry.find_source("./plugins/resumable", examples, paths).dialect == "airbyte"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("type: reader", "type: transformer", "cannot be started yet"),
        ("protocol: airbyte", "protocol: native", "not built yet"),
        ("protocol: airbyte", "dependencies: [x]\nprotocol: singer", "not built yet"),
        ("{file: source.py}", "{module: a.b}", "not by `module`"),
        ("{file: source.py}", "{file: none.py}", "is not a file beside"),
        ("{file: source.py}", "{file: ../../job.yaml}", "is not a file beside"),
        ("{file: source.py}", "{file: /usr/bin/env}", "is not a file beside"),
        ("{file: source.py}", "{executable: source.py}", "is not executable"),
        ("{file: source.py}", "{file: a, executable: b}", "exactly one of"),
        ('api_version: "1"', 'api_version: "2"', "version 2 of the plugin interface"),
        ('api_version: "1"', 'api_version: "1.7"', "version 1.7 of the plugin interface"),
        (
            'api_version: "1"',
            'api_version: "1"\ncompatibility: {platform_min: "99"}',
            "does not work with",
        ),
        (
            'api_version: "1"',
            'api_version: "1"\ncompatibility: {platform_max: "0.0.1"}',
            "does not work with",
        ),
        ("name: mine", "nane: mine", "unknown key `nane`"),
    ],
)
def test_what_a_manifest_may_not_say(
    tmp_path: Path, paths: Paths, before: str, after: str, message: str
) -> None:
    folder = workspace(tmp_path, MANIFEST.replace(before, after))
    with pytest.raises(ConfigError, match=message) as error:
        registry.find_source("mine", folder, paths)
    assert str(error.value.where.file).endswith("plugin.yaml")


def test_outside_the_workspace_is_refused(tmp_path: Path, paths: Paths) -> None:
    folder = workspace(tmp_path)
    (folder / "link").symlink_to("/usr")
    for reference in ("../x", "/usr/x", "./link/x", "./plugins/../../x"):
        with pytest.raises(ConfigError, match="outside the workspace"):
            registry.find_source(reference, folder, paths)
    with pytest.raises(ConfigError, match="there is no connector nobody"):
        registry.find_source("nobody", folder, paths)


def test_not_locked_not_installed_and_versions_in_a_job(tmp_path: Path, paths: Paths) -> None:
    with pytest.raises(ConfigError, match=r"is not in dativo\.lock") as error:
        registry.find_source("singer:tap-x", tmp_path, paths)
    assert error.value.hint == "dativo plugin add singer:tap-x"
    entry = Locked(
        reference="singer:tap-x",
        kind="singer",
        package="tap-x",
        version="1.0",
        requested="",
        newest=None,
        python="3.11",
        script="tap-x",
        requirements=(f"tap-x==1.0 --hash=sha256:{'ab' * 32}",),
    )
    save_lock(tmp_path / "dativo.lock", {"singer:tap-x": entry})
    with pytest.raises(ConfigError, match="locked but not installed"):
        registry.find_source("singer:tap-x", tmp_path, paths)
    with pytest.raises(ConfigError, match=r"comes from dativo\.lock"):
        registry.find_source("singer:tap-x==1.0", tmp_path, paths)
    (state,) = registry.listing(tmp_path, paths)
    assert (state["reference"], state["state"]) == ("singer:tap-x", "missing")


@pytest.mark.parametrize("name", ["iceberg", "parquet"])
def test_own_targets(name: str) -> None:
    found = registry.find_target(name)
    assert found.argv == (sys.executable, "-I", "-m", f"dativo.plugins.{name}")
    assert not any(path.is_relative_to("/usr") for path in found.runtime)
    with pytest.raises(ConfigError, match="neither Airbyte nor Singer"):
        _ = found.dialect
    module = Path(str(manifest.first_party(name).folder))
    assert any(module.is_relative_to(path) for path in found.runtime) or module.is_relative_to(
        "/usr"
    )


def test_unknown_targets_are_listed() -> None:
    with pytest.raises(ConfigError) as error:
        registry.find_target("iceberk")
    assert "iceberg" in str(error.value.hint)


def test_finding_a_plugin_imports_none() -> None:
    import subprocess

    code = (
        "import sys; from dativo.kernel import registry; registry.find_target('iceberg');"
        "print([m for m in sys.modules if m.startswith('dativo.plugins')])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_executables_come_from_the_named_folder_only(tmp_path: Path) -> None:
    tool = tmp_path / "dativo-writer"
    env = {"DATIVO_BIN_DIR": str(tmp_path), "PATH": str(tmp_path)}
    with pytest.raises(ConfigError, match="dativo-writer is not in"):
        registry.executable("dativo-writer", env)
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert registry.executable("dativo-writer", env) == tool
    with pytest.raises(ConfigError):
        registry.executable("dativo-nothing", {"PATH": str(tmp_path)})
