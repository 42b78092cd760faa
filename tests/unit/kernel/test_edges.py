"""Folders, quantities, limits, schemas: the tables that must agree with each other and with the docs."""

import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from dativo.kernel import environment, limits, quantities, shapes
from dativo.kernel.contracts import Contract
from dativo.kernel.document import load_yaml
from dativo.kernel.job import load_job
from dativo.kernel.layouts import Layout
from dativo.kernel.lock import Locked, LockedImage, lock_text
from dativo.kernel.paths import Paths
from dativo.protocol.errors import ConfigError
from dativo.protocol.state import Stream

ROOT = Path(__file__).parents[3]

# --- folders and environment -----------------------------------------------------------------------------------------------


def test_folders_of_root_and_of_a_plain_user() -> None:
    root = Paths.from_environment({"HOME": "/root", "XDG_CONFIG_HOME": "/x"}, uid=0)
    assert (str(root.store), str(root.config), str(root.state)) == (
        "/var/lib/dativo",
        "/etc/dativo",
        "/var/lib/dativo/state",
    )
    user = Paths.from_environment({"HOME": "/home/u", "XDG_CONFIG_HOME": "/x"}, uid=1000)
    assert (str(user.store), str(user.config), str(user.state)) == (
        "/home/u/.local/share/dativo",
        "/x/dativo",
        "/home/u/.local/state/dativo",
    )
    both = Paths.from_environment({"DATIVO_HOME": "/t"}, uid=0)
    assert (str(both.store), str(both.config), str(both.state)) == (
        "/t/store",
        "/t/config",
        "/t/state",
    )


@pytest.mark.parametrize(
    "env", [{}, {"HOME": "relative"}, {"DATIVO_HOME": "x"}, {"HOME": "/h", "XDG_STATE_HOME": "x"}]
)
def test_folders_must_be_known_and_absolute(env: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        Paths.from_environment(env, uid=1000)


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    import os

    before = os.umask(0o077)
    try:
        paths = Paths.from_environment({"DATIVO_HOME": str(tmp_path / "d")})
        paths.ensure()
    finally:
        os.umask(before)
    assert [oct(p.stat().st_mode & 0o777) for p in (paths.store, paths.config, paths.state)] == [
        "0o755",
        "0o700",
        "0o700",
    ]


def test_the_environment_is_read_in_one_module() -> None:
    readers = [
        file.name
        for file in (ROOT / "kernel/dativo/kernel").glob("*.py")
        if re.search(r"os\.environ(\[|\.get)|getenv", file.read_text())
        and file.name not in ("environment.py", "api.py")
    ]
    assert readers == []
    names = [v.name for v in (*environment.OWN, *environment.INSTALL)]
    assert len(names) == len(set(names))


# --- quantities ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MiB", 2**29), (1, 1), ("1kB", 1000), ("2 GiB", 2**31), ("7", 7), ("1B", 1)],
)
def test_sizes(text: object, size: int) -> None:
    assert quantities.parse_bytes(text) == size
    assert quantities.parse_bytes(quantities.show_bytes(size)) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MiB",
        "1.5GiB",
        "-1",
        "1 mib",
        "1PB",
        0,
        -1,
        True,
        None,
        1.5,
        [],
        "9" * 30,
        "١MiB",
        "1e3",
    ],
)
def test_no_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        quantities.parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("12h", 43200), ("7d", 604800), (9, 9)]
)
def test_times(text: object, seconds: int) -> None:
    assert quantities.parse_seconds(text) == seconds
    assert quantities.parse_seconds(quantities.show_seconds(seconds)) == seconds


@pytest.mark.parametrize("text", ["1w", "1h30m", "", "0s", "4000d", True])
def test_no_times(text: object) -> None:
    with pytest.raises(ValueError, match="expected a time"):
        quantities.parse_seconds(text)


@pytest.mark.parametrize("text", [0, "nan", "inf", "-1", 1e9, True, None, "x", 2000])
def test_no_cpus(text: object) -> None:
    with pytest.raises(ValueError, match="expected a number of processors"):
        quantities.parse_cpus(text)


