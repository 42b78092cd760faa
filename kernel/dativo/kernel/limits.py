"""Every bound of dativo with its default, its setting and its meaning; docs/spec/limits.md is this table.

A limit is an ``int`` in the unit that its name ends in, and knows where it can be set.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dativo.kernel import quantities

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
HOUR: Final = 3600

SYSTEM: Final = Path("/usr")
"""What a process may execute beside its own program, unless a job says less: the machine's programs (``grants.exec``)."""


class Limit(int):
    """A default. ``setting`` is its key in a job (and below ``ceilings`` of the policy), or ``""`` when it is fixed."""

    setting: str
    meaning: str
    unit: str = ""

    def __new__(cls, value: int, setting: str, meaning: str) -> Limit:
        """Return the default ``value`` of ``setting``."""
        limit = super().__new__(cls, value)
        limit.setting = setting
        limit.meaning = meaning
        return limit

    def shown(self) -> str:
        """Return the default with its unit, as a job writes it."""
        if self.unit == "bytes":
            return quantities.show_bytes(self)
        if self.unit == "s":
            return quantities.show_seconds(self)
        return str(int(self))


# --- of a process --------------------------------------------------------------------------------

WALL_TIME_S: Final = Limit(12 * HOUR, "source.grants.time", "Wall clock of a process")
IDLE_TIME_S: Final = Limit(
    3 * HOUR, "source.grants.idle", "Silence, while our reader waits on an empty pipe"
)
MEMORY_BYTES: Final = Limit(512 * MIB, "source.grants.memory", "Memory of a process tree")
CPUS: Final = Limit(1, "source.grants.cpus", "Processors of a process tree; fractions are allowed")
PIDS: Final = Limit(512, "source.grants.pids", "Processes and threads of a process tree")
OPEN_FILES: Final = Limit(
    1024, "source.grants.open_files", "Open files of one process, when dativo runs as root"
)
OPEN_FILES_PLAIN_USER: Final = Limit(
    256, "source.grants.open_files", "The same as a plain user, whose quotas all processes share"
)
FILE_BYTES: Final = Limit(4 * GIB, "source.grants.file_size", "Size of one file a process writes")
TMP_BYTES: Final = Limit(512 * MIB, "source.grants.tmp", "Private /tmp of a process, in memory")
OUTPUT_BYTES: Final = Limit(
    1024 * GIB, "source.grants.output", "Stdout of a process in all; of stderr as much again"
)
EXCHANGE_BYTES: Final = Limit(
    0, "source.grants.exchange", "Files that a source leaves for its reader; 0 is no folder"
)
EXCHANGE_FILES: Final = Limit(100_000, "", "Files and folders there")
SHM_BYTES: Final = Limit(64 * MIB, "", "Private /dev/shm of a process, in memory")
STOP_GRACE_S: Final = Limit(10, "", "Between SIGTERM and SIGKILL")
STDERR_TAIL_BYTES: Final = Limit(64 * KIB, "", "Kept of a process's stderr")
STDERR_LINE_BYTES: Final = Limit(4 * KIB, "", "Shown of one line of stderr")

# --- of what a plugin writes ---------------------------------------------------------------------

MAX_LINE_BYTES: Final = Limit(32 * MIB, "limits.max_line_bytes", "One line of JSON")
MAX_DEPTH: Final = Limit(64, "limits.max_depth", "Nesting of one line")
MAX_COLUMNS: Final = Limit(2000, "limits.max_columns", "Columns of a stream")
MAX_STREAMS: Final = Limit(1000, "limits.max_streams", "Streams of a source")
MAX_STATE_BYTES: Final = Limit(1 * MIB, "limits.max_state_bytes", "One state")
MAX_TEXT_LINES: Final = Limit(10_000, "limits.max_text_lines", "Lines that are not JSON")
MAX_STAGED_BYTES: Final = Limit(
    100 * GIB, "limits.max_staged_bytes", "Parquet files in staging that are not committed"
)
MAX_EPOCHS_WAITING: Final = Limit(
    2, "", "Sealed epochs waiting for the committer; then reading stops"
)
MAX_DOCUMENT_BYTES: Final = Limit(16 * MIB, "", "A spec, catalogue, config or state file")
MAX_EVENT_BYTES: Final = Limit(8 * MIB, "", "One control message")
MAX_CONTROL_BYTES: Final = Limit(1 * MIB, "", "One CONTROL message (a config)")
MAX_MESSAGES: Final = Limit(1000, "", "LOG and TRACE messages passed on in one run")
MAX_MESSAGE_BYTES: Final = Limit(4 * KIB, "", "Shown of one LOG or TRACE message")
MAX_VALUE_CHARS: Final = Limit(200, "", "Shown of a value in an error")
MAX_REJECTS: Final = Limit(
    1000,
    "contracts.*.max_rejects",
    "Records and values of a stream that a run discards, where its contract lets it",
)
MAX_REJECT_TEXT_BYTES: Final = Limit(
    64 * KIB, "", "Kept of the line of a reject, where its contract says `keep_text`"
)
MAX_SHOWN_TEXT_LINES: Final = Limit(
    20, "", "Lines of stdin that are not messages, shown by a standalone target"
)

