"""Workspaces that somebody else has prepared: job, lock, plugin folder, `.dativo`, warehouse.

Each case makes one, and says what reads it. That ends within a deadline, with a documented status and an error that names the
file, without a traceback and without a terminal's commands; what lies outside stays as it was.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import NIGHTLY
from tests.integration.conftest import ROOT, Result, Workspace, plain_flags

from dativo.kernel.warehouse import WAREHOUSE_UID
from dativo.protocol.errors import ExitStatus

DEADLINE_S = 45
JOB = """\
pipeline: hostile
source: {connector: ./plugins/bad, config: {mode: good}}
target: {connector: iceberg, config: {warehouse: ./lake, namespace: bad}}
"""
PARQUET = JOB.replace("iceberg", "parquet")
MANIFEST = (ROOT / "tests/plugins/bad/plugin.yaml").read_text()
PLAN, RUN = ("plan", "job.yaml"), ("run", "job.yaml")
LIST, STATE, FILES = ("plugin", "list"), ("state", "show", "job.yaml"), ("files", "job.yaml")
SHOW = ("grants", "show", "job.yaml")
Making = Callable[[Workspace], object]


@dataclass(frozen=True)
class Case:
    """``make`` changes a good workspace; ``commands`` then end with ``status`` and say ``message`` (a pattern)."""

    make: Making
    status: int
    message: str
    commands: tuple[tuple[str, ...], ...] = (PLAN,)


def text(name: str, content: str | bytes) -> Making:
    data = content.encode() if isinstance(content, str) else content

    def make(workspace: Workspace) -> None:
        path = workspace.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return make


def job(old: str, new: str) -> Making:
    assert old in JOB
    return text("job.yaml", JOB.replace(old, new))


def instead(name: str, make: Callable[[Path], object]) -> Making:
    """Put something else in the place of a file or folder."""

    def put(workspace: Workspace) -> None:
        path = workspace.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)

    return put


def link(name: str, to: str) -> Making:
    return instead(name, lambda path: path.symlink_to(to))


def fifo(name: str) -> Making:
    return instead(name, os.mkfifo)


def folder(name: str) -> Making:
    return instead(name, Path.mkdir)


def huge(name: str) -> Making:
    """A file of 1 TiB that takes no room."""

    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(1 << 40)

    return instead(name, make)


BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
)

JOBS = {
    "a link out": Case(link("job.yaml", "/etc/passwd"), 3, "expected a mapping"),
    "a link to nowhere": Case(link("job.yaml", "nowhere"), 3, "No such file"),
    "a link to itself": Case(link("job.yaml", "job.yaml"), 3, "Symlink loop"),
    "a FIFO": Case(fifo("job.yaml"), 3, "not a regular file"),
    "a device": Case(link("job.yaml", "/dev/zero"), 3, "not a regular file"),
    "a terminal": Case(link("job.yaml", "/dev/tty"), 3, "No such device|not a regular file"),
    "a folder": Case(folder("job.yaml"), 3, "not a regular file"),
    "huge": Case(huge("job.yaml"), 3, "more than 1048576 bytes"),
    "empty": Case(text("job.yaml", ""), 3, "job"),
    "NUL": Case(text("job.yaml", "pipeline: a\0b\n"), 3, "not YAML"),
    "no UTF-8": Case(text("job.yaml", b"pipeline: \xff\xfe\n"), 3, "not UTF-8"),
    "UTF-16": Case(text("job.yaml", JOB.encode("utf-16")), 3, "not UTF-8"),
    "a YAML bomb": Case(text("job.yaml", BOMB), 3, "anchor|alias"),
    "a tag that runs": Case(text("job.yaml", "x: !!python/object/apply:os.system [id]\n"), 3, "tag"),
    "a key twice": Case(text("job.yaml", JOB + "pipeline: b\n"), 3, "twice|duplicate"),
    "two documents": Case(text("job.yaml", JOB + "---\n" + JOB), 3, "document"),
    "deep": Case(text("job.yaml", "x: " + "[" * 5000), 3, "deep|nest"),
    "deep by indentation": Case(
        text("job.yaml", "".join(" " * n + "a:\n" for n in range(300))), 3, "deep|nest"
    ),
    "wide": Case(text("job.yaml", "x: [" + "1," * 100_000 + "]"), 3, "50000|values"),
    "a long number": Case(job("pipeline: hostile", "pipeline: hostile\nx: " + "9" * 100_000), 3, "digits|number|unknown"),
    "an unknown key": Case(job("pipeline: hostile", "pipelin: x\npipeline: hostile"), 3, "pipelin"),
    "a key that commands": Case(job("pipeline: hostile", '"\\e[2J": x\npipeline: hostile'), 3, "job.yaml"),
    "a name that commands": Case(job("hostile", '"\\e]0;x\\a"'), 3, "pipeline"),
    "a name that climbs": Case(job("hostile", "../../etc"), 3, "pipeline"),
    "a namespace that climbs": Case(job("namespace: bad", "namespace: ../../etc"), 3, "namespace", (PLAN, RUN)),
    "a plugin outside": Case(job("./plugins/bad", "./../../etc"), 3, "outside the workspace"),
    "an absolute plugin": Case(job("./plugins/bad", "/etc"), 3, "outside the workspace"),
    "a warehouse of the machine": Case(job("./lake", "/etc"), 8, "/etc", (RUN,)),
    "a warehouse outside": Case(job("./lake", "../outside"), 8, "outside", (RUN,)),
    "a secret of a file": Case(
        job("{mode: good}", '{mode: good, token: {secret: "file:///etc/shadow"}}'), 8, "shadow", (RUN,)
    ),
    "a variable of the operator": Case(
        job("{mode: good}", '{mode: good, token: {secret: "env://HOME"}}'), 8, "HOME", (RUN,)
    ),
    "the whole network": Case(
        job("{mode: good}", '{mode: good}, grants: {network: ["0.0.0.0/0:80"]}'), 8, "0.0.0.0/0", (RUN,)
    ),
    "all files": Case(job("{mode: good}", '{mode: good}, grants: {read: ["/"]}'), 8, "/", (RUN,)),
    "more memory than there is": Case(job("{mode: good}", "{mode: good}, grants: {memory: 900GiB}"), 8, "memory", (RUN,)),
}  # fmt: skip


def manifest(old: str, new: str) -> Making:
    assert old in MANIFEST
    return text("plugins/bad/plugin.yaml", MANIFEST.replace(old, new))


def deep_folder(path: Path) -> None:
    shutil.copytree(ROOT / "tests/plugins/bad", path)
    back = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.fchdir(back)
        os.close(back)


PLUGINS = {
    "a link out": Case(link("plugins/bad", "/etc"), 3, "outside the workspace"),
    "a manifest out": Case(link("plugins/bad/plugin.yaml", "/etc/passwd"), 3, "plugin.yaml"),
    "a manifest that is a FIFO": Case(fifo("plugins/bad/plugin.yaml"), 3, "plugin.yaml"),
    "a huge manifest": Case(huge("plugins/bad/plugin.yaml"), 3, "more than 1048576 bytes"),
    "an unknown key": Case(text("plugins/bad/plugin.yaml", MANIFEST + "run: id\n"), 3, "run"),
    "an entry point outside": Case(manifest("source.py", "/bin/sh"), 3, "entry point|entry_point"),
    "an entry point that climbs": Case(manifest("source.py", "../../job.yaml"), 3, "entry point|entry_point"),
    "an entry point by a link": Case(link("plugins/bad/source.py", "/bin/sh"), 3, "entry point|entry_point"),
    "an entry point that is a FIFO": Case(fifo("plugins/bad/source.py"), 3, "entry point|entry_point"),
    "a name that commands": Case(manifest("name: bad", 'name: "\\e[2J"'), 3, "name"),
    "a FIFO beside it": Case(fifo("plugins/bad/pipe"), 3, "pipe"),
    "a link out beside it": Case(link("plugins/bad/secrets", "/root"), 0, ""),
    "a link to the root beside it": Case(link("plugins/bad/all", "/"), 0, ""),
    "deeper than anybody walks": Case(instead("plugins/bad", deep_folder), 0, ""),
}  # fmt: skip


def lock(name: str = "airbyte:source-x", **changed: object) -> Making:
    """A lock with one plugin, good but for what is ``changed``."""
    entry = {
        "kind": "airbyte",
        "package": "airbyte-source-x",
        "version": "1.0.0",
        "requested": "==1.0.0",
        "python": "3.11",
        "script": "source-x",
        "contents": {"linux-x86_64": "a" * 64},
        "requirements": ["airbyte-source-x==1.0.0 --hash=sha256:" + "a" * 64],
    }
    return text("dativo.lock", json.dumps({"version": 1, "plugins": {name: {**entry, **changed}}}))


def both(*makings: Making) -> Making:
    def make(workspace: Workspace) -> None:
        for each in makings:
            each(workspace)

    return make


LOCKS = {
    "good, and not installed": Case(lock(), 0, "", (LIST,)),
    "a package that climbs": Case(lock(package="../../../etc"), 3, "package", (LIST,)),
    "a version that climbs": Case(lock(version="../../../etc"), 3, "version", (LIST,)),
    "a script that climbs": Case(lock(script="../../bin/sh"), 3, "script", (LIST,)),
    "another interpreter": Case(lock(python="/bin/sh"), 3, "python", (LIST,)),
    "contents that climb": Case(lock(contents={"linux-x86_64": "../../etc"}), 3, "contents", (LIST,)),
    "a platform that climbs": Case(lock(contents={"../..": "a" * 64}), 3, "contents", (LIST,)),
    "another index": Case(lock(requirements=["--index-url http://evil.test"]), 3, "requirements", (LIST,)),
    "a requirement by URL": Case(lock(requirements=["x @ http://evil.test/x.whl"]), 3, "requirements", (LIST,)),
    "a requirement without a hash": Case(lock(requirements=["x==1"]), 3, "requirements", (LIST,)),
    "a name that climbs": Case(lock("airbyte:../../etc"), 3, "dativo.lock", (LIST,)),
    "a name that commands": Case(lock("airbyte:\x1b[2J"), 3, "dativo.lock", (LIST,)),
    "grants of its own": Case(lock(grants={"network": ["*"]}), 3, "grants", (LIST,)),
    "another kind": Case(lock(kind="image"), 3, "dativo.lock", (LIST,)),
    "not installed, and planned": Case(
        both(lock(), job("./plugins/bad", "airbyte:source-x")), 3, "install|plugin add", (PLAN,)
    ),
    "a link out": Case(link("dativo.lock", "/etc/passwd"), 3, "dativo.lock", (LIST,)),
    "a FIFO": Case(fifo("dativo.lock"), 3, "not a regular file", (LIST,)),
    "a device": Case(link("dativo.lock", "/dev/zero"), 3, "not a regular file", (LIST,)),
    "huge": Case(huge("dativo.lock"), 3, "more than 16777216 bytes", (LIST,)),
    "a list": Case(text("dativo.lock", "[]"), 3, "dativo.lock", (LIST,)),
    "deep": Case(text("dativo.lock", "[" * 100_000), 3, "dativo.lock", (LIST,)),
    "NUL": Case(text("dativo.lock", b'{"\0": 1}'), 3, "dativo.lock", (LIST,)),
    "a key twice": Case(text("dativo.lock", '{"x": 1, "x": 2}'), 3, "dativo.lock", (LIST,)),
    "commands": Case(text("dativo.lock", '{"\\u001b[2J": 1}'), 3, "dativo.lock", (LIST,)),
}  # fmt: skip


def dativo_folder(to: str) -> Making:
    return link(".dativo", to)


def in_lake(make: Making) -> Making:
    """In a warehouse that belongs to whom it should: no confined process is root."""

    def put(workspace: Workspace) -> None:
        make(workspace)
        if os.geteuid() == 0:
            for path in (workspace.lake, *workspace.lake.rglob("*")):
                os.chown(path, WAREHOUSE_UID, WAREHOUSE_UID, follow_symlinks=False)

    return put


OTHERS = {
    "nothing is read in .dativo": Case(dativo_folder("/"), 0, "", (PLAN, LIST)),
    "a warehouse by a link": Case(link("lake", "../outside"), 8, "outside", (RUN,)),
    "a warehouse that is a FIFO": Case(fifo("lake"), 3, "lake", (RUN,)),
    "a warehouse that is a file": Case(text("lake", "x"), 3, "lake", (RUN,)),
    "staging by a link": Case(in_lake(link("lake/_dativo", "../../outside")), 5, "_dativo", (RUN,)),
    "staging that is a FIFO": Case(in_lake(fifo("lake/_dativo")), 5, "_dativo", (RUN,)),
}  # fmt: skip

CASES = {
    f"{what}: {name}": case
    for what, cases in (("job", JOBS), ("plugin", PLUGINS), ("lock", LOCKS), ("folder", OTHERS))
    for name, case in cases.items()
}


# Of these the parser's own tests tell too (tests/unit/kernel/test_document.py).
PARSED = {
    *("job: NUL", "job: no UTF-8", "job: UTF-16", "job: a tag that runs", "job: a key twice", "job: two documents", "job: wide"),
    *("job: deep by indentation", "job: a long number", "job: an unknown key", "job: empty", "job: a link to nowhere"),
}  # fmt: skip
assert set(CASES) >= PARSED
NAMED = [
    pytest.param(name, marks=pytest.mark.nightly) if name in PARSED else name for name in CASES
]


@pytest.fixture
def prepared(workspace: Workspace) -> Iterator[Workspace]:
    """A good workspace, and beside it what a hostile one would reach for."""
    workspace.plugin(ROOT / "tests/plugins/bad", "bad")
    workspace.job(JOB)
    outside = workspace.folder.parent / "outside"
    outside.mkdir()
    (outside / "diary").write_text("mine")
    yield workspace
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("diary", "mine")]
    # Deeper than pytest removes it.
    subprocess.run(["rm", "-rf", str(workspace.folder)], check=True, timeout=60)


def ends(workspace: Workspace, command: tuple[str, ...]) -> Result:
    """Run it, with nobody's terminal; it ends by itself within the deadline."""
    flags = workspace.flags if command[0] in ("run", "state", "files") else ()
    process = workspace.start(*command, *flags, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        stdout, stderr = process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    result = Result(process.returncode, stdout, stderr)
    said = result.stdout + result.stderr
    assert "Traceback" not in said, said
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", said), said
    assert result.status in [*ExitStatus], said
    return result


def check(workspace: Workspace, case: Case) -> None:
    case.make(workspace)
    for command in case.commands:
        result = ends(workspace, command)
        assert result.status == case.status, result.stderr
        assert re.search(case.message, result.stderr if case.status else ""), result.stderr


@pytest.mark.parametrize("name", NAMED)
def test_a_hostile_workspace(prepared: Workspace, name: str) -> None:
    check(prepared, CASES[name])


# --- warehouses that hold something already --------------------------------------------------------------------------------


def sql(*statements: str) -> Making:
    def make(workspace: Workspace) -> None:
        with sqlite3.connect(workspace.lake / "catalog.db") as db:
            db.execute("PRAGMA writable_schema = ON")
            for statement in statements:
                db.execute(statement)
        db.close()

    return in_lake(make)


def patched(at: int, data: bytes) -> Making:
    """Write over a part of the SQLite file."""

    def make(workspace: Workspace) -> None:
        with (workspace.lake / "catalog.db").open("r+b") as file:
            file.seek(at)
            file.write(data)

    return make


def catalog(make: Making) -> Making:
    return in_lake(make)


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT"
DB = "lake/catalog.db"
# One that reads, in every run; nightly the others too.
ALL = (STATE, FILES, RUN) if NIGHTLY else (STATE,)
ICEBERG = {
    "no SQLite": Case(catalog(text(DB, "not a database, but long enough to be read" * 100)), 5, "catalog.db", ALL),
    "empty": Case(catalog(text(DB, "")), 0, "", ALL),
    "a FIFO": Case(catalog(fifo(DB)), 5, "catalog.db", ALL),
    "a folder": Case(catalog(folder(DB)), 5, "catalog.db", ALL),
    "a link out": Case(catalog(link(DB, "/etc/passwd")), 5, "catalog.db", ALL),
    "a link to the other folder": Case(catalog(link(DB, "../../outside/diary")), 5, "catalog.db", ALL),
    "huge": Case(catalog(huge(DB)), 5, "catalog.db", ALL),
    "a corrupt page": Case(catalog(patched(4096, b"\xff" * 8192)), 5, "catalog.db", ALL),
    "a corrupt header": Case(catalog(patched(16, b"\x00\x07")), 5, "catalog.db", ALL),
    "another application's": Case(sql("PRAGMA application_id = 252006673"), 5, "catalog.db", ALL),
    "a trigger": Case(
        sql("CREATE TRIGGER t AFTER UPDATE ON dativo_state BEGIN DELETE FROM iceberg_tables; END"), 5, "trigger", ALL
    ),
    "a view for a table": Case(
        sql("ALTER TABLE iceberg_tables RENAME TO x", f"CREATE VIEW iceberg_tables AS {ENDLESS} x AS catalog_name FROM n"),
        5, "view", ALL,
    ),
    "a table of other columns": Case(
        sql("DROP TABLE dativo_state", "CREATE TABLE dativo_state (x)"), 5, "catalog.db", ALL
    ),
    "no JSON for states": Case(sql("UPDATE dativo_state SET states = '[1'"), 5, "catalog.db", ALL),
    "states of another hash": Case(sql("UPDATE dativo_state SET states = '[]'"), 5, "catalog.db", ALL),
    "states that are no text": Case(sql("UPDATE dativo_state SET states = x'ff00'"), 5, "states|catalog.db", ALL),
    "deep states": Case(sql(f"UPDATE dativo_state SET states = '{'[' * 100_000}'"), 5, "catalog.db", ALL),
    "an epoch that is none": Case(sql("UPDATE dativo_state SET epoch = 'x\x1b[2J'"), 5, "epoch|catalog.db", ALL),
    "a negative epoch": Case(sql("UPDATE dativo_state SET epoch = -5"), 5, "epoch", ALL),
    "metadata outside": Case(
        sql("UPDATE iceberg_tables SET metadata_location = '/etc/passwd'"), 5, "/etc/passwd", (FILES,)
    ),
    "metadata outside, which a run needs": Case(
        sql("UPDATE iceberg_tables SET metadata_location = '/etc/passwd'"), 3, "/etc/passwd", (RUN,)
    ),
    "metadata by HTTP": Case(
        sql("UPDATE iceberg_tables SET metadata_location = 'http://127.0.0.1/x'"), 5, "http:/+127.0.0.1", (FILES, RUN)
    ),
    "metadata that commands": Case(
        sql("UPDATE iceberg_tables SET metadata_location = '/x' || char(27) || '[2J'"), 5, "x1b|metadata", (FILES, RUN)
    ),
    "an intent that deletes outside": Case(
        sql(
            "INSERT INTO dativo_intents SELECT pipeline, partition, epoch + 1, epoch, 'a', 'r', "
            "'[{\"stream\":{\"namespace\":null,\"name\":\"rows\"},\"path\":\"../../outside/diary\",\"schema_id\":0,\"rows\":1,"
            "\"bytes\":1,\"sha256\":\"a\"}]', states, states_sha256, '' FROM dativo_state"
        ),
        5, "outside the warehouse", (RUN,),
    ),
    "another owner": Case(sql("UPDATE dativo_state SET owner = 'somebody'"), 3, "owne|belongs", (RUN,)),
}  # fmt: skip


def moved(name: str, to: str) -> Making:
    return lambda workspace: (workspace.folder / name).rename(
        (workspace.folder / name).with_name(to)
    )


ENTRY = "lake/bad/_dativo/hostile/log/00000000000000000001.json"
LOG = {
    "no JSON": Case(catalog(text(ENTRY, "{")), 5, "0001.json", ALL),
    "a list": Case(catalog(text(ENTRY, "[]")), 5, "0001.json", ALL),
    "deep": Case(catalog(text(ENTRY, "[" * 200_000)), 5, "0001.json", ALL),
    "NUL": Case(catalog(text(ENTRY, b"\0" * 100)), 5, "0001.json", ALL),
    "no UTF-8": Case(catalog(text(ENTRY, b'{"\xff": 1}')), 5, "0001.json", ALL),
    "huge": Case(catalog(huge(ENTRY)), 5, "0001.json", ALL),
    "a FIFO": Case(catalog(fifo(ENTRY)), 5, "0001.json", ALL),
    "a link out": Case(catalog(link(ENTRY, "/etc/passwd")), 5, "0001.json", ALL),
    "a folder": Case(catalog(folder(ENTRY)), 5, "0001.json", ALL),
    "a missing entry": Case(
        catalog(moved(ENTRY, "00000000000000000007.json")),
        5, "0007|missing", ALL,
    ),
    "a fence that is a FIFO": Case(catalog(fifo("lake/bad/_dativo/hostile/fence.json")), 5, "fence.json", (RUN,)),
    "a lock that is a FIFO": Case(catalog(fifo("lake/bad/_dativo/hostile/lock")), 5, "lock", (RUN,)),
    "an intent that is a FIFO": Case(catalog(fifo("lake/bad/_dativo/hostile/intent.json")), 5, "intent.json", (RUN,)),
    "an intent of nothing": Case(catalog(text("lake/bad/_dativo/hostile/intent.json", "{}")), 5, "intent.json", (RUN,)),
}  # fmt: skip
LAKES = {
    f"{target}: {name}": case
    for target, cases in (("iceberg", ICEBERG), ("parquet", LOG))
    for name, case in cases.items()
}


@dataclass
class Landed:
    """A workspace whose warehouse holds one epoch, and is as it was for every test: Iceberg's paths are absolute."""

    workspace: Workspace
    good: Path

    def restored(self) -> Workspace:
        shutil.rmtree(self.workspace.lake, ignore_errors=True)
        subprocess.run(["cp", "-a", self.good, self.workspace.lake], check=True, timeout=60)
        return self.workspace


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Landed]:
    """The workspace of a target, made once."""
    made: dict[str, Landed] = {}

    def of(target: str) -> Landed:
        if target not in made:
            top = tmp_path_factory.mktemp(target)
            for name in ("workspace", "home", "outside"):
                (top / name).mkdir(mode=0o700)
            workspace = Workspace(top / "workspace", top / "home", flags=plain_flags())
            workspace.plugin(ROOT / "tests/plugins/bad", "bad")
            workspace.job(JOB.replace("iceberg", target))
            assert workspace.run().status == 0
            (top / "outside/diary").write_text("mine")
            subprocess.run(["cp", "-a", workspace.lake, top / "good"], check=True, timeout=60)
            made[target] = Landed(workspace, top / "good")
        return made[target]

    return of


@pytest.mark.parametrize("name", LAKES)
def test_a_hostile_warehouse(landed: Callable[[str], Landed], name: str) -> None:
    target, _, _ = name.partition(":")
    workspace = landed(target).restored()
    check(workspace, LAKES[name])
    assert (workspace.folder.parent / "outside/diary").read_text() == "mine"
