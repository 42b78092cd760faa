"""A Singer tap of two streams that does what its config's ``mode`` says. For tests alone; the standard library only."""

import argparse
import json
import sys
import time

SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "at": {"type": ["null", "string"], "format": "date-time"},
        "price": {"type": ["null", "number"], "multipleOf": 0.01},
        "secret": {"type": ["null", "string"]},
    },
}


def entry(name):
    metadata = [
        {"breadcrumb": [], "metadata": {"inclusion": "available", "odd-key": [1.50]}},
        {"breadcrumb": ["properties", "id"], "metadata": {"inclusion": "automatic"}},
    ]
    return {
        "tap_stream_id": name,
        "stream": name,
        "schema": SCHEMA,
        "key_properties": ["id"],
        "replication_method": "INCREMENTAL",
        "replication_key": "id",
        "metadata": metadata,
    }


def write(text):
    sys.stdout.write(text + "\n")


def selected(stream):
    root = next(m["metadata"] for m in stream["metadata"] if m["breadcrumb"] == [])
    return root.get("selected") is True


def rows(name, first, last):
    for i in range(first, last):
        # Written by hand: digits and spaces must arrive as they stand here.
        write(
            f'{{"type": "RECORD", "stream": "{name}", "record": {{"id": {i}, "at": "2024-01-01T00:00:00Z", '
            f'"price": {i}.10, "secret": "s{i}"}}, "time_extracted": "2024-01-01T00:00:00.000000Z"}}'
        )


def read(config, catalog, state):
    mode, count = config.get("mode", "good"), config.get("rows", 10)
    bookmarks = dict(state.get("bookmarks", {}))
    for stream in filter(selected, catalog["streams"]):
        name = stream["stream"]
        full = stream.get("replication_method") == "FULL_TABLE"
        first = 0 if full else bookmarks.get(name, 0)
        write(
            json.dumps(
                {"type": "SCHEMA", "stream": name, "schema": SCHEMA, "key_properties": ["id"]}
            )
        )
        if mode == "odd":
            write("")
            write("plain text")
            write('{"type": "LOG", "log": "x"}')
        rows(name, first, count)
        bookmarks[name] = count
        write(f'{{"type": "STATE", "value": {json.dumps({"bookmarks": bookmarks})}}}')
        sys.stdout.flush()
        if mode == "dies":
            sys.exit("the API said 500")
        if mode == "half":
            sys.stdout.write('{"type": "RECORD", "stream": "a", "rec')
            return
        while mode == "endless":
            rows(name, count, count + 100)
            count += 100
        if mode == "silent":
            time.sleep(600)
        if mode == "says_secret":
            print(f"the token is {config['token']}", file=sys.stderr)
            write(f"the token is {config['token']}")


parser = argparse.ArgumentParser()
for flag in ("--config", "--catalog", "--state"):
    parser.add_argument(flag)
parser.add_argument("--discover", action="store_true")
given = parser.parse_args()


def load(path):
    if path is None:
        return {}
    with open(path) as stream:
        return json.load(stream)


if given.discover:
    sys.stdout.write(json.dumps({"streams": [entry("a"), entry("b")]}, indent=1))
else:
    read(load(given.config), load(given.catalog), load(given.state))
