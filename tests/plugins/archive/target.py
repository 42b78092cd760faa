"""An Airbyte destination that copies the files of its records below its config's ``path``. For tests alone."""

import json
import os
import shutil
import sys

if sys.argv[1] == "spec":
    specification = {"type": "object", "properties": {"path": {"type": "string"}}}
    print(json.dumps({"type": "SPEC", "spec": {"connectionSpecification": specification}}))
else:
    with open(sys.argv[sys.argv.index("--config") + 1]) as stream:
        folder = json.load(stream)["path"]
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "RECORD":
            reference = message["record"]["file_reference"]
            path = os.path.join(folder, reference["source_file_relative_path"])
            os.makedirs(os.path.dirname(path), exist_ok=True)
            shutil.copyfile(reference["staging_file_url"], path)
