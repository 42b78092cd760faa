"""Start a program behind its walls: plan, spawn stage 1, check what stage 2 attests, let it go.

The way of a launch, as docs/spec/sandbox.md draws it: memory files hold bubblewrap's options, both stages' plans and the
private files; stage 1 becomes bubblewrap, bubblewrap becomes stage 2 inside, a broker is given the sockets of its network
where one is granted, and stage 2 starts the program. All that is decided beforehand is here; launching.py does it.
"""

from __future__ import annotations

import _thread
import os
from pathlib import Path
from typing import Final

from dativo.sandbox import cgroup, executables, watchdog
from dativo.sandbox.attestation import Asked
from dativo.sandbox.confined import Confined
from dativo.sandbox.descriptors import Descriptors
from dativo.sandbox.errors import SandboxError, StartFailed, WallMissing
from dativo.sandbox.launching import Attempt, Building, Launching, Served
from dativo.sandbox.mounts import View, bubblewrap_options, etc_files, plan_view
from dativo.sandbox.network import check_network, standing
from dativo.sandbox.program import Grants, Identity, Limits, Program, Walls
from dativo.sandbox.rlimits import rlimits
from dativo.sandbox.seccomp import blob_path
from dativo.sandbox.stages import encode, stage1_plan, stage2_plan
from dativo.sandbox.streams import Handed, open_ends
from dativo.sandbox.visible import plan_visible, visible_options

# Where stage 1 shows the granted sources to bubblewrap, in a mount namespace of its own; root only.
VIEW_FOLDER: Final = Path("/run/dativo/view")
ATTEST_TIMEOUT_S: Final = 10.0


def launch(
    program: Program,
    grants: Grants,
    *,
    identity: Identity | None,
    walls: Walls,
    stdin: int | None,
    stdout: int | None,
    stderr: int | None = None,
    control: int | None,
    run: str,
    sockets: int | None = None,
    client: str = "",
    attest_timeout_s: float | None = None,
) -> Confined:
    """Start ``program`` and return once every wall is attested and its exec has succeeded: begin_launch() and finish()."""
    return begin_launch(
        program,
        grants,
        identity=identity,
        walls=walls,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        control=control,
        run=run,
        sockets=sockets,
        client=client,
        attest_timeout_s=attest_timeout_s,
    ).finish()


def begin_launch(
    program: Program,
    grants: Grants,
    *,
    identity: Identity | None,
    walls: Walls,
    stdin: int | None,
    stdout: int | None,
    stderr: int | None = None,
    control: int | None,
    run: str,
    sockets: int | None = None,
    client: str = "",
    attest_timeout_s: float | None = None,
) -> Launching:
    """Begin to build the walls of ``program``, so that several launches take the time of one. Finish or abandon what it returns.

    Call it from the main thread: a confined process dies with the thread that started it. ``identity`` is required as
    root and must be None otherwise. ``stdin`` None is /dev/null; ``stdout`` None makes a pipe, ``Confined.stdout``; ``stderr``
    None goes to ``Confined.read_stderr``, which otherwise hears of the walls alone; ``control`` becomes descriptor 3.
    ``sockets`` is a SOCK_SEQPACKET socket that leads to a broker, required with a network that has ports: what listens in the
    process's namespace is handed over there before the program starts, under the name ``client``. The caller keeps its copies
    of these five and may close them at once. ``run`` is for the name of the cgroup. ``attest_timeout_s`` is the patience of
    ``finish``, 10 unless given, of a container 60. Raises WallMissing for a wall that cannot be built, StartFailed where nothing
    can be spawned; nothing is left running then.
    """
    _check_caller(identity)
    check_network(grants.network, host=grants.host_network, sockets=sockets, client=client)
    handed = Handed(stdin, stdout, stderr, control)
    if program.container is not None:
        from dativo.sandbox.docker_launch import begin_in_docker  # seldom

        return begin_in_docker(
            program,
            program.container,
            grants,
            identity,
            handed,
            sockets=sockets,
            client=client,
            attest_timeout_s=attest_timeout_s,
        )
    leaf = _make_leaf(walls, grants.limits, run, program.name)
    fds = Descriptors()
    try:
        served = None
        if sockets is not None and grants.network is not None:
            served = Served(grants.network, fds.copy(sockets), client, identity)
        attempt = _prepare(program, grants, identity, leaf, fds, handed, served)
        patience_s = ATTEST_TIMEOUT_S if attest_timeout_s is None else attest_timeout_s
        return Building(program.name, grants.limits, attempt, leaf, fds, patience_s)
    except BaseException:
        fds.close_all()
        if leaf is not None:
            leaf.remove()
        raise


