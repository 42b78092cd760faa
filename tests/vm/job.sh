#!/usr/bin/env bash
# The main job, from nothing: a source of the tests, confined, into Iceberg; then the same source read onto a pipe. The report of
# the run says which walls stood, and the last line how much came out of the pipe.
set -euo pipefail
workspace=$(mktemp --directory)/workspace
mkdir -p "$workspace/plugins"
cp -r tests/plugins/types "$workspace/plugins/"
python - >"$workspace/plugins/types/table.json" <<'TABLE'
import json
schema = {"type": "object", "properties": {"n": {"type": "integer"}, "name": {"type": "string"}}}
print(json.dumps({"schema": schema, "records": [json.dumps({"n": n, "name": f"row {n}"}) for n in range(5000)]}))
TABLE
cat >"$workspace/job.yaml" <<'JOB'
pipeline: shop
source:
  connector: ./plugins/types
target:
  connector: iceberg
  config: {warehouse: ./lake, namespace: shop}
JOB
cd "$workspace"
python -m dativo.kernel run job.yaml
echo "read: $(python -m dativo.kernel read ./plugins/types --as singer | grep -c '"type":"RECORD"') records"
