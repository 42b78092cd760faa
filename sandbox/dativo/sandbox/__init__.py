"""Turn grants into walls and a program into a confined process. Knows argv, paths and limits, not records."""
