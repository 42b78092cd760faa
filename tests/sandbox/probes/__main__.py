"""``python -m tests.sandbox.probes`` runs every probe and prints the table; ``--write`` writes docs/spec/probes.md."""

from __future__ import annotations

import sys

from tests.sandbox.probes import report
from tests.sandbox.probes.places import HERE, NO_ENGINE, measure_all


def main() -> None:
    if sys.argv[1:] == ["--write"]:
        report.PAGE.write_text(report.page())
        return
    print("\n".join(report.found(measure_all(HERE))))
    if NO_ENGINE:
        print(f"not in Docker: {NO_ENGINE}")


if __name__ == "__main__":
    main()
