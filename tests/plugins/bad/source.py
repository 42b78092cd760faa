"""A source that misbehaves as its config's ``mode`` says, after some good rows and one state. For tests alone."""

import json
import os
import sys
import time

SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}, "text": {"type": "string"}}}
STREAM = {
    "name": "rows",
    "json_schema": SCHEMA,
    "supported_sync_modes": ["full_refresh", "incremental"],
}


def write(message):
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def rows(first, count):
    for i in range(first, first + count):
        write(
            {
                "type": "RECORD",
                "record": {"stream": "rows", "data": {"id": i, "text": "x"}, "emitted_at": 0},
            }
        )


def state(value, name="rows"):
    stream = {"stream_descriptor": {"name": name}, "stream_state": value}
    write({"type": "STATE", "state": {"type": "STREAM", "stream": stream}})


def dies():
    trace = {"type": "ERROR", "emitted_at": 0, "error": {"message": "the API said 500"}}
    write({"type": "TRACE", "trace": trace})
    sys.exit(3)


def half_line():
    sys.stdout.write('{"type":"RECORD","record":{"stream":"rows","da')
    sys.stdout.flush()


def eats_memory():
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1 << 20)) * 8)


def prints_text():
    print("Downloading model weights … 100 %", flush=True)
    print("\x1b[31mnot json\x1b[0m", flush=True)
    rows(10, 5)
    state({"n": 15})


def never_ends():
    while True:
        rows(10, 100)


def floods_stderr():
    while True:
        sys.stderr.write("x" * 1000 + "\n")


def silent():
    write({"type": "LOG", "log": {"level": "WARN", "message": "nothing more"}})
    time.sleep(3600)


def forks():
    while True:
        try:
            if os.fork() == 0:
                time.sleep(3600)
        except OSError:
            time.sleep(0.01)


def forges_state():
    state({"n": 10**9}, name="somebody_elses")


def kills_itself():
    os.kill(os.getpid(), 9)


def writes_forever_to_disk():
    with open("/tmp/fill", "wb") as file:
        while True:
            file.write(b"\0" * (1 << 20))


def shows_secret():
    print(CONFIG["token"], flush=True)
    print(CONFIG["token"], file=sys.stderr, flush=True)
    trace = {"type": "ERROR", "emitted_at": 0, "error": {"message": f"bad token {CONFIG['token']}"}}
    write({"type": "TRACE", "trace": trace})
    sys.exit(1)


def good():
    rows(10, 10)
    state({"n": 20})


def main():
    global CONFIG
    verb = sys.argv[1]
    if verb == "spec":
        write(
            {
                "type": "SPEC",
                "spec": {
                    "connectionSpecification": {"type": "object", "additionalProperties": True}
                },
            }
        )
    elif verb == "check":
        write({"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}})
    elif verb == "discover":
        write({"type": "CATALOG", "catalog": {"streams": [STREAM]}})
    else:
        with open(sys.argv[sys.argv.index("--config") + 1], encoding="utf-8") as file:
            CONFIG = json.load(file)
        rows(0, 10)
        state({"n": 10})
        globals()[CONFIG["mode"]]()


main()
