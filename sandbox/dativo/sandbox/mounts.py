"""What is seen inside, as data: which host path lies where, and what Landlock permits beneath it.

The order matters. A mount point is never made below something that the program can write: a link planted there in an
earlier run could lead it outside (CVE-2026-87766 of bubblewrap). Such overlaps are refused here, before anything starts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from dativo.sandbox import roots, system
from dativo.sandbox.errors import WallMissing
from dativo.sandbox.program import MIB, Grants, Identity, PrivateFile, Program

Access = Literal["list", "read", "execute", "write", "exchange", "device"]

STAGE2: Final = "/.dativo/confine"
HOSTNAME: Final = "plugin"

# Seen by every program; /etc otherwise holds the few files of `_etc_files`.
_HOST_READ: Final = (
    "/etc/ld.so.cache",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust/extracted",
    "/etc/alternatives",
)
# Settings of a Java of the distribution, whose own folder below /usr only links there (Debian; Fedora).
_HOST_JAVA: Final = ("java-*-openjdk", "java")
_PROGRAM_FOLDERS: Final = ("/bin", "/sbin")
_LINKED_FOLDERS: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
DEVICES: Final = ("null", "zero", "full", "random", "urandom")
# What Rust's own library and its getrandom open.
_BARE_DEVICES: Final = ("null", "random", "urandom")
_USR: Final = str(system.SYSTEM)
_OWN: Final = ("/", "/etc", "/run", "/tmp")  # noqa: S108 - inside
_CLOSED: Final = ("/proc", "/dev", "/sys", "/.dativo")
_PRIVATE: Final = ("/tmp/", "/run/")  # noqa: S108 - inside
_RUN_SLACK_BYTES: Final = MIB


@dataclass(frozen=True, slots=True)
class Mount:
    """``source`` of the host, free of links, seen as ``inside``."""

    source: str
    inside: str
    access: Access

    @property
    def writable(self) -> bool:
        """Whether the program may change what lies there."""
        return self.access in ("write", "exchange")


@dataclass(frozen=True, slots=True)
class View:
    """Mounts in the order to make them: the host's own that everybody reads, then what was given to this program, an image's root
    first. The Landlock rules also cover what needs no mount of its own. ``protected`` are sources, as a writable mount's source
    and the path below it: stage 1 makes them read-only where they lie, before bubblewrap binds what holds them.
    ``of_image``: /etc is the image's, read-only. ``bare``: there is none.
    """

    base: tuple[Mount, ...]
    given: tuple[Mount, ...]
    rules: tuple[tuple[Access, str], ...]
    links: tuple[tuple[str, str], ...]
    files: tuple[PrivateFile, ...]
    has_run: bool
    protected: tuple[tuple[str, str], ...] = ()
    of_image: bool = False
    bare: bool = False


def plan_view(program: Program, grants: Grants) -> View:
    """Resolve every path and order the mounts; raise WallMissing on a path that cannot be given safely."""
    asked: list[tuple[Path, str, Access]] = [
        *((path, str(path), "execute") for path in program.runtime),
        *((path, str(path), "read") for path in grants.read),
        *((path, str(path), "write") for path in grants.write),
        *((path, inside, "write" if rw else "read") for path, inside, rw in program.binds),
        *((path, inside, "exchange") for path, inside in grants.exchange),
        *((path, str(path), "execute") for path in grants.execute if not _below(str(path), _USR)),
    ]
    of_image = program.root is not None or program.container is not None
    of_host = not of_image and not program.bare
    narrowed = of_host and system.SYSTEM not in grants.execute
    links: list[tuple[str, str]] = []
    if narrowed:
        links, programs = system.programs(program.argv[0], grants.execute)
        asked.extend((Path(path), path, "execute") for path in programs)
    # An image has links of its own.
    linked = () if of_image else _LINKED_FOLDERS
    wanted = [_mount(path, inside, access, linked) for path, inside, access in asked]
    files = tuple(_private(file) for file in program.files)
    has_run = any(_below(file.path, "/run") for file in files)
    image: list[Mount] = []
    base: list[Mount] = []
    if of_host:
        found, base = _host(narrowed=narrowed)
        links += found
    elif program.root is not None:
        targets = [mount.inside for mount in wanted] + (["/run"] if has_run else [])
        links, binds = roots.entries(program.root, targets)
        image = [Mount(source, inside, "execute") for source, inside in binds]
    rules: list[tuple[Access, str]] = [
        ("list", "/"),
        ("read", "/proc"),
        ("device", "/dev"),
        ("write", "/dev/shm"),  # noqa: S108 - inside
        ("write", "/tmp"),  # noqa: S108 - inside
    ]
    if has_run:
        rules.append(("write", "/run"))
    if narrowed:
        rules.extend(("execute", path) for path in system.loaders())
    if not program.bare:
        rules.append(("read", "/etc"))
        rules.append(("read", "/sys"))
    for mount in (*base, *image, *wanted):
        rules.append((mount.access, mount.inside))
    given = _ordered(base, wanted)
    for file in files:
        if any(_below(file.path, mount.inside) for mount in given):
            raise WallMissing(
                "mounts",
                f"the private file {file.path} would lie in a granted folder",
                "Name it elsewhere below /tmp or /run.",
            )
    return View(
        tuple(base),
        (*image, *given),
        tuple(dict.fromkeys(rules)),
        tuple(links),
        files,
        has_run,
        tuple(_protected(path, given) for path in dict.fromkeys(grants.protected)),
        program.root is not None,
        program.bare,
    )


def bubblewrap_options(
    view: View,
    grants: Grants,
    *,
    stage2_source: str,
    sources: dict[str, str],
    fds: dict[str, int],
    cgroup: Iterable[str] = (),
) -> list[str]:
    """Return the options for ``--args``. ``sources`` names a mount's source as bubblewrap can reach it, ``fds`` the
    descriptor that holds the content of each file inside, ``cgroup`` the options that show the process its limits.
    """
    limits = grants.limits
    options = [
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
        *(() if grants.host_network else ("--unshare-net",)),
        *("--unshare-cgroup", "--die-with-parent", "--new-session", "--as-pid-1"),
        *("--hostname", HOSTNAME, "--clearenv"),
        *("--perms", "1777", "--size", str(limits.tmp_bytes), "--tmpfs", "/tmp"),  # noqa: S108
    ]
    if view.has_run:
        size = _RUN_SLACK_BYTES + sum(len(file.content) for file in view.files)
        options += ["--perms", "0755", "--size", str(size), "--tmpfs", "/run"]
    options += ["--proc", "/proc", "--size", "65536", "--tmpfs", "/dev"]
    for device in _BARE_DEVICES if view.bare else DEVICES:
        options += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    options += ["--symlink", "/proc/self/fd", "/dev/fd"]
    for number, stream in enumerate(("stdin", "stdout", "stderr")):
        options += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{stream}"]
    options += ["--perms", "1777", "--size", str(limits.shm_bytes), "--tmpfs", "/dev/shm"]  # noqa: S108
    options += ["--remount-ro", "/dev"]
    for target, inside in view.links:
        options += ["--symlink", target, inside]
    for mount in (*view.base, *view.given):
        source = sources.get(mount.inside, mount.source)
        options += ["--bind" if mount.writable else "--ro-bind", source, mount.inside]
    options += ["--ro-bind", stage2_source, STAGE2]
    for inside, fd in fds.items():
        private = any(file.path == inside for file in view.files)
        how = "--ro-bind-data" if view.of_image and not private else "--file"
        options += ["--perms", "0600" if private else "0444", how, str(fd), inside]
    return [*options, *cgroup, "--remount-ro", "/", "--chdir", "/"]


def etc_files(identity: Identity, grants: Grants) -> dict[str, bytes]:
    """Return the small files of /etc: one user, names by hosts and then, where a broker answers, DNS."""
    uid, gid = identity.uid, identity.gid
    files = {
        "/etc/passwd": f"plugin:x:{uid}:{gid}:plugin:/tmp:/bin/sh\n".encode(),
        "/etc/group": f"plugin:x:{gid}:\n".encode(),
        "/etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files dns\nservices: files\n",
        "/etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {HOSTNAME}\n".encode(),
    }
    if grants.network is not None and grants.network.named:
        files["/etc/resolv.conf"] = b"nameserver 127.0.0.1\n"
    return files


def _mount(
    source: Path, inside: str, access: Access, linked: Iterable[str] = _LINKED_FOLDERS
) -> Mount:
    path = _inside(inside, linked)
    try:
        real = os.path.realpath(source, strict=True)
    except OSError as error:
        raise WallMissing(
            "mounts", f"{source}: {error.strerror}", "Grant a path that exists."
        ) from error
    return Mount(real, path, access)


def _inside(path: str, linked: Iterable[str] = _LINKED_FOLDERS) -> str:
    clean = os.path.normpath(path)
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise WallMissing("mounts", f"{path!r} is not a plain absolute path", "Write it in full.")
    clean = "/" + clean.lstrip("/")
    for folder in linked:
        if _below(clean, folder):
            clean = os.path.realpath(folder) + clean[len(folder) :]
    if clean in _OWN or any(_below(clean, closed) for closed in _CLOSED):
        raise WallMissing(
            "mounts",
            f"{clean} is made for each process and cannot be given",
            "Grant a folder further down or elsewhere.",
        )
    return clean


def _protected(path: Path, given: tuple[Mount, ...]) -> tuple[str, str]:
    """Split a protected path into the source of the writable mount that shows it, and the rest."""
    text = str(path)
    for mount in given:
        if mount.writable and text != mount.source and _below(text, mount.source):
            return mount.source, text[len(mount.source) :].lstrip("/")
    raise WallMissing(
        "mounts",
        f"{text} is to be protected and lies in no folder that is granted for writing",
        "Protect real paths below a write grant.",
    )


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _private(file: PrivateFile) -> PrivateFile:
    clean = os.path.normpath(file.path)
    if clean != file.path or not clean.startswith(_PRIVATE):
        raise WallMissing(
            "mounts", f"{file.path!r} is not below /tmp or /run", "Name a private file there."
        )
    return file


def _linked_folders() -> tuple[list[tuple[str, str]], list[Mount]]:
    """Return /bin, /lib and the like as the host has them: links into /usr, or folders of their own."""
    links: list[tuple[str, str]] = []
    folders: list[Mount] = []
    for folder in _LINKED_FOLDERS:
        path = Path(folder)
        if path.is_symlink():
            links.append((str(path.readlink()), folder))
        elif path.is_dir():
            folders.append(Mount(folder, folder, "execute"))
    return links, folders


def _host(*, narrowed: bool) -> tuple[list[tuple[str, str]], list[Mount]]:
    """Return the links and mounts of what every program sees of the host; ``narrowed``: without its programs."""
    links, folders = _linked_folders()
    base = [Mount(_USR, _USR, "execute"), *folders]
    if narrowed:
        libraries = [mount.source for mount in folders if mount.source not in _PROGRAM_FOLDERS]
        base = [Mount(path, path, "read") for path in (*system.folders(), *libraries)]
    java = (path for pattern in _HOST_JAVA for path in Path("/etc").glob(pattern))
    read = (path for path in (*map(Path, _HOST_READ), *java) if path.exists())
    base += [_mount(path, str(path), "read") for path in read]
    return links + _local_time(), base


def _local_time() -> list[tuple[str, str]]:
    zone = os.path.realpath("/etc/localtime")
    return [(zone, "/etc/localtime")] if _below(zone, "/usr/share/zoneinfo") else []


def _ordered(base: list[Mount], wanted: list[Mount]) -> tuple[Mount, ...]:
    """Return what to mount over ``base``, outer first. What an outer mount shows already is left out; what would lie in a
    writable one is refused.
    """
    kept = list(base)
    for mount in sorted(wanted, key=_depth):
        outer = [other for other in kept if _below(mount.inside, other.inside)]
        if not outer:
            kept.append(mount)
            continue
        nearest = max(outer, key=lambda other: len(other.inside))
        shown = mount.source == nearest.source + mount.inside[len(nearest.inside) :]
        if shown and mount.writable == nearest.writable:
            continue
        _refuse_overlap(mount, nearest, shown)
        if shown or _covers(mount, nearest):
            kept.append(mount)
        else:
            # A link within a read-only mount is seen as that link: what it leads to is mounted where it leads.
            target = Mount(mount.source, _inside(mount.source), mount.access)
            return _ordered(base, [target, *(other for other in wanted if other is not mount)])
    return tuple(kept[len(base) :])


def _covers(mount: Mount, outer: Mount) -> bool:
    """Whether a file or folder of ``outer``, reached by no link, is to be seen as another one."""
    hidden = Path(outer.source + mount.inside[len(outer.inside) :])
    return hidden.exists() and os.path.realpath(hidden) == str(hidden)


def _depth(mount: Mount) -> tuple[int, str]:
    return mount.inside.count("/"), mount.inside


def _refuse_overlap(mount: Mount, outer: Mount, shown: bool) -> None:
    if outer.inside == mount.inside:
        raise WallMissing(
            "mounts",
            f"{mount.inside} is asked for twice, as different things",
            "Grant it once, read or write.",
        )
    if outer.writable:
        raise WallMissing(
            "mounts",
            f"{mount.inside} lies in {outer.inside}, which the program can write",
            "Grant folders that do not lie in one another.",
        )
    if not shown and (mount.writable or mount.source == mount.inside):
        raise WallMissing(
            "mounts",
            f"{mount.inside} is another folder than the one that {outer.inside} shows there",
            f"Grant {mount.source} itself.",
        )