MAX_UNACKNOWLEDGED_STATES: Final = Limit(
    100_000, "", "States that a foreign target has not acknowledged"
)
MAX_UNACKNOWLEDGED_BYTES: Final = Limit(256 * MIB, "", "Their texts")
MAX_WITHHELD_BYTES: Final = Limit(
    64 * MIB, "", "States that are durable and wait on their way to stdout for an earlier one"
)
MAX_STDOUT_BACKLOG_BYTES: Final = Limit(
    8 * MIB, "", "Lines that wait for a slow reader of stdout; then the run waits"
)

# --- of an epoch and its files -------------------------------------------------------------------

EPOCH_BYTES: Final = Limit(
    128 * MIB, "target.epoch.bytes", "Parquet bytes of an epoch before a cut"
)
EPOCH_ROWS: Final = Limit(1_000_000, "target.epoch.rows", "Rows of an epoch before a cut")
EPOCH_SECONDS: Final = Limit(60, "target.epoch.time", "Age of an epoch before a cut")
ROW_GROUP_ROWS: Final = Limit(122_880, "", "Rows of a Parquet row group")
PARQUET_FILE_BYTES: Final = Limit(128 * MIB, "", "Size of a Parquet file before the next begins")
WRITER_MEMORY_BYTES: Final = Limit(64 * MIB, "", "Buffers of the writer before it spills")

# --- of dativo's own processes -------------------------------------------------------------------

RELAY_CGROUP_BYTES: Final = Limit(256 * MIB, "", "Memory of a relay, enforced by its cgroup")
PUMP_MEMORY_BYTES: Final = Limit(64 * MIB, "", "Memory of a pump")
WRITER_CGROUP_BYTES: Final = Limit(384 * MIB, "", "Memory of the writer, enforced by its cgroup")
INSPECTOR_CGROUP_BYTES: Final = Limit(
    256 * MIB, "", "Memory of the inspector, enforced by its cgroup"
)
COMMITTER_MEMORY_BYTES: Final = Limit(1 * GIB, "", "Memory of the committer")
TOOL_PIDS: Final = Limit(64, "", "Processes and threads of writer, inspector or committer")
ZSTD_LEVEL: Final = Limit(1, "", "Level of zstd in Parquet files")
HELLO_TIMEOUT_S: Final = Limit(
    30, "", "From the start of writer, inspector or committer to its answer"
)
SILENCE_S: Final = Limit(600, "", "Without a word of the writer while it reads")
FINISH_TIMEOUT_S: Final = Limit(3600, "", "From the end of the source to the last commit")
DRAIN_TIMEOUT_S: Final = Limit(60, "", "From the death of a source to the end of what it wrote")
READER_GONE_TIMEOUT_S: Final = Limit(
    5, "", "From the end of a target's input to the target's own end"
)
ABORT_TIMEOUT_S: Final = Limit(10, "", "From `abort` to the end of the writer")
CLOSE_TIMEOUT_S: Final = Limit(600, "", "From `close` to the end of the committer")
VERB_TIMEOUT_S: Final = Limit(600, "", "`spec`, `check` and `discover`")

# --- of the network of a process -----------------------------------------------------------------

NETWORK_GRANTS: Final = Limit(10_000, "", "Network grants of a process")
NETWORK_CONNECTIONS: Final = Limit(1024, "", "Open connections of a process")
NETWORK_RATE: Final = Limit(500, "", "New connections of a process in a second, averaged over ten")
NETWORK_NAMES: Final = Limit(
    10_000, "", "Distinct names of a process: given addresses, and refused ones that are told"
)
NETWORK_CONNECT_TIMEOUT_S: Final = Limit(
    30, "", "From an accepted connection to a dialled one, names included"
)
NETWORK_EVENTS: Final = Limit(
    100, "", "Connections of a process told one by one in a second; more are counted"
)
NETWORK_REPORTED: Final = Limit(1000, "", "Places of a process that are counted one by one")
BROKER_MEMORY_BYTES: Final = Limit(256 * MIB, "", "Memory of the broker")
BROKER_OPEN_FILES: Final = Limit(16_384, "", "Open files of the broker")
BROKER_SOCKETS_TIMEOUT_S: Final = Limit(
    5, "", "Until the broker has taken the sockets of a process that starts"
)
BROKER_FINISH_TIMEOUT_S: Final = Limit(10, "", "From `finish` to the end of the broker")

