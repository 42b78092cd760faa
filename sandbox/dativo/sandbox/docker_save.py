"""The one process that takes an image out of Docker Engine: its archive, as ``docker save`` writes it, to stdout.

``python -I -m dativo.sandbox.docker_save SOCKET IMAGE``. IMAGE is a name or an id; what is sent is that of its id at that moment.
Nothing of the image is looked at. What fails is told on stderr in one line, with status 125.
"""

from __future__ import annotations

import sys
from typing import Final

STATUS_FAILED: Final = 125
_API_S: Final = 60
_CHUNK_BYTES: Final = 1 << 20


def main(engine: str, image: str) -> None:
    """Write the archive of ``image``."""
    from docker import APIClient

    client = APIClient(base_url=f"unix://{engine}", version="auto", timeout=_API_S)
    found = client.inspect_image(image)  # type: ignore[no-untyped-call]
    for chunk in client.get_image(found["Id"], chunk_size=_CHUNK_BYTES):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:  # whatever the engine or its client says is for the caller to tell
        said = " ".join(str(error).split())[:1000]
        sys.stderr.write(f"{type(error).__name__}: {said}\n")
        sys.exit(STATUS_FAILED)
