"""A resumable source: row i of every stream can be computed, so a copy can be checked without asking it.

The truth for `rows: 100000`:

    python3 -c "n = 100000; print(n, sum(i * 2654435761 % 2**32 for i in range(n)))"

which is count(*) and sum(value) of its table, however often the run was killed and begun again.
It speaks Airbyte's protocol with the standard library alone. Config: rows, state_every, pause_s (after each state of the first
stream), streams (1; with more, rows of all of them are interleaved and each has states at other rows).
"""

import argparse
import json
import sys
import time

SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "value": {"type": "integer"},
        "at": {"type": "string", "format": "date-time", "airbyte_type": "timestamp_with_timezone"},
        "label": {"type": ["null", "string"]},
    },
}
SPEC = {
    "documentationUrl": "https://example.invalid/resumable",
    "connectionSpecification": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "required": ["rows"],
        "properties": {
            "rows": {"type": "integer", "minimum": 0},
            "state_every": {"type": "integer", "minimum": 1, "default": 1000},
            "pause_s": {"type": "number", "minimum": 0, "default": 0},
            "streams": {"type": "integer", "minimum": 1, "default": 1},
            "token": {"type": "string", "airbyte_secret": True},
        },
    },
}


def catalog(config):
    names = ["numbers", *(f"numbers_{k}" for k in range(2, config.get("streams", 1) + 1))]
    return {
        "streams": [
            {
                "name": name,
                "json_schema": SCHEMA,
                "supported_sync_modes": ["full_refresh", "incremental"],
                "source_defined_cursor": True,
                "default_cursor_field": ["id"],
                "source_defined_primary_key": [["id"]],
            }
            for name in names
        ]
    }


def write(message):
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")


def record(i):
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_700_000_000 + i))
    label = None if i % 3 == 0 else f"row {i} – “{i % 7}”"
    return {"id": i, "value": i * 2654435761 % 2**32, "at": at, "label": label}


def read(config, catalog, states):
    names = [entry["stream"]["name"] for entry in catalog["streams"]]
    starts = dict.fromkeys(names, 0)
    for state in states:
        starts[state["stream"]["stream_descriptor"]["name"]] = state["stream"]["stream_state"][
            "next"
        ]
    every = config.get("state_every", 1000)
    for i in range(min(starts.values()), config["rows"]):
        for k, name in enumerate(names):
            if i < starts[name]:
                continue
            write(
                {"type": "RECORD", "record": {"stream": name, "data": record(i), "emitted_at": 0}}
            )
            if (i + 1) % (every + 7 * k) == 0 or i + 1 == config["rows"]:
                stream = {"stream_descriptor": {"name": name}, "stream_state": {"next": i + 1}}
                write({"type": "STATE", "state": {"type": "STREAM", "stream": stream}})
                sys.stdout.flush()
                time.sleep(config.get("pause_s", 0) if k == 0 else 0)


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["spec", "check", "discover", "read"])
    for option in ("--config", "--catalog", "--state"):
        parser.add_argument(option)
    options = parser.parse_args()
    if options.verb == "spec":
        write({"type": "SPEC", "spec": SPEC})
    elif options.verb == "check":
        rows = load(options.config).get("rows")
        good = isinstance(rows, int) and rows >= 0
        status = (
            {"status": "SUCCEEDED"}
            if good
            else {"status": "FAILED", "message": "rows must be a count"}
        )
        write({"type": "CONNECTION_STATUS", "connectionStatus": status})
    elif options.verb == "discover":
        write({"type": "CATALOG", "catalog": catalog(load(options.config))})
    else:
        read(
            load(options.config),
            load(options.catalog),
            load(options.state) if options.state else [],
        )


main()
