"""Parquet committer: plain folders of Parquet files and a numbered commit log beside them (docs/spec/commit.md).

``log`` owns the log, the fence and the intent; ``target`` the folders of the streams.
"""
