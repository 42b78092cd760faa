"""Orders and users; of the orders every tenth has no day, every hundredth no number for an id. For tests alone.

Config: rows (1000) of each stream, state_every (100), pause_s (0) after each state of the orders. Resumes from its state.
"""

import json
import sys
import time

ORDERS = {
    "id": {"type": "integer"},
    "day": {"type": "string", "format": "date"},
    "card": {"type": "string"},
}
USERS = {"id": {"type": "integer"}}
SCHEMAS = {"orders": ORDERS, "users": USERS}
STREAMS = [
    {
        "name": name,
        "json_schema": {"type": "object", "properties": properties},
        "supported_sync_modes": ["full_refresh", "incremental"],
    }
    for name, properties in SCHEMAS.items()
]


def write(message):
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")


def record(name, i):
    if name == "users":
        return {"id": i}
    day = "2026-02-30" if i % 10 == 5 else f"2026-02-{i % 28 + 1:02}"
    return {"id": f"no {i}" if i % 100 == 50 else i, "day": day, "card": "4111"}


def read(config, names, states):
    starts = dict.fromkeys(names, 0)
    for state in states:
        stream = state["stream"]
        starts[stream["stream_descriptor"]["name"]] = stream["stream_state"]["next"]
    rows, every = config.get("rows", 1000), config.get("state_every", 100)
    for i in range(rows):
        for name in (name for name in names if i >= starts[name]):
            data = record(name, i)
            write({"type": "RECORD", "record": {"stream": name, "data": data, "emitted_at": 0}})
            if (i + 1) % every == 0 or i + 1 == rows:
                stream = {"stream_descriptor": {"name": name}, "stream_state": {"next": i + 1}}
                write({"type": "STATE", "state": {"type": "STREAM", "stream": stream}})
                sys.stdout.flush()
                time.sleep(config.get("pause_s", 0) if name == names[0] else 0)


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
        write({"type": "CATALOG", "catalog": {"streams": STREAMS}})
    else:
        names = [entry["stream"]["name"] for entry in option("--catalog")["streams"]]
        read(option("--config"), names, option("--state") if "--state" in sys.argv else [])


main()
