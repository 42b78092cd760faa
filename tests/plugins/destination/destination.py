"""A small Airbyte destination, made with the real airbyte-cdk. For tests alone.

Each stream is a file of JSON lines below ``path``; ``_catalog.json`` is the configured catalogue that it was given, and
``_status.jsonl`` the stream statuses that it was sent. Its packages lie in ``site`` beside this file (pip install --target).
"""

import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "site"))

from airbyte_cdk.destinations import Destination
from airbyte_cdk.models import (
    AirbyteConnectionStatus,
    ConfiguredAirbyteCatalogSerializer,
    ConnectorSpecification,
    DestinationSyncMode,
    Status,
    Type,
)


class Files(Destination):
    def spec(self, *_, **__):
        return ConnectorSpecification(
            connectionSpecification={
                "$schema": "http://json-schema.org/draft-07/schema#",
                "type": "object",
                "required": ["path"],
                "properties": {
                    "path": {"type": "string"},
                    "pause_s": {"type": "number", "default": 0},
                    "die_after": {"type": "integer"},
                    "token": {"type": "string", "airbyte_secret": True},
                },
            },
            supported_destination_sync_modes=[DestinationSyncMode.append],
        )

    def check(self, logger, config):
        good = os.path.isdir(config["path"])
        return AirbyteConnectionStatus(
            status=Status.SUCCEEDED if good else Status.FAILED,
            message=None if good else "path is not a folder",
        )

    def write(self, config, configured_catalog, input_messages):
        folder = config["path"]
        with open(os.path.join(folder, "_catalog.json"), "w", encoding="utf-8") as file:
            json.dump(
                ConfiguredAirbyteCatalogSerializer.dump(configured_catalog), file, default=str
            )
        files, seen = {}, 0
        for message in input_messages:
            if message.type == Type.RECORD:
                record = message.record
                name = f"{record.namespace}.{record.stream}" if record.namespace else record.stream
                if name not in files:
                    path = os.path.join(folder, name + ".jsonl")
                    files[name] = open(path, "a", encoding="utf-8")  # noqa: SIM115
                files[name].write(json.dumps(record.data) + "\n")
                seen += 1
                time.sleep(config.get("pause_s", 0))
                if seen == config.get("die_after"):
                    raise OSError("no space left on device")
            elif message.type == Type.STATE:
                for file in files.values():
                    file.flush()
                    os.fsync(file.fileno())
                yield message
            elif message.type == Type.TRACE and message.trace.stream_status:
                status = message.trace.stream_status
                line = {
                    "stream": status.stream_descriptor.name,
                    "status": getattr(status.status, "value", status.status),
                }
                with open(os.path.join(folder, "_status.jsonl"), "a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
        for file in files.values():
            file.close()


if __name__ == "__main__":
    Files().run(sys.argv[1:])
