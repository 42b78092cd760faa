"""A Singer tap that leaves its rows in gzipped files below its config's ``root`` and names them in BATCH messages.

For tests alone. Config: root, rows, files, mode: ``good``; ``outside`` names a file that is not its own; ``link`` puts a link to
one into the folder; ``fills`` writes until it is ended; ``waits`` leaves files of 3 MiB, each when the one before is gone.
"""

import argparse
import gzip
import json
import os
import sys
import time

SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}}}
OUTSIDE = "/tmp/dativo/config.json"
ENTRY = {
    "tap_stream_id": "numbers",
    "stream": "numbers",
    "schema": SCHEMA,
    "key_properties": ["id"],
    "metadata": [{"breadcrumb": [], "metadata": {"inclusion": "available"}}],
}


def write(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def batch(paths):
    encoding = {"format": "jsonl", "compression": "gzip"}
    manifest = ["file://" + path for path in paths]
    write({"type": "BATCH", "stream": "numbers", "encoding": encoding, "manifest": manifest})


def rows(config):
    count, files = config["rows"], config.get("files", 1)
    for number in range(files):
        path = os.path.join(config["root"], f"numbers-{number}.json.gz")
        with gzip.open(path, "wt") as file:
            for i in range(number * count // files, (number + 1) * count // files):
                file.write(json.dumps({"id": i}) + "\n")
        batch([path])
        write({"type": "STATE", "value": {"files": number + 1}})


def wait(config):
    for number in range(config["files"]):
        path = os.path.join(config["root"], f"numbers-{number}.json")
        with open(path, "w") as file:
            file.write(" " * (3 << 20) + json.dumps({"id": number}) + "\n")
        encoding = {"format": "jsonl", "compression": "none"}
        manifest = ["file://" + path]
        write({"type": "BATCH", "stream": "numbers", "encoding": encoding, "manifest": manifest})
        write({"type": "STATE", "value": {"files": number + 1}})
        until = time.monotonic() + 30
        while os.path.exists(path) and number + 1 < config["files"]:
            if time.monotonic() > until:
                sys.exit("nobody removes " + path)
            time.sleep(0.02)


def fill(config):
    with open(os.path.join(config["root"], "fill"), "wb") as file:
        while True:
            file.write(os.urandom(1 << 16))


def read(config):
    mode = config.get("mode", "good")
    write({"type": "SCHEMA", "stream": "numbers", "schema": SCHEMA, "key_properties": ["id"]})
    if mode == "good":
        rows(config)
    elif mode == "outside":
        batch([OUTSIDE])
    elif mode == "link":
        path = os.path.join(config["root"], "link")
        os.symlink(OUTSIDE, path)
        batch([path])
    elif mode == "waits":
        wait(config)
    else:
        fill(config)


parser = argparse.ArgumentParser()
for flag in ("--config", "--catalog", "--state"):
    parser.add_argument(flag)
parser.add_argument("--discover", action="store_true")
given = parser.parse_args()
if given.discover:
    json.dump({"streams": [ENTRY]}, sys.stdout)
else:
    with open(given.config) as stream:
        read(json.load(stream))
