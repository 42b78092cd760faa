"""An Airbyte source of one stream of files, as its CDK transfers them. For tests alone; the standard library only.

Config: names. A file of each name is put where AIRBYTE_STAGING_DIRECTORY says, if the configured catalogue asks for files.
"""

import json
import os
import sys

STREAM = {
    "name": "documents",
    "json_schema": {"type": "object", "properties": {"name": {"type": "string"}}},
    "supported_sync_modes": ["full_refresh"],
    "is_file_based": True,
}


def write(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def load(option):
    with open(sys.argv[sys.argv.index(option) + 1]) as stream:
        return json.load(stream)


def read():
    folder = os.environ["AIRBYTE_STAGING_DIRECTORY"]
    [asked] = load("--catalog")["streams"]
    for name in load("--config")["names"] if asked["include_files"] else ():
        path = f"{folder}/documents/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(f"content of {name}")
        reference = {
            "staging_file_url": path,
            "source_file_relative_path": name,
            "file_size_bytes": os.path.getsize(path),
        }
        record = {"stream": "documents", "data": {"name": name}, "emitted_at": 0}
        write({"type": "RECORD", "record": {**record, "file_reference": reference}})


if sys.argv[1] == "spec":
    write({"type": "SPEC", "spec": {"connectionSpecification": {"type": "object"}}})
elif sys.argv[1] == "discover":
    write({"type": "CATALOG", "catalog": {"streams": [STREAM]}})
else:
    read()
