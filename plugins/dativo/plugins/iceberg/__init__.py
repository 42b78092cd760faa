"""Iceberg committer: tables in a warehouse folder, a SQLite catalogue beside them (docs/spec/commit.md).

``catalog`` owns the SQL, ``_pyiceberg`` everything of that library, ``target`` the two together.
"""
