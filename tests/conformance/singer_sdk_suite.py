# mypy: ignore-errors
# pyright: basic, reportMissingImports=false
"""singer-sdk's own target suite, unmodified, over one of our targets. Run by the pytest of the SDK's environment.

The suite works inside one process and wants the SDK's exceptions; this stand-in for a Target pipes the lines into our command and
raises what the code of our error means. DATIVO_TARGET is the command with its arguments, as JSON.
"""

import json
import os
import re
import subprocess

from singer_sdk.exceptions import MissingKeyPropertiesError, RecordsWithoutSchemaException
from singer_sdk.testing import get_target_test_class
from singer_sdk.testing.suites import SingerTestSuite
from singer_sdk.testing.target_tests import TargetMultipleStateMessages

COMMAND = json.loads(os.environ["DATIVO_TARGET"])
MEANS = {
    "message.record_before_schema": RecordsWithoutSchemaException,
    "record.missing_key": MissingKeyPropertiesError,
}


class Piped:
    """As much of a singer_sdk.Target as the suite uses."""

    def __init__(self, *, config, parse_env_config):
        self.lines = ""

    def process_lines(self, file):
        self.lines = file.read()

    def process_endofpipe(self):
        print(run(text=self.lines), end="")

    def print_version(self):
        assert re.search(r"\d+\.\d+\.\d+", run("--version"))

    def print_about(self, output_format=None):
        about = run("--about", *([f"--format={output_format}"] if output_format else []))
        if output_format == "json":
            assert {"name", "version", "capabilities", "settings"} <= json.loads(about).keys()


def run(*arguments, text=""):
    """Run our command and return its stdout, or raise what its failure means."""
    done = subprocess.run(
        [*COMMAND, *arguments], input=text.encode(), capture_output=True, timeout=120
    )
    if done.returncode:
        words = done.stderr.decode()
        raise next((error for code, error in MEANS.items() if code in words), RuntimeError)(words)
    return done.stdout.decode()


class StatesAsPrinted(TargetMultipleStateMessages):
    """The SDK's own test; its runner parses the lines that the test then compares as text, so nobody could pass."""

    def setup(self):
        self.runner._clean_sync_output = str.splitlines


suite = SingerTestSuite(kind="target", tests=[StatesAsPrinted])
TestTarget = get_target_test_class(Piped, config={}, custom_suites=[suite])
