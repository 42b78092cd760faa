"""A source with a row for each thing that it finds inside its walls. For tests alone.

Config: ``tell`` lists what: ``environment`` (a row for each variable), ``run:PATH`` (what a program answers to ``--version``, or
why it cannot be run). ``fails``: it ends as a failure that shows its whole environment.
"""

import json
import os
import subprocess
import sys

STREAM = {
    "name": "facts",
    "json_schema": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "value": {"type": "string"}},
    },
    "supported_sync_modes": ["full_refresh"],
}
WITHIN_S = 20


def write(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def fact(name, value):
    data = {"name": name, "value": value}
    write({"type": "RECORD", "record": {"stream": "facts", "data": data, "emitted_at": 0}})


def environment():
    for name, value in sorted(os.environ.items()):
        fact(name, value)


def run(path):
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=WITHIN_S)
    except OSError as error:
        fact(path, type(error).__name__)
    else:
        fact(path, f"status {done.returncode}: {(done.stdout + done.stderr)[:200]}")


def fail():
    error = {"message": f"the environment is {dict(os.environ)}"}
    write({"type": "TRACE", "trace": {"type": "ERROR", "emitted_at": 0, "error": error}})
    sys.exit(f"the environment is {dict(os.environ)}")


def read(config):
    for each in config.get("tell", ()):
        what, _, rest = each.partition(":")
        {"environment": environment, "run": run}[what](*filter(None, [rest]))
    if config.get("fails"):
        fail()


verb, rest = sys.argv[1], sys.argv[2:]
if verb == "spec":
    specification = {"type": "object", "properties": {"seen": {"enum": sorted(os.environ)}}}
    write({"type": "SPEC", "spec": {"connectionSpecification": specification}})
elif verb == "discover":
    write({"type": "CATALOG", "catalog": {"streams": [STREAM]}})
else:
    with open(rest[rest.index("--config") + 1]) as stream:
        read(json.load(stream))
