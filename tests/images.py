"""Root file systems and images made of a few files of this machine: a shell, what it loads, and a script."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path


def shell_files() -> dict[str, bytes]:
    """Return /bin/sh and every library that it loads, by path without the leading slash."""
    said = subprocess.run(
        ["ldd", "/bin/sh"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    paths = ["/bin/sh", *re.findall(r"(?:=> )?(/\S+) \(0x", said)]
    return {path[1:]: Path(path).read_bytes() for path in paths}


def write_root(root: Path, files: dict[str, bytes]) -> Path:
    """Write ``files`` below ``root``, executable, and the plain files that /etc must have."""
    from dativo.sandbox.roots import ETC

    for path, data in {**files, **{f"etc/{name}": b"" for name in ETC}}.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(0o755)
    return root
