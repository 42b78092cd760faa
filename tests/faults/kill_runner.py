"""Run a committer that dies by SIGKILL before or after the n-th call of one function, wherever that is.

    python -I kill_runner.py PLUGIN MODULE:QUALIFIED.NAME before|after CALL_NUMBER [freeze]

With ``freeze`` the process stops (SIGSTOP) instead and goes on when it gets SIGCONT: a zombie.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from typing import Any


def main() -> None:
    plugin, place, moment, number, *rest = sys.argv[1:]
    how = signal.SIGSTOP if rest == ["freeze"] else signal.SIGKILL
    module_name, _, qualified = place.partition(":")
    owner: Any = importlib.import_module(module_name)
    *path, name = qualified.split(".")
    for part in path:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    calls = 0

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == int(number) and moment == "before":
            os.kill(os.getpid(), how)
        result = original(*args, **kwargs)
        if calls == int(number) and moment == "after":
            os.kill(os.getpid(), how)
        return result

    setattr(owner, name, wrapped)
    from dativo.plugins.commit import session

    if plugin == "iceberg":
        from dativo.plugins.iceberg.target import IcebergTarget

        sys.exit(session.main(IcebergTarget()))
    from dativo.plugins.parquet.target import ParquetTarget

    sys.exit(session.main(ParquetTarget()))


main()