# --- limits ----------------------------------------------------------------------------------------------------------------


def test_every_limit_is_documented_with_its_default_and_setting() -> None:
    rows = {
        cells[0].strip("`"): cells
        for line in (ROOT / "docs/spec/limits.md").read_text().splitlines()
        if line.startswith("| `")
        for cells in ([cell.strip() for cell in line.strip("|").split("|")],)
    }
    expected = {
        name: (limits.shown(name), limit.setting, limit.meaning)
        for name, limit in limits.ALL.items()
    }
    found = {name: (cells[1], cells[2].strip("`–"), cells[3]) for name, cells in rows.items()}
    assert found == expected


def test_settings_are_keys_of_a_job() -> None:
    for limit in limits.ALL.values():
        shape: Any = shapes.JOB
        for step in filter(None, limit.setting.split(".")):
            shape = shape.item if step == "*" else shape.keys[step]


# --- schemas ---------------------------------------------------------------------------------------------------------------

SCHEMAS = {
    n: json.loads((files("dativo.schemas") / f"{n}.json").read_text())
    for n in ("job", "policy", "plugin", "lock", "grants")
}
REGISTRY: Any = Registry().with_resources(
    [(f"{n}.json", Resource.from_contents(s)) for n, s in SCHEMAS.items()]
)


def validate(name: str, value: Any) -> None:
    jsonschema.Draft202012Validator(SCHEMAS[name], registry=REGISTRY).validate(value)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])


def _same_keys(shape: Any, schema: dict[str, Any], root: dict[str, Any], place: str) -> int:
    """Compare the keys of ``shape`` and ``schema`` all the way down; return how many mappings were compared."""
    if "$ref" in schema:
        file, _, path = schema["$ref"].partition("#")
        root = SCHEMAS[file.removesuffix(".json")] if file else root
        schema = root
        for step in filter(None, path.split("/")):
            schema = schema[step]
    if isinstance(shape, shapes.TargetShape):
        return _same_keys(shape.own, schema["then"], root, place) + _same_keys(
            shape.foreign, schema["else"], root, place
        )
    if isinstance(shape, shapes.MappingOf) and "additionalProperties" in schema:
        return _same_keys(shape.item, schema["additionalProperties"], root, place)
    if not isinstance(shape, shapes.Shape):
        return 0
    assert schema.get("additionalProperties") is False, place
    assert set(schema["properties"]) == set(shape.keys), place
    assert set(schema.get("required", ())) == set(shape.required), place
    return 1 + sum(
        _same_keys(part, schema["properties"][key], root, f"{place}/{key}")
        for key, part in shape.keys.items()
    )


@pytest.mark.parametrize(
    ("name", "shape", "mappings"),
    [
        ("job", shapes.JOB, 12),
        ("policy", shapes.POLICY, 5),
        ("plugin", shapes.PLUGIN, 4),
        ("grants", shapes.GRANTS, 1),
        ("lock", shapes.LOCK, 1),
    ],
)
def test_schema_and_shape_have_the_same_keys(name: str, shape: shapes.Shape, mappings: int) -> None:
    assert _same_keys(shape, SCHEMAS[name], SCHEMAS[name], name) == mappings
    assert (
        _same_keys(shapes.LOCKED, SCHEMAS["lock"]["$defs"]["locked"], SCHEMAS["lock"], "locked")
        == 1
    )
    image = SCHEMAS["lock"]["$defs"]["image"]
    assert _same_keys(shapes.LOCKED_IMAGE, image, SCHEMAS["lock"], "image") == 1


@pytest.mark.parametrize(
    "file", [ROOT / "demo.yaml", *sorted((ROOT / "examples").glob("*.yaml"))], ids=lambda f: f.name
)
def test_examples_fit_schema_and_loader(file: Path) -> None:
    validate("job", _floats(load_yaml(file, "job").value))
    load_job(file, {})