# --- of an operator's word while it runs ---------------------------------------------------------

POLICY_TICK_S: Final = Limit(1, "", "How often a run looks whether its plugins were blocked")
POLICY_GRACE_S: Final = Limit(
    10, "", "How long the policy may be unreadable under a run, as while it is being edited"
)
STOP_TIMEOUT_S: Final = Limit(60, "", "From `dativo stop` to SIGKILL, without `--now`")

# --- of the files that people write --------------------------------------------------------------

JOB_BYTES: Final = Limit(1 * MIB, "", "A job, policy or manifest file")
JOB_DEPTH: Final = Limit(32, "", "Nesting of such a file")
JOB_NODES: Final = Limit(50_000, "", "Values in such a file")
NUMBER_CHARS: Final = Limit(1000, "", "Digits of a number in such a file")
LOCK_BYTES: Final = Limit(16 * MIB, "", "dativo.lock")
SECRET_BYTES: Final = Limit(64 * KIB, "", "The value of one secret")
CA_BYTES: Final = Limit(4 * MIB, "", "A file of certificate authorities")
SECRET_REDACTED_CHARS: Final = Limit(8, "", "Shorter secrets are not redacted")

# --- of a jail -----------------------------------------------------------------------------------

PROTECTED_FILES: Final = Limit(
    1000, "", "Git hooks, .envrc, makefiles and .dativo below what a jail may write"
)
SEARCHED_FILES: Final = Limit(1_000_000, "", "Files that are looked through for them")
SEARCHED_DEPTH: Final = Limit(200, "", "Depth of the folders that are looked through")

# --- of an installation --------------------------------------------------------------------------

INSTALL_TIME_S: Final = Limit(1800, "", "Each step of `dativo plugin add`")
TREE_FILES: Final = Limit(500_000, "", "Files of a plugin's environment")
TREE_BYTES: Final = Limit(20 * GIB, "", "Bytes of a plugin's environment")
SDIST_BYTES: Final = Limit(256 * MIB, "", "A source distribution that is built")
WHEEL_BYTES: Final = Limit(1 * GIB, "", "The wheel that is built of one, packed and unpacked")
BUILD_MEMORY_BYTES: Final = Limit(4 * GIB, "", "Memory of such a build, its files included")
BUILD_TMP_BYTES: Final = Limit(2 * GIB, "", "Its files")
BUILD_TIME_S: Final = Limit(1800, "", "Wall clock of such a build")
RECORD_BYTES: Final = Limit(8 * MIB, "", "What the store notes of a plugin")
IMAGE_BYTES: Final = Limit(
    16 * GIB, "", "An image's archive; what it unpacks to is bounded as an environment is"
)
IMAGE_LAYERS: Final = Limit(128, "", "Layers of an image")
IMAGE_RATIO: Final = Limit(
    200, "", "Bytes that come out of a layer for each that goes in, beyond 64 MiB"
)
IMAGE_PATH_BYTES: Final = Limit(4096, "", "A path in an image")
IMAGE_MEMORY_BYTES: Final = Limit(1 * GIB, "", "Memory of the process that unpacks an image")

ALL: Final[dict[str, Limit]] = {
    name: value for name, value in list(globals().items()) if isinstance(value, Limit)
}
"""Every limit by its name here, in the order of docs/spec/limits.md."""


def shown(name: str) -> str:
    """Return the default of a limit with the unit that its name ends in, as a job writes it."""
    if "BYTES" in name:
        return quantities.show_bytes(ALL[name])
    if name.endswith(("_S", "_SECONDS")):
        return quantities.show_seconds(ALL[name])
    return str(int(ALL[name]))


for _name, _limit in ALL.items():
    _limit.unit = "bytes" if "BYTES" in _name else "s" if _name.endswith(("_S", "_SECONDS")) else ""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Bounds on what a plugin writes: ``limits`` of a job and of the writer's ``open`` message."""

    max_line_bytes: int = MAX_LINE_BYTES
    max_depth: int = MAX_DEPTH
    max_columns: int = MAX_COLUMNS
    max_streams: int = MAX_STREAMS
    max_state_bytes: int = MAX_STATE_BYTES
    max_text_lines: int = MAX_TEXT_LINES
    max_staged_bytes: int = MAX_STAGED_BYTES


@dataclass(frozen=True, slots=True)
class EpochLimits:
    """When an epoch is cut at the next STATE: ``target.epoch`` of a job."""

    max_bytes: int = EPOCH_BYTES
    max_rows: int = EPOCH_ROWS
    max_seconds: int = EPOCH_SECONDS
