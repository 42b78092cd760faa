"""Run a command of dativo with little patience: `python hurried.py SCRIPT ARGUMENTS…`. Each limit in PATIENCE is 2 s."""

from __future__ import annotations

import runpy
import sys

from dativo.kernel import conversation, landing, limits

PATIENCE = ("HELLO_TIMEOUT_S", "FINISH_TIMEOUT_S", "SILENCE_S", "ABORT_TIMEOUT_S")

for name in PATIENCE:
    for module in (conversation, landing):
        if hasattr(module, name):
            setattr(module, name, limits.Limit(2, "", "a test's"))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
