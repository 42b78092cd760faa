"""The kernel closes its memory to other processes of its user."""

import subprocess
import sys

CODE = """
import ctypes
from dativo.kernel.undumpable import make_undumpable
dumpable = lambda: ctypes.CDLL(None).prctl(3)  # PR_GET_DUMPABLE
print(dumpable())
make_undumpable()
print(dumpable())
"""


def test_its_memory_is_closed() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"], done.stderr