def _check_caller(identity: Identity | None) -> None:
    if _thread.get_native_id() != os.getpid():
        raise SandboxError("launch() is for the main thread only")
    if (os.geteuid() == 0) != (identity is not None):
        raise WallMissing(
            "identity",
            "root must name who the process becomes, and nobody else can",
            "Pass allocate_identity().identity as root, None otherwise.",
        )
    if identity is not None and (identity.uid <= 0 or identity.gid <= 0):
        raise WallMissing("identity", "uid 0 and gid 0 are never given to a confined process")


def _make_leaf(walls: Walls, limits: Limits, run: str, name: str) -> cgroup.Leaf | None:
    try:
        return cgroup.find_base().leaf(cgroup.leaf_name(run, name), limits)
    except WallMissing:
        if walls.cgroup == "required":
            raise
        watchdog.require_children_files()
        return None


def _prepare(
    program: Program,
    grants: Grants,
    identity: Identity | None,
    leaf: cgroup.Leaf | None,
    fds: Descriptors,
    handed: Handed,
    served: Served | None,
) -> Attempt:
    if not program.argv or not program.argv[0].startswith("/"):
        raise StartFailed(f"{program.name}: argv must begin with an absolute path")
    view = plan_view(program, grants)
    confine, bwrap = str(executables.confine().resolve()), str(executables.bubblewrap())
    seccomp = fds.own(os.open(blob_path(), os.O_RDONLY | os.O_CLOEXEC))
    attached, sources, stage2_source = _attached(view, confine, identity)
    becomes = identity or Identity(os.getuid(), os.getgid(), tuple(os.getgroups()))
    etc = {} if program.bare else etc_files(becomes, grants)
    files = {path: fds.content("file", content) for path, content in etc.items()} | {
        file.path: fds.content("file", file.content) for file in view.files
    }
    ends = open_ends(fds, handed)
    streams = ends.streams
    limits = rlimits(grants.limits, degraded=leaf is None)
    visible = None if program.bare else plan_visible(leaf, grants.limits, cgroup.hierarchies())
    limit_files = {
        inside: fds.content("file", content)
        for inside, content in (visible.texts if visible else ())
    }
    stage2 = fds.content("plan", stage2_plan(program, grants, view, limits, streams))
    options = bubblewrap_options(
        view,
        grants,
        stage2_source=stage2_source,
        sources=sources,
        fds=files,
        cgroup=visible_options(visible, limit_files) if visible else (),
    )
    options_fd = fds.content("options", encode([*options, "--seccomp", seccomp]))
    inside = (*streams.all, stage2)
    kept = (*inside, options_fd, seccomp, *files.values(), *limit_files.values())
    plan = stage1_plan(
        kept=kept,
        joins=[str(path) for path in leaf.joins] if leaf else (),
        folder=str(VIEW_FOLDER) if identity else None,
        protected=view.protected,
        attached=attached,
        identity=identity,
        bubblewrap=bwrap,
        options_fd=options_fd,
        plan_fd=stage2,
    )
    plan_fd = fds.content("plan", plan)
    stderr_out, stderr_in = fds.pipe()
    asked = Asked(
        identity=becomes,
        descriptors=frozenset({0, 1, 2, *streams.all}),
        limits=limits,
        members=leaf.members if leaf else (),
        cgroup=leaf.kind if leaf else "degraded",
        network=standing(grants.network, host=grants.host_network),
        needs_landlock=bool(grants.exchange),
    )
    return Attempt(
        stage1=confine,
        plan_fd=plan_fd,
        passed=(*kept, plan_fd),
        report=ends.report,
        stderr_out=stderr_out,
        stderr_in=stderr_in,
        stdout=ends.stdout,
        asked=asked,
        served=served,
    )


def _attached(
    view: View, confine: str, identity: Identity | None
) -> tuple[list[tuple[str, str, bool]], dict[str, str], str]:
    """As root: what stage 1 attaches, where bubblewrap finds the source of each mount, and stage 2's executable."""
    if identity is None:
        return [], {}, confine
    for folder in (VIEW_FOLDER.parent, VIEW_FOLDER):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)  # whatever the umask: the dropped uid must pass
    attached = [(confine, f"{VIEW_FOLDER}/confine", False)]
    sources: dict[str, str] = {}
    for number, mount in enumerate(view.given):
        sources[mount.inside] = f"{VIEW_FOLDER}/{number}"
        attached.append((mount.source, sources[mount.inside], mount.writable))
    return attached, sources, attached[0][1]
