"""An image with a Python of this machine, whose own wishes are those of a hostile one."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from pathlib import Path

PYTHON = "/usr/bin/python3"
# What an image asks its engine for, and what must not be given. The variable would break every dynamic program.
WISHES = (
    "VOLUME /data", "LABEL com.example.steer=yes", "ENV LD_PRELOAD=/nonexistent.so", "ENV SECRET=of-the-image",
    'ENTRYPOINT ["/bin/sh", "-c", "exit 77"]', "HEALTHCHECK --interval=1s CMD /bin/sh", "USER 0", "WORKDIR /data", "EXPOSE 80",
)  # fmt: skip
# Parts of the standard library that nothing here needs: an engine that has no better way copies the image for each container.
LEFT_OUT = (
    "test", "dist-packages", "site-packages", "config-", "pydoc_data", "lib2to3", "distutils", "ensurepip", "idlelib", "tkinter",
    "turtle", "unittest", "sqlite3", "lib-dynload/_codecs", "lib-dynload/_curses", "lib-dynload/_dbm", "lib-dynload/_hashlib",
    "lib-dynload/_sqlite3", "lib-dynload/_ssl", "lib-dynload/_test", "lib-dynload/nis", "lib-dynload/oss",
    "lib-dynload/readline",
)  # fmt: skip
OPEN = (Path("/"), Path("/etc"))


def python_image() -> bytes:
    """Return a root file system as a tarball: Python, its modules, a shell, and what they load."""
    said = subprocess.run(
        [PYTHON, "-I", "-c", "import sysconfig as s; print(s.get_path('stdlib'))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    library = Path(said.stdout.strip())
    modules = [
        path for path in library.rglob("*")
        if path.suffix in (".py", ".so") and not str(path.relative_to(library)).startswith(LEFT_OUT)
    ]  # fmt: skip
    programs = [Path(PYTHON), Path("/bin/sh"), Path("/usr/bin/true")]
    loaded = subprocess.run(
        ["ldd", *programs, *(path for path in modules if path.suffix == ".so")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    libraries = map(Path, re.findall(r"(?:=> )?(/\S+) \(0x", loaded.stdout))
    files = {*modules, *programs, *libraries}
    folders = {parent for path in files for parent in path.parents if parent.name}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for folder in sorted({*folders, Path("/"), Path("/etc"), Path("/tmp")}):
            info = tarfile.TarInfo(f".{folder}")
            # Anybody may change the root and /etc, as far as their owner has a say.
            info.type, info.mode = tarfile.DIRTYPE, 0o777 if folder in OPEN else 0o755
            tar.addfile(info)
        for path in sorted(files):
            tar.add(path.resolve(), str(path)[1:])
        # Whoever runs in it would be of root's group, if the engine asked the image.
        for name, text in (("passwd", "root:x:0:0::/:/bin/sh\n"), ("group", "root:x:0:plugin\n")):
            info = tarfile.TarInfo(f"etc/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return packed.getvalue()
