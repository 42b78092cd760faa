"""Errors of the sandbox. It knows nobody, so its root stands apart from dativo's; the kernel gives it exit status 9.

SandboxError            something about walls; ``hint`` says what to do
├── WallMissing         a wall cannot be built here, or was found not to stand
└── StartFailed         the walls stood, the program could not be started
    └── LimitsTooSmall  for want of memory or processes
"""

from __future__ import annotations


class SandboxError(Exception):
    """The root. ``hint`` is one sentence or command for the operator, or empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class WallMissing(SandboxError):
    """``wall`` (a name of docs/spec/sandbox.md) cannot be built: ``reason``; ``remedy`` says what to type or change."""

    def __init__(self, wall: str, reason: str, remedy: str = "") -> None:
        super().__init__(f"{wall}: {reason}", remedy)
        self.wall = wall
        self.reason = reason
        self.remedy = remedy


class StartFailed(SandboxError):
    """The program did not start: ``reason``, and the last of what was written on stderr (foreign text).

    ``errno`` is execve's, where that is what failed: ENOENT for a program that is not there, or whose interpreter is not.
    """

    def __init__(self, reason: str, stderr: bytes = b"", errno: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stderr = stderr
        self.errno = errno


class LimitsTooSmall(StartFailed):
    """What the limits leave is too little for the walls and the start of the program."""
