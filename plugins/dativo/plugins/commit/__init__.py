"""What both committers share: the protocol loop, taking files from staging, names, columns, durable file operations.

    session.serve ── committer.Committer ── target.Target  (iceberg, parquet)
                           │
                           ├── staging.Staging     files taken by descriptor, hashed, copied
                           └── durable             fsync, exclusive create

The protocol is docs/spec/events.md, the commit itself docs/spec/commit.md.
"""
