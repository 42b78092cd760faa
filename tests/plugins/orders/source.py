"""Orders of three days and four countries, one of them unknown, in no order. For tests alone.

Config: rows (600), state_every (100), fail_after (none): rows of the run after which it exits with 1. Resumes from its state.
"""

import json
import sys

ORDERS = {
    "id": {"type": "integer"},
    "created_at": {
        "type": "string",
        "format": "date-time",
        "airbyte_type": "timestamp_with_timezone",
    },
    "day": {"type": "string", "format": "date"},
    "country": {"type": ["null", "string"]},
    "address": {"type": "object", "properties": {"zip": {"type": "string"}}},
}
STREAM = {
    "name": "orders",
    "json_schema": {"type": "object", "properties": ORDERS},
    "supported_sync_modes": ["full_refresh", "incremental"],
}


def write(message):
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")


def order(i):
    day = f"2026-01-0{i % 3 + 1}"
    return {
        "id": i * 7919 % 10007,
        "created_at": f"{day}T{i % 24:02}:{i % 60:02}:00Z",
        "day": day,
        "country": (None, "de", "fr", "nl")[i % 4],
        "address": {"zip": f"{i:05}"},
    }


def read(config, start):
    rows, every = config.get("rows", 600), config.get("state_every", 100)
    for i in range(start, rows):
        if i - start == config.get("fail_after"):
            sys.stdout.flush()
            sys.exit(1)
        write({"type": "RECORD", "record": {"stream": "orders", "data": order(i), "emitted_at": 0}})
        if (i + 1) % every == 0 or i + 1 == rows:
            stream = {"stream_descriptor": {"name": "orders"}, "stream_state": {"next": i + 1}}
            write({"type": "STATE", "state": {"type": "STREAM", "stream": stream}})
            sys.stdout.flush()


def option(name):
    with open(sys.argv[sys.argv.index(name) + 1], encoding="utf-8") as file:
        return json.load(file)


def main():
    verb = sys.argv[1]
    if verb == "spec":
        spec = {"connectionSpecification": {"type": "object", "additionalProperties": True}}
        write({"type": "SPEC", "spec": spec})
    elif verb == "check":
        write({"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}})
    elif verb == "discover":
        write({"type": "CATALOG", "catalog": {"streams": [STREAM]}})
    else:
        states = option("--state") if "--state" in sys.argv else []
        starts = [state["stream"]["stream_state"]["next"] for state in states]
        read(option("--config"), starts[0] if starts else 0)


main()
