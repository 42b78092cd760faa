"""A Singer target that posts each record to the ``url`` of its config and acknowledges each state. For tests alone."""

import json
import sys
import urllib.request

with open(sys.argv[sys.argv.index("--config") + 1]) as stream:
    url = json.load(stream)["url"]
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "RECORD":
        urllib.request.urlopen(url, json.dumps(message["record"]).encode(), timeout=20).close()
    elif message["type"] == "STATE":
        print(json.dumps(message["value"]), flush=True)
