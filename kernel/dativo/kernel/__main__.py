"""Entry point. ``--version`` answers before anything else is imported (Q3)."""

import sys

from dativo.kernel._version import VERSION


def main() -> None:
    """Run the command line and exit with its status."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        sys.stdout.write(f"dativo {VERSION}\n")
        return
    from dativo.kernel.cli import run_command_line
    from dativo.kernel.undumpable import make_undumpable

    make_undumpable()
    sys.exit(run_command_line())


if __name__ == "__main__":
    main()
