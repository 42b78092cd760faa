"""A source with a row for each URL that its configuration names: what it answered, or why it did not. For tests alone.

``upload`` bytes are posted to each; with ``strict`` the first that does not answer is its end.
"""

import json
import sys
import urllib.request

WITHIN_S = 20
STREAM = {
    "name": "pages",
    "json_schema": {
        "type": "object",
        "properties": {"url": {"type": "string"}, "said": {"type": "string"}},
    },
    "supported_sync_modes": ["full_refresh"],
}


def write(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def fetch(url, upload):
    data = b"x" * upload if upload else None
    with urllib.request.urlopen(url, data, timeout=WITHIN_S) as answer:
        return answer.read().decode()


def attempts(config):
    for url in config["urls"]:
        try:
            yield url, fetch(url, config.get("upload", 0)), True
        except OSError as error:
            yield url, f"{type(error).__name__}: {error}", False


def give_up(url, said):
    error = {"message": f"{url}: {said}"}
    write({"type": "TRACE", "trace": {"type": "ERROR", "emitted_at": 0, "error": error}})
    sys.exit(3)


def read(config):
    for url, said, answered in attempts(config):
        if config.get("strict") and not answered:
            give_up(url, said)
        data = {"url": url, "said": said}
        write({"type": "RECORD", "record": {"stream": "pages", "data": data, "emitted_at": 0}})


def check(config):
    failed = [f"{url}: {said}" for url, said, answered in attempts(config) if not answered]
    status = {"status": "FAILED" if failed else "SUCCEEDED", "message": "; ".join(failed)}
    write({"type": "CONNECTION_STATUS", "connectionStatus": status})


def discover(config):
    for url, said, answered in attempts(config):
        if config.get("strict") and not answered:
            give_up(url, said)
    write({"type": "CATALOG", "catalog": {"streams": [STREAM]}})


verb, rest = sys.argv[1], sys.argv[2:]
if verb == "spec":
    write({"type": "SPEC", "spec": {"connectionSpecification": {"type": "object"}}})
else:
    with open(rest[rest.index("--config") + 1]) as stream:
        given = json.load(stream)
    {"read": read, "check": check, "discover": discover}[verb](given)
