"""Unpacks a container image into a folder, as one confined process that sees the archive and that folder alone.

What it reads is hostile: every blob is held against its digest, every size is counted while it is read, and every path is walked
by descriptor within the folder. What it says is as hostile as the image, for whoever reads it. docs/spec/images.md.

``archive`` finds the image → ``layer`` gives the entries of one layer → ``changes`` applies them → ``root`` writes them.
"""
