"""``python -m tests.sandbox.probes`` runs every probe and prints the table; ``--write`` writes docs/spec/probes.md."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

from tests.sandbox.probes import report
from tests.sandbox.probes.matrix import measure
from tests.sandbox.probes.scene import Scene

from dativo.sandbox import allocate_identity


def main() -> None:
    if sys.argv[1:] == ["--write"]:
        report.PAGE.write_text(report.page())
        return
    with ExitStack() as stack:
        identity = None
        if os.geteuid() == 0:
            identity = stack.enter_context(allocate_identity()).identity
        print("\n".join(report.found(measure(stack.enter_context(Scene(identity))))))


if __name__ == "__main__":
    main()
