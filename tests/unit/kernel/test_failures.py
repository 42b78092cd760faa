"""How a command line ends when it fails: what stderr is told, by both commands alike."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from dativo.kernel import failures, standalone
from dativo.protocol.errors import ConfigError, DativoError, ExitStatus, Where
from dativo.sandbox import SandboxError


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_hint_of_several_lines_stays_on_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise ConfigError(
            "it does not fit\x1b", Where(file="c.json"), value="x\ny", hint="Type:\n  one\n  two"
        )

    monkeypatch.setattr(standalone, "_singer", fail)
    assert standalone.main("parquet", ["--config", "c.json"]) == ExitStatus.CONFIGURATION
    assert capsys.readouterr().err.splitlines() == [
        "it does not fit\\x1b",
        "  where: file c.json",
        "  seen:  x\\ny",
        "  mend:  user: Type:",
        "           one",
        "           two",
    ]


def test_each_end_has_its_status() -> None:
    told: list[DativoError] = []

    def interrupt() -> int:
        raise KeyboardInterrupt

    def terminate() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    def wall() -> int:
        raise SandboxError("it does not stand")

    assert failures.run(lambda: 4, told.append) == 4
    assert failures.run(interrupt, told.append) == ExitStatus.INTERRUPTED
    assert failures.run(terminate, told.append) == ExitStatus.TERMINATED
    assert told == []
    assert failures.run(wall, told.append) == ExitStatus.WALL_MISSING
    assert [error.message for error in told] == ["it does not stand"]