def test_every_network_grant_fits_the_schema() -> None:
    cases = json.loads((ROOT / "tests/network_cases.json").read_text())
    texts = [case["grant"] for case in cases["grants"]]
    validate("grants", {"network": [*texts, "loopback", "a.com private upload=10MiB no-sni"]})
    for text in ("", " a.com", "a.com\tprivate", "a.com publicly", "bücher.example"):
        with pytest.raises(jsonschema.ValidationError):
            validate("grants", {"network": [text]})


def test_all_keys_shows_all_keys() -> None:
    def missing(shape: Any, value: Any, place: str) -> list[str]:
        if isinstance(shape, shapes.TargetShape):
            own = value["connector"] in shapes.OWN_TARGETS
            return missing(shape.own if own else shape.foreign, value, place)
        if isinstance(shape, shapes.MappingOf) and isinstance(shape.item, shapes.Shape):
            shown = {key: each for one in value.values() for key, each in one.items()}
            return missing(shape.item, shown, f"{place}/*")
        if not isinstance(shape, shapes.Shape):
            return []
        found = [f"{place}/{key}" for key in shape.keys if key not in value]
        return found + [
            m for key in value for m in missing(shape.keys[key], value[key], f"{place}/{key}")
        ]

    assert missing(shapes.JOB, load_yaml(ROOT / "examples/all_keys.yaml", "job").value, "") == []
    example: Any = load_yaml(ROOT / "examples/foreign_target.yaml", "job").value
    assert set(shapes.FOREIGN_TARGET.keys) == set(example["target"])


def test_all_keys_shows_the_defaults() -> None:
    job = load_job(ROOT / "examples/all_keys.yaml", {})
    assert (job.limits, job.own_target.epoch) == (limits.ReadLimits(), limits.EpochLimits())
    assert job.contracts.of(Stream("", "users")) == Contract()
    assert job.contracts.of(Stream("", "orders")) == Contract(
        values="discard_row", max_rejects=limits.MAX_REJECTS
    )
    assert job.layouts.of(Stream("", "users")) == Layout()
    from dataclasses import replace

    from dativo.kernel.grants import Grants

    default = replace(
        Grants(), open_files=256, read=job.source.grants.read, secrets=job.source.grants.secrets
    )
    assert job.source.grants == default


@pytest.mark.parametrize("file", sorted(ROOT.glob("*/**/plugin.yaml")), ids=lambda f: f.parent.name)
def test_manifests_fit_the_schema(file: Path) -> None:
    if ".venv" not in file.parts:
        validate("plugin", load_yaml(file, "plugin.yaml").value)


def test_a_written_lock_fits_the_schema() -> None:
    entry = Locked(
        "singer:x",
        "singer",
        "x",
        "1.0",
        "",
        "1.1",
        "3.11",
        "x",
        (f"x==1.0 --hash=sha256:{'ab' * 32}",),
        {"linux-x86_64": "ab" * 32},
    )
    here = {"linux-x86_64": "ab" * 32}
    image = LockedImage("image:x", "1.0", here, here)
    validate("lock", json.loads(lock_text({"singer:x": entry, "image:x": image})))
    wrong = json.loads(lock_text({"image:x": image}))
    wrong["plugins"]["image:x"]["script"] = "x"
    with pytest.raises(jsonschema.ValidationError):
        validate("lock", wrong)


def _floats(value: Any) -> Any:
    from decimal import Decimal

    if isinstance(value, dict):
        return {k: _floats(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_floats(v) for v in value]
    return float(value) if isinstance(value, Decimal) else value


def test_planning_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pathlib import Path; from dativo.kernel import job, policy, grants, registry, paths;"
        f"job.load_job(Path({str(ROOT / 'demo.yaml')!r}), {{}}); registry.find_target('iceberg');"
        "print(sorted({'pydantic', 'jsonschema', 'subprocess', 'packaging', 'uv', 'asyncio', 'difflib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
