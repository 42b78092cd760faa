"""Files that other programs obey by themselves: git hooks and settings, ``.envrc``, makefiles, ``.dativo``.

A command that may write a folder must not leave something there that runs outside later. What exists stays read-only behind the
walls (``Grants.protected``); what is new or replaced afterwards is found by comparing two snapshots: a folder that was
renamed away and made anew shows up too, since its inode is another.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dativo.kernel.limits import PROTECTED_FILES, SEARCHED_DEPTH, SEARCHED_FILES
from dativo.protocol.errors import ConfigError, LimitExceeded, Where

NAMES: Final = frozenset({".envrc", "Makefile", "makefile", "GNUmakefile", ".dativo"})
GIT: Final = ".git"
# Settings name programs too: core.fsmonitor is run by `git status` (git-config(1)).
GIT_OBEYS: Final = frozenset({"hooks", "config", "config.worktree"})
# A folder that holds these is a git folder, whatever its name: bare, or a submodule's below .git/modules.
_OF_GIT: Final = frozenset({"HEAD", "objects", "refs"})
_NARROWER: Final = "Grant a folder further down with --rw"

# A folder below that is closed to us, or that is gone or another thing since it was listed.
_LEFT_OUT: Final = (PermissionError, FileNotFoundError, NotADirectoryError)
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Mark:
    """What one such file was. An inode number is soon used again, so size and time of change count too, but of a folder: its
    entries have marks of their own.
    """

    device: int
    inode: int
    kind: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Mark:
        """Return the mark of a file that was not followed through a link."""
        kind = stat.S_IFMT(status.st_mode)
        folder = kind == stat.S_IFDIR
        return cls(
            status.st_dev,
            status.st_ino,
            kind,
            0 if folder else status.st_size,
            0 if folder else status.st_ctime_ns,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every such file below some folders: ``marks`` of all and of what lies in them, ``tops`` without the latter."""

    marks: dict[Path, Mark] = field(default_factory=dict)
    tops: list[Path] = field(default_factory=list)

    def protected(self, roots: Iterable[Path]) -> tuple[Path, ...]:
        """Return what is to be made read-only, as real paths below ``roots``: of a link, what it leads to."""
        roots = tuple(roots)
        found: dict[Path, None] = {}
        for path in self.tops:
            if self.marks[path].kind == stat.S_IFLNK:
                path = Path(os.path.realpath(path))
                if not path.exists() or not any(root in path.parents for root in roots):
                    continue
            found[path] = None
        if len(found) > PROTECTED_FILES:
            raise ConfigError(
                f"more than {PROTECTED_FILES} files to protect (git hooks and settings, .envrc, makefiles, .dativo)",
                Where(file=str(roots[0])),
                hint=_NARROWER,
            )
        return tuple(found)

    def changed_in(self, later: Snapshot) -> list[Path]:
        """Return what ``later`` has and this one has not, or not as the same file."""
        changed = [path for path, mark in later.marks.items() if self.marks.get(path) != mark]
        # What lies in a folder that is told of needs no line of its own.
        told = set(changed)
        return sorted(path for path in changed if told.isdisjoint(path.parents))


def take_snapshot(roots: Iterable[Path]) -> Snapshot:
    """Walk ``roots`` and return what is there. Follows no link: folders are opened beneath one another.

    Raises LimitExceeded beyond SEARCHED_FILES in all or SEARCHED_DEPTH, ConfigError for a folder that cannot be opened.
    """
    walk = _Walk()
    for root in roots:
        if root.is_dir():
            walk.enter(None, root, protected=False, depth=0)
    return walk.snapshot


class _Walk:
    """One walk over all folders."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self._left = int(SEARCHED_FILES)

    def enter(self, parent: int | None, path: Path, *, protected: bool, depth: int) -> None:
        """Open a folder beneath ``parent`` and look through it."""
        if depth > SEARCHED_DEPTH:
            raise LimitExceeded(
                f"folders more than {SEARCHED_DEPTH} deep", Where(file=str(path)), hint=_NARROWER
            )
        try:
            name = path if parent is None else path.name
            folder = os.open(name, _FOLDER, dir_fd=parent)
        except OSError as error:
            if parent is None or not isinstance(error, _LEFT_OUT):
                raise ConfigError(
                    f"cannot look into it: {error.strerror}", Where(file=str(path))
                ) from error
            if isinstance(error, PermissionError):
                # Nothing in it is seen: the folder stands for it, and is told of when it was not there before.
                self._mark(parent, path, top=False)
            return
        try:
            self._look(folder, path, protected=protected, depth=depth)
        finally:
            os.close(folder)

    def _look(self, folder: int, path: Path, *, protected: bool, depth: int) -> None:
        found = self._listed(folder, path)
        of_git = path.name == GIT or found.keys() >= _OF_GIT
        for name, is_folder in found.items():
            obeyed = name in NAMES or (of_git and name in GIT_OBEYS)
            if obeyed or protected:
                self._mark(folder, path / name, top=obeyed and not protected)
            if is_folder:
                inner = protected or obeyed
                self.enter(folder, path / name, protected=inner, depth=depth + 1)

    def _listed(self, folder: int, path: Path) -> dict[str, bool]:
        """Return each name in a folder and whether it is a folder itself."""
        found = {}
        with os.scandir(folder) as entries:
            for entry in entries:
                self._left -= 1
                if self._left < 0:
                    raise LimitExceeded(
                        f"more than {SEARCHED_FILES:,} files to look through",
                        Where(file=str(path)),
                        hint=_NARROWER,
                    )
                found[entry.name] = entry.is_dir(follow_symlinks=False)
        return found

    def _mark(self, parent: int, path: Path, *, top: bool) -> None:
        try:
            status = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return  # gone since it was listed
        except OSError as error:
            raise ConfigError(
                f"cannot be looked at: {error.strerror}", Where(file=str(path))
            ) from error
        self.snapshot.marks[path] = Mark.of(status)
        if top:
            self.snapshot.tops.append(path)
