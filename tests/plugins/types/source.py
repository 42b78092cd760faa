"""Writes the records of ``table.json`` beside it, text for text, a state after each. For tests alone.

It speaks the dialect it is spoken to in: Airbyte's verbs or a Singer tap's options.
"""

import json
import sys
from pathlib import Path

TABLE = json.loads(Path(__file__).with_name("table.json").read_text(encoding="utf-8"))
NAME, KEY, SCHEMA = "types", "n", TABLE["schema"]
STREAM = {
    "name": NAME,
    "json_schema": SCHEMA,
    "supported_sync_modes": ["full_refresh"],
    "source_defined_primary_key": [[KEY]],
}


def dump(message):
    return json.dumps(message, separators=(",", ":"))


def airbyte(verb):
    if verb == "spec":
        spec = {"connectionSpecification": {"type": "object", "additionalProperties": True}}
        yield dump({"type": "SPEC", "spec": spec})
    elif verb == "check":
        yield dump({"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}})
    elif verb == "discover":
        yield dump({"type": "CATALOG", "catalog": {"streams": [STREAM]}})
    else:
        for number, record in enumerate(TABLE["records"]):
            yield f'{{"type":"RECORD","record":{{"stream":"{NAME}","data":{record},"emitted_at":0}}}}'
            state = {"stream_descriptor": {"name": NAME}, "stream_state": {"next": number + 1}}
            yield dump({"type": "STATE", "state": {"type": "STREAM", "stream": state}})


def singer(options):
    if "--discover" in options:
        stream = {"tap_stream_id": NAME, "stream": NAME, "schema": SCHEMA, "key_properties": [KEY]}
        yield json.dumps({"streams": [stream]}, indent=2)
    else:
        yield dump({"type": "SCHEMA", "stream": NAME, "schema": SCHEMA, "key_properties": [KEY]})
        for number, record in enumerate(TABLE["records"]):
            yield f'{{"type":"RECORD","stream":"{NAME}","record":{record}}}'
            yield dump({"type": "STATE", "value": {"next": number + 1}})


def main():
    first = sys.argv[1]
    for line in singer(sys.argv[1:]) if first.startswith("--") else airbyte(first):
        sys.stdout.buffer.write(line.encode() + b"\n")


main()
