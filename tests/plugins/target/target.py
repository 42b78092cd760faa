"""A Singer target that behaves as its config's ``mode`` says. For tests alone.

It appends each record to ``<path>/<stream>.jsonl`` and acknowledges a state as soon as the files before it are on the disk.
Config: mode, path, pause_s (after each record), after (records before it misbehaves). ``<path>/log.txt`` tells how its input
ended.
"""

import gzip
import json
import os
import signal
import sys
import time

GOOD = "good"


class Target:
    def __init__(self, config):
        self.config = config
        self.mode = config.get("mode", GOOD)
        self.after = config.get("after", 5)
        self.files = {}
        self.records = 0
        self.states = []
        self.pending = None

    def store(self, message):
        name = message["stream"]
        if name not in self.files:
            path = os.path.join(self.config["path"], name + ".jsonl")
            self.files[name] = open(path, "a", encoding="utf-8")  # noqa: SIM115  # until the end
        self.files[name].write(json.dumps(message["record"]) + "\n")
        self.records += 1

    def flush(self):
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())

    def say(self, state):
        self.flush()
        print(json.dumps(state, sort_keys=True), flush=True)

    def misbehaves(self, mode):
        return self.mode == mode and self.records >= self.after

    def record(self, message):
        self.store(message)
        time.sleep(self.config.get("pause_s", 0))
        if self.misbehaves("dies"):
            sys.exit("the disk is full")
        if self.misbehaves("exits_0"):
            sys.exit(0)
        if self.misbehaves("kills_itself"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.misbehaves("closes_stdin"):
            os.close(0)
            time.sleep(3600)
        if self.misbehaves("stops_reading"):
            time.sleep(3600)
        if self.misbehaves("floods_text"):
            while True:
                print("GET / HTTP/1.1 200 \x1b[31m", flush=True)
        if self.misbehaves("floods_line"):
            while True:
                sys.stdout.write("[" + "9" * 65536)
        if self.misbehaves("eats_memory"):
            hoard = []
            while True:
                hoard.append(bytearray(os.urandom(1 << 20)) * 8)

    def batch(self, message):
        for url in message["manifest"]:
            with gzip.open(url.removeprefix("file://"), "rt") as file:
                for line in file:
                    self.record({"stream": message["stream"], "record": json.loads(line)})

    def state(self, value):
        if self.mode == "invents":
            self.say({"bookmarks": {"rows": {"id": 10**12}}})
        elif self.mode == "reorders":
            self.states.append(value)
            if len(self.states) == 2:
                self.say(self.states[1])
                self.say(self.states[0])
        elif self.mode == "repeats":
            self.say(value)
            self.say(value)
        elif self.mode == "rewrites":
            print(
                "  " + json.dumps(value, indent=None, separators=(" , ", " : ")) + " ", flush=True
            )
        elif self.mode == "at_the_end":
            self.pending = value
        elif self.mode != "forgets":
            self.say(value)

    def end(self):
        self.flush()
        if self.pending is not None:
            self.say(self.pending)
        if self.mode == "never_ends":
            time.sleep(3600)
        if self.mode == "fails_at_the_end":
            sys.exit("cannot rename")


def note(config, text):
    with open(os.path.join(config["path"], "log.txt"), "a", encoding="utf-8") as log:
        log.write(text + "\n")


def main():
    if "--help" in sys.argv:
        print("usage: target --config FILE")
        return
    with open(sys.argv[sys.argv.index("--config") + 1], encoding="utf-8") as file:
        config = json.load(file)
    target = Target(config)
    if target.mode == "leaves_at_once":
        return

    def terminated(*_):
        note(config, "SIGTERM")
        target.end()
        sys.exit(0)

    if target.mode != "ignores_sigterm":
        signal.signal(signal.SIGTERM, terminated)
    for line in sys.stdin:
        if not line.endswith("\n"):
            note(config, "half line")
            sys.exit("half a line")
        message = json.loads(line)
        if message["type"] == "RECORD":
            target.record(message)
        elif message["type"] == "BATCH":
            target.batch(message)
        elif message["type"] == "STATE":
            target.state(message["value"])
    note(config, "end of input")
    target.end()


main()
