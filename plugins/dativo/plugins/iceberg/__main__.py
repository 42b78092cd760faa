"""``python -I -m dativo.plugins.iceberg``: the committer process, its control socket on descriptor 3."""

from __future__ import annotations

import sys

from dativo.plugins.commit import session
from dativo.plugins.iceberg.target import IcebergTarget

if __name__ == "__main__":
    sys.exit(session.main(IcebergTarget()))
