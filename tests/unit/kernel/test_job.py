"""Jobs: what they mean, what is refused and where."""

import re
from pathlib import Path

import pytest

from dativo.kernel.job import ForeignTargetJob, Job, load_job
from dativo.kernel.limits import MIB, EpochLimits, ReadLimits
from dativo.kernel.secrets import SecretRef
from dativo.protocol.errors import ConfigError, NotPermitted

SHOP = """\
pipeline: shop
source:
  connector: airbyte:source-faker
  config: {count: 10000}
  streams: ["users", "purchases", "!users.ssn"]
  grants: {network: [], memory: 512MiB, cpus: 1, pids: 512, time: 12h}
target:
  connector: iceberg
  config: {warehouse: ./lake, namespace: shop}
  mode: append
"""


def load(folder: Path, text: str = SHOP, **variables: str | None) -> Job:
    (folder / "job.yaml").write_text(text)
    return load_job(folder / "job.yaml", variables)


def test_the_job_of_the_design(tmp_path: Path) -> None:
    job = load(tmp_path)
    assert (job.pipeline, job.source.connector) == ("shop", "airbyte:source-faker")
    assert job.source.streams == ("users", "purchases", "!users.ssn")
    assert (job.source.grants.memory_bytes, job.source.grants.wall_time_s) == (512 * MIB, 43200)
    assert job.own_target.warehouse == tmp_path / "lake"
    assert job.own_target.config == {"warehouse": str(tmp_path / "lake"), "namespace": "shop"}
    assert (job.limits, job.own_target.epoch) == (ReadLimits(), EpochLimits())
    assert (job.workspace, job.source.secrets) == (tmp_path, ())
    assert re.fullmatch("[0-9a-f]{64}", job.digest)


@pytest.mark.parametrize(
    ("before", "after", "message", "line", "pointer"),
    [
        ("memory", "memroy", "unknown key `memroy`", 6, "/source/grants/memroy"),
        ("pipeline: shop", "pipelin: shop", "unknown key `pipelin`", 1, "/pipelin"),
        ("pipeline: shop", "pipeline: Shop!", "`pipeline`: expected a name", 1, "/pipeline"),
        ("512MiB", "512Mb", "`memory`: expected a size", 6, "/source/grants/memory"),
        ("512MiB", "0", "`memory`: expected a size", 6, "/source/grants/memory"),
        ("12h", "12 parsecs", "`time`: expected a time", 6, "/source/grants/time"),
        ("cpus: 1", "cpus: 0", "`cpus`: expected a number of processors", 6, "/source/grants/cpus"),
        ("pids: 512", "pids: 1.5", "`pids`: expected a whole number", 6, "/source/grants/pids"),
        ("append", "upsert", "`mode`: this mode is not built yet", 10, "/target/mode"),
        (
            "mode: append",
            "grants: {memory: 1GiB}",
            "unknown key `memory`",
            10,
            "/target/grants/memory",
        ),
        (
            "network: []",
            "network: [x.com, 'https://y.com']",
            "not a network grant: a grant names a host",
            6,
            "/source/grants/network/1",
        ),
        (
            "network: []",
            "network: [x.com, x.com private]",
            "contradict",
            6,
            "/source/grants/network",
        ),
        (
            "pipeline: shop",
            "pipeline: shop\ntransformers: []",
            "`transformers` is not built yet",
            2,
            "/transformers",
        ),
        (
            "connector: airbyte:source-faker",
            "custom_reader: a.py:B",
            "`custom_reader` is not built yet",
            3,
            "/source/custom_reader",
        ),
        (
            "  streams:",
            "  engine: native\n  streams:",
            "`engine` is not built yet",
            5,
            "/source/engine",
        ),
        ("pipeline: shop\n", "", "`pipeline` is missing", 1, None),
        (
            "namespace: shop",
            "namespace: _dativo",
            "`namespace`: expected a letter",
            9,
            "/target/config/namespace",
        ),
        ("{count: 10000}", "[count]", "`config`: expected a mapping", 4, "/source/config"),
        ("{count: 10000}", "{secret: env://X}", "`config` must be a mapping", 4, "/source/config"),
        ('"users", ', "3, ", "expected a text", 5, "/source/streams/0"),
    ],
)
def test_faults_have_a_place(
    tmp_path: Path, before: str, after: str, message: str, line: int, pointer: str | None
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        load(tmp_path, SHOP.replace(before, after, 1))
    where = error.value.where
    assert (where.file, where.line, where.pointer) == (str(tmp_path / "job.yaml"), line, pointer)


def test_the_nearest_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, SHOP.replace("memory", "memroy"))
    assert error.value.hint == "Did you mean `memory`?"


def test_empty_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a mapping"):
        load(tmp_path, "")
    with pytest.raises(ConfigError, match="cannot read the job"):
        load_job(tmp_path / "none.yaml", {})


def test_config_numbers_reach_the_connector_as_written(tmp_path: Path) -> None:
    from dativo.kernel.secrets import Secrets, inject

    job = load(
        tmp_path, SHOP.replace("{count: 10000}", "{a: 1.10, b: 1e3, c: 12345678901234567890123}")
    )
    assert inject(job.source.config, Secrets()) == b'{"a":1.10,"b":1e3,"c":12345678901234567890123}'


