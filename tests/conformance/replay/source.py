"""A connector that says what another one said: ``discover.out`` and ``read.out`` beside it, byte for byte.

It ends as ``status`` says. For tests alone.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
SPEC = {"type": "SPEC", "spec": {"connectionSpecification": {"type": "object"}}}
CHECKED = {"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}}


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["spec"]:
        print(json.dumps(SPEC))
    elif arguments[:1] == ["check"]:
        print(json.dumps(CHECKED))
    elif "discover" in arguments[:1] or "--discover" in arguments:
        sys.stdout.buffer.write((HERE / "discover.out").read_bytes())
    else:
        sys.stdout.buffer.write((HERE / "read.out").read_bytes())
        sys.stdout.flush()
        sys.exit(int((HERE / "status").read_text()))


if __name__ == "__main__":
    main()
