"""``python -I -m dativo.plugins.parquet``: the committer process, its control socket on descriptor 3."""

from __future__ import annotations

import sys

from dativo.plugins.commit import session
from dativo.plugins.parquet.target import ParquetTarget

if __name__ == "__main__":
    sys.exit(session.main(ParquetTarget()))