def test_secrets_are_references(tmp_path: Path) -> None:
    config = '{a: {secret: "env://TOKEN"}, b: [{secret: "file:///run/x"}, {secret: "env://TOKEN"}]}'
    job = load(tmp_path, SHOP.replace("{count: 10000}", config))
    assert job.source.secrets == (SecretRef("env", "TOKEN"), SecretRef("file", "/run/x"))
    assert job.source.grants.secrets == ("env://TOKEN", "file:///run/x")


@pytest.mark.parametrize(
    "reference",
    [
        "hunter2hunter2",
        "env://",
        "env://A B",
        "file://relative",
        "file:///a/../b",
        "file:///",
        "vault://x",
        "3",
        "null",
    ],
)
def test_a_literal_secret_is_refused_and_not_shown(tmp_path: Path, reference: str) -> None:
    text = SHOP.replace("{count: 10000}", f"{{a: {{secret: {reference}}}}}")
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert error.value.where.pointer == "/source/config/a/secret"
    assert "hunter2" not in str(error.value)


def test_variables(tmp_path: Path) -> None:
    text = SHOP.replace("{count: 10000}", '{host: "${HOST}", here: "${JOB_DIR}/x"}')
    job = load(tmp_path, text, HOST="db")
    assert job.source.config == {"host": "db", "here": f"{tmp_path}/x"}
    assert load(tmp_path, text, HOST="other").digest == job.digest
    with pytest.raises(NotPermitted, match="HOST is not listed"):
        load(tmp_path, text)


def test_paths_are_relative_to_the_job_and_real(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "lake").symlink_to(tmp_path / "data")
    job = load(tmp_path, SHOP.replace("network: []", "read: [./data, data, /usr/share]"))
    assert job.source.grants.read == tuple(sorted((tmp_path / "data", Path("/usr/share"))))
    assert job.own_target.warehouse == tmp_path / "data"
    with pytest.raises(ConfigError, match="symbolic link") as error:
        load(tmp_path, SHOP.replace("network: []", "read: [./link/ssl]"))
    assert error.value.where.pointer == "/source/grants/read/0"
    assert error.value.hint == "Write /etc/ssl"


def test_network_grants_are_canonical_and_in_order(tmp_path: Path) -> None:
    text = SHOP.replace(
        "network: []", "network: [B.example.com:8443, '*.a.com private', b.example.com:8443]"
    )
    found = load(tmp_path, text).source.grants
    assert list(map(str, found.network)) == ["*.a.com:443 private", "b.example.com:8443"]
    assert found.document()["network"] == ["*.a.com:443 private", "b.example.com:8443"]


def test_limits_and_epoch(tmp_path: Path) -> None:
    text = (
        SHOP
        + "  epoch: {bytes: 1MiB, rows: 5, time: 2m}\nlimits: {max_line_bytes: 1MiB, max_text_lines: 0}\n"
    )
    job = load(tmp_path, text)
    assert job.own_target.epoch == EpochLimits(MIB, 5, 120)
    assert (job.limits.max_line_bytes, job.limits.max_text_lines, job.limits.max_depth) == (
        MIB,
        0,
        64,
    )


def test_the_config_is_in_no_repr(tmp_path: Path) -> None:
    assert "10000" not in repr(load(tmp_path).source)


FOREIGN = """\
pipeline: shop
source: {connector: "airbyte:source-faker"}
target:
  connector: singer:target-jsonl
  config: {destination_path: ./out, token: {secret: "env://TOKEN"}, size: 1.10}
  grants: {write: [./out], memory: 1GiB}
  mode: append
"""


def test_a_foreign_target(tmp_path: Path) -> None:
    target = load(tmp_path, FOREIGN).target
    assert isinstance(target, ForeignTargetJob)
    assert target.connector == "singer:target-jsonl"
    assert target.secrets == (SecretRef("env", "TOKEN"),)
    assert target.grants.write == (tmp_path / "out",)
    assert (target.grants.memory_bytes, target.grants.secrets) == (1024 * MIB, ("env://TOKEN",))
    assert "destination_path" not in repr(target)


@pytest.mark.parametrize(
    ("before", "after", "message", "line", "pointer"),
    [
        ("append", "upsert", "`mode`: rows are appended to a foreign", 7, "/target/mode"),
        ("mode: append", "epoch: {}", "no `epoch` here: a foreign target", 7, "/target/epoch"),
        ("grants", "grant", "unknown key `grant`", 6, "/target/grant"),
        ("memory", "memroy", "unknown key `memroy`", 6, "/target/grants/memroy"),
        ("mode: append", "eof: x", "`eof` is not built yet", 7, "/target/eof"),
        ("singer:target-jsonl", "[x]", "`connector`: expected a text", 4, "/target/connector"),
        (
            FOREIGN[FOREIGN.index("{dest") : FOREIGN.index("}\n  gr") + 1],
            "[]",
            "`config`: exp",
            5,
            "/target/config",
        ),
    ],
)
def test_faults_of_a_foreign_target_have_a_place(
    tmp_path: Path, before: str, after: str, message: str, line: int, pointer: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        load(tmp_path, FOREIGN.replace(before, after, 1))
    where = error.value.where
    assert (where.line, where.pointer) == (line, pointer)
