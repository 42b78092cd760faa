"""The shape of every file that a person writes: which keys, which values, and the fault in it by place.

Each has a JSON Schema of the same keys in ``dativo.schemas`` for editors. A key that the design knows and dativo cannot do yet is
refused by name, an unknown one with the nearest known one. Plain tables and functions, because every run reads four such files
before the source may start: the same models in pydantic took 120 ms of CPU, these take 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from dativo.kernel import blocks, layouts, network_text, quantities, variables, waivers
from dativo.kernel.document import Document, Location
from dativo.kernel.limits import NETWORK_GRANTS
from dativo.protocol.errors import ConfigError
from dativo.protocol.layouts import MAX_LAYOUT_FIELDS

Parse: TypeAlias = "Callable[[Any, Location], Any]"
"""Takes a value and its place, returns what it means; raises Fault."""


class Fault(Exception):
    """A value that does not fit, and its place in the document."""

    def __init__(self, location: Location, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.location = location
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Shape:
    """A closed mapping: ``required`` and optional keys, and ``not_built`` ones that are known and refused.

    ``check`` sees the whole mapping after its parts. Calling it returns the keys that are there, parsed.
    """

    required: Mapping[str, Parse]
    optional: Mapping[str, Parse] = field(default_factory=dict)
    not_built: frozenset[str] = frozenset()
    check: Callable[[dict[str, Any], Location], None] | None = None

    @property
    def keys(self) -> dict[str, Parse]:
        """Every key with its parser."""
        return {**self.required, **self.optional}

    def __call__(self, value: Any, location: Location) -> dict[str, Any]:
        """Return what ``value`` says. Raises Fault."""
        if not isinstance(value, dict):
            raise Fault(location, "expected a mapping")
        keys = self.keys
        parsed = {}
        for key, item in value.items():
            if key not in keys:
                raise self._refusal(key, location)
            parsed[key] = keys[key](item, (*location, key))
        for key in self.required:
            if key not in parsed:
                raise Fault(location, f"`{key}` is missing")
        if self.check is not None:
            self.check(parsed, location)
        return parsed

    def _refusal(self, key: str, location: Location) -> Fault:
        known = list(self.keys)
        if key in self.not_built:
            offer = "This version knows: " + ", ".join(known)
            return Fault((*location, key), f"`{key}` is not built yet", offer)
        from difflib import get_close_matches

        near = get_close_matches(key, known, 1, 0.5)
        hint = f"Did you mean `{near[0]}`?" if near else "Known here: " + ", ".join(known)
        return Fault((*location, key), f"unknown key `{key}`", hint)


# --- parts ---------------------------------------------------------------------------------------


def text(pattern: str = r"[^\0]+", wanted: str = "a text", max_chars: int = 4096) -> Parse:
    """Return the parser of a string that matches ``pattern`` as a whole."""
    compiled = re.compile(pattern, re.DOTALL)

    def parse(value: Any, location: Location) -> str:
        if not isinstance(value, str):
            quote = (
                ", in quotes" if value is not None and not isinstance(value, (dict, list)) else ""
            )
            raise Fault(location, f"expected {wanted}{quote}")
        if len(value) > max_chars or not compiled.fullmatch(value):
            raise Fault(location, f"expected {wanted}")
        return value

    return parse


def one_of(*values: str, others: str = "is not known") -> Parse:
    """Return the parser of one of ``values``; ``others`` says what any other one is."""

    def parse(value: Any, location: Location) -> str:
        if isinstance(value, str) and value in values:
            return value
        message = others if isinstance(value, str) else "expected a text"
        raise Fault(location, message, "This version knows: " + ", ".join(values))

    return parse


def boolean(value: Any, location: Location) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise Fault(location, "expected true or false")
    return value


def whole(least: int = 1, most: int = 2**40) -> Parse:
    """Return the parser of an integer between ``least`` and ``most``."""

    def parse(value: Any, location: Location) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Fault(location, f"expected a whole number from {least} to {most}")
        return value

    return parse


def amount(parse_amount: Callable[[object], float]) -> Parse:
    """Return the parser of a quantity."""

    def parse(value: Any, location: Location) -> float:
        try:
            return parse_amount(value)
        except ValueError as error:
            raise Fault(location, str(error)) from None

    return parse


def list_of(item: Parse, least: int = 0, most: int = 1000) -> Parse:
    """Return the parser of a list of ``least`` to ``most`` items."""

    def parse(value: Any, location: Location) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Fault(location, "expected a list")
        if not least <= len(value) <= most:
            raise Fault(location, f"expected a list of {least} to {most} items")
        return tuple(item(entry, (*location, index)) for index, entry in enumerate(value))

    return parse


@dataclass(frozen=True, slots=True)
class MappingOf:
    """An open mapping: any keys that ``key`` parses, each with an ``item``."""

    key: Parse
    item: Parse

    def __call__(self, value: Any, location: Location) -> dict[str, Any]:
        """Return what ``value`` says. Raises Fault."""
        if not isinstance(value, dict):
            raise Fault(location, "expected a mapping")
        return {self.key(k, (*location, k)): self.item(v, (*location, k)) for k, v in value.items()}


def foreign(value: Any, location: Location) -> dict[str, Any]:
    """Return a mapping whose meaning is not ours, as it is."""
    if not isinstance(value, dict):
        raise Fault(location, "expected a mapping")
    return value


def meant(read: Callable[[str], Any]) -> Parse:
    """Return the parser of a text whose meaning ``read`` knows; its ConfigError becomes the fault."""

    def parse(value: Any, location: Location) -> Any:
        try:
            return read(TEXT(value, location))
        except ConfigError as error:
            raise Fault(location, error.message, error.hint) from None

    return parse


def _blocked_place(text: str) -> str:
    """Return a name, ``*.name`` or network that the operator blocks."""
    return network_text.cidr(text) if network_text.is_address(text) else network_text.pattern(text)


def _append_only(value: Any, location: Location) -> str:
    """Return "append": whatever else a foreign target may do with rows, its own configuration says."""
    if value != "append":
        raise Fault(
            location,
            "rows are appended to a foreign target",
            "This version knows: append. The target's own configuration may say more",
        )
    return "append"


def _exactly_one(*names: str) -> Callable[[dict[str, Any], Location], None]:
    def check(parsed: dict[str, Any], location: Location) -> None:
        if len(parsed.keys() & set(names)) != 1:
            raise Fault(location, f"expected exactly one of {', '.join(f'`{n}`' for n in names)}")

    return check


def size_or_none(value: Any, location: Location) -> float:
    """Return a size; 0 is none at all."""
    return 0 if value == 0 and not isinstance(value, bool) else SIZE(value, location)


SIZE: Final = amount(quantities.parse_bytes)
SECONDS: Final = amount(quantities.parse_seconds)
CPUS: Final = amount(quantities.parse_cpus)
COUNT: Final = whole()
TEXT: Final = text()
IDENTIFIER: Final = text(
    r"[a-z0-9][a-z0-9_-]{0,62}", "a name of at most 63 lower-case letters, digits, - and _"
)
NAMESPACE: Final = text(
    r"[A-Za-z][A-Za-z0-9_]{0,62}", "a letter, then at most 62 letters, digits and _"
)
FILE_PATH: Final = text(wanted="a path")
ABSOLUTE_PATH: Final = text(r"/[^\0]*", "an absolute path")
VARIABLE: Final = text(r"[A-Za-z_][A-Za-z0-9_]{0,127}", "the name of an environment variable")
VERSION: Final = text(r"[0-9][0-9A-Za-z.+!_-]{0,63}", "a version")
DIGEST: Final = text(r"[0-9a-f]{64}", "a SHA-256 in hexadecimal")

# --- job -----------------------------------------------------------------------------------------

NUMBERS: Final[dict[str, Parse]] = {
    "memory": SIZE,
    "cpus": CPUS,
    "pids": COUNT,
    "open_files": COUNT,
    "file_size": SIZE,
    "tmp": SIZE,
    "time": SECONDS,
    "idle": SECONDS,
    "output": SIZE,
    "exchange": size_or_none,
}
READ_LIMITS: Final[dict[str, Parse]] = {
    "max_line_bytes": SIZE,
    "max_depth": whole(4, 1000),
    "max_columns": whole(1, 100_000),
    "max_streams": whole(1, 100_000),
    "max_state_bytes": SIZE,
    "max_text_lines": whole(0),
    "max_staged_bytes": SIZE,
}
NETWORK_GRANT: Final = meant(network_text.parse)
GIVEN_VARIABLE: Final = meant(variables.parse)
GRANTS: Final = Shape(
    {},
    {
        "network": list_of(NETWORK_GRANT, most=NETWORK_GRANTS),
        "read": list_of(FILE_PATH, most=100),
        "write": list_of(FILE_PATH, most=100),
        "exec": list_of(FILE_PATH, most=100),
        "environment": list_of(GIVEN_VARIABLE, most=100),
        **NUMBERS,
    },
    frozenset({"loopback", "srv", "devices", "secrets"}),
)
SOURCE: Final = Shape(
    {"connector": TEXT},
    {
        "config": foreign,
        "streams": list_of(TEXT, 1),
        "strict": boolean,
        "numbers": one_of("double", "decimal", "text"),
        "grants": GRANTS,
    },
    frozenset({"custom_reader", "path", "engine", "image", "state", "partitions"}),
)
TARGET_CONFIG: Final = Shape(
    {"warehouse": FILE_PATH, "namespace": NAMESPACE},
    {},
    frozenset({"catalog", "catalogue", "properties"}),
)
EPOCH: Final = Shape({}, {"bytes": SIZE, "rows": COUNT, "time": SECONDS})
OWN_TARGETS: Final = ("iceberg", "parquet")
METADATA: Final = ("none", "dativo", "singer", "airbyte")
"""Columns of tables beside those of their source (docs/spec/metadata.md)."""
COMMITTER_GRANTS: Final = Shape({}, {"network": GRANTS.keys["network"]})
_TARGET_NOT_BUILT: Final = frozenset({"custom_writer", "path", "engine", "shared", "eof"})
OWN_TARGET: Final = Shape(
    {"connector": one_of(*OWN_TARGETS), "config": TARGET_CONFIG},
    {
        "mode": one_of("append", "overwrite", others="this mode is not built yet"),
        "epoch": EPOCH,
        "metadata": one_of(*METADATA),
        "grants": COMMITTER_GRANTS,
    },
    _TARGET_NOT_BUILT,
)
FOREIGN_TARGET: Final = Shape(
    {"connector": TEXT},
    {"config": foreign, "mode": _append_only, "grants": GRANTS},
    _TARGET_NOT_BUILT,
)


@dataclass(frozen=True, slots=True)
class TargetShape:
    """The target of a job: ``own``, or ``foreign`` for any other connector, whose config is its own."""

    own: Shape
    foreign: Shape

    @property
    def keys(self) -> dict[str, Parse]:
        """Every key of either kind."""
        return {**self.foreign.keys, **self.own.keys}

    def __call__(self, value: Any, location: Location) -> dict[str, Any]:
        """Return what ``value`` says. Raises Fault."""
        if not isinstance(value, dict) or value.get("connector", "iceberg") in OWN_TARGETS:
            shape, others = self.own, "dativo's own targets write their warehouse and nothing else"
        else:
            shape, others = self.foreign, "a foreign target stores rows when it sees fit"
        for key in value if isinstance(value, dict) else ():
            if key in self.keys and key not in shape.keys:
                raise Fault((*location, key), f"no `{key}` here: {others}", f"Leave `{key}` out")
        return shape(value, location)


TARGET: Final = TargetShape(OWN_TARGET, FOREIGN_TARGET)


def _contract(parsed: dict[str, Any], location: Location) -> None:
    if parsed.get("values", "fail") == "fail":
        for key in ("max_rejects", "keep_text"):
            if parsed.get(key):
                raise Fault(
                    (*location, key),
                    f"`{key}` speaks of what is discarded, and nothing is",
                    "Set `values` to discard_row or discard_value",
                )
    renamed = parsed.get("rename", {})
    names = [*renamed.values(), *renamed]
    if len(set(names)) != len(names):
        raise Fault((*location, "rename"), "a property is named twice")


PROPERTY: Final = text(wanted="the name of a property", max_chars=1024)
CONTRACT: Final = Shape(
    {},
    {
        "schema": one_of("evolve", "freeze"),
        "conflict": one_of("new_column", "fail"),
        "values": one_of("fail", "discard_row", "discard_value"),
        "max_rejects": whole(0),
        "keep_text": boolean,
        "rename": MappingOf(PROPERTY, PROPERTY),
    },
    check=_contract,
)
CONTRACTS: Final = MappingOf(text(wanted="a pattern of streams"), CONTRACT)


def _layout_items(item: Callable[[str], Any]) -> Parse:
    """Return the parser of ``partition_by`` or ``sort_by``."""
    items = list_of(meant(item), most=MAX_LAYOUT_FIELDS)

    def parse(value: Any, location: Location) -> tuple[Any, ...]:
        fields: tuple[Any, ...] = items(value, location)
        again = layouts.repeated(fields)
        if again is not None:
            raise Fault(location, f"{again!r} is named twice to the same end")
        return fields

    return parse


LAYOUT: Final = Shape(
    {},
    {
        "partition_by": _layout_items(layouts.partition_field),
        "sort_by": _layout_items(layouts.sort_field),
    },
)
LAYOUTS: Final = MappingOf(text(wanted="a pattern of streams"), LAYOUT)


def _of_own_target(parsed: dict[str, Any], location: Location) -> None:
    if parsed["target"]["connector"] in OWN_TARGETS:
        return
    if "contracts" in parsed:
        raise Fault(
            (*location, "contracts"),
            "contracts are kept by dativo's own targets; a foreign target has its own rules",
            "Leave `contracts` out",
        )
    if "layout" in parsed:
        raise Fault(
            (*location, "layout"),
            "dativo lays out the files of its own targets; a foreign target has its own",
            "Leave `layout` out",
        )


JOB: Final = Shape(
    {"pipeline": IDENTIFIER, "source": SOURCE, "target": TARGET},
    {"contracts": CONTRACTS, "layout": LAYOUTS, "limits": Shape({}, READ_LIMITS)},
    frozenset(
        {"transformers", "engine", "tenant", "schedule", "eof", "partition", "partitions", "audit"}
    ),
    check=_of_own_target,
)

# --- policy --------------------------------------------------------------------------------------


def _block(parsed: dict[str, Any], location: Location) -> None:
    _exactly_one("name", "digest")(parsed, location)
    if "version" in parsed and "name" not in parsed:
        raise Fault(location, "`version` needs `name`")


def _credentials_of_a_proxy(parsed: dict[str, Any], location: Location) -> None:
    if "proxy_credentials" in parsed and "proxy" not in parsed:
        raise Fault(location, "`proxy_credentials` needs `proxy`")


_PLACES: Final = 10_000
NETWORK: Final = Shape(
    {},
    {
        "blocked": list_of(meant(_blocked_place), most=_PLACES),
        "permit_special": list_of(meant(network_text.cidr), most=_PLACES),
        "resolvers": list_of(meant(lambda text: network_text.endpoint(text, 53)), 1, 8),
        "proxy": meant(network_text.host_and_port),
        # Parsed by whoever reads the policy, since no error may show what stands here.
        "proxy_credentials": TEXT,
        "ca": text(r"/[^\0]+", "an absolute path"),
        "allowed": list_of(NETWORK_GRANT, most=_PLACES),
    },
    check=_credentials_of_a_proxy,
)
CEILINGS: Final = Shape({}, {**NUMBERS, **READ_LIMITS}, frozenset({"network"}))
IMAGE_REFERENCE: Final = text(
    r"image:([a-z0-9]+(-[a-z0-9]+)*|\*)", "image:NAME, or image:* for every image", 256
)
POLICY: Final = Shape(
    {},
    {
        "ceilings": CEILINGS,
        "variables": list_of(VARIABLE),
        "secrets": list_of(TEXT),
        "environment": list_of(GIVEN_VARIABLE),
        "exec": list_of(ABSOLUTE_PATH),
        "walls": Shape({}, {"cgroup": one_of("degraded")}),
        "docker": Shape({"plugins": list_of(IMAGE_REFERENCE)}, {"engine": ABSOLUTE_PATH}),
        "network": NETWORK,
        "blocked": list_of(
            Shape(
                {}, {"name": TEXT, "version": TEXT, "digest": DIGEST, "reason": TEXT}, check=_block
            ),
            most=10_000,
        ),
        "waivers": list_of(
            Shape(
                {
                    "plugin": meant(blocks.parse),
                    "ceilings": CEILINGS,
                    "reason": TEXT,
                    "until": meant(waivers.read_day),
                }
            )
        ),
    },
    frozenset({"tenants", "roles"}),
)

# --- plugin manifest -----------------------------------------------------------------------------

ENTRY_POINT: Final = Shape(
    {},
    {
        "module": text(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", "the name of a Python module", 256),
        "file": FILE_PATH,
        "executable": FILE_PATH,
        "arguments": list_of(TEXT, most=100),
    },
    check=_exactly_one("module", "file", "executable"),
)
PLUGIN: Final = Shape(
    {
        "name": IDENTIFIER,
        "version": VERSION,
        "type": one_of("reader", "transformer", "writer"),
        "language": one_of("python", "rust", "any"),
        "entry_point": ENTRY_POINT,
        "api_version": text(r"[0-9]{1,4}(\.[0-9]{1,4})?", 'a version such as "1"'),
    },
    {
        "protocol": one_of("airbyte", "singer", "native"),
        "compatibility": Shape({}, {"platform_min": VERSION, "platform_max": VERSION}),
        "dependencies": list_of(TEXT),
        "permissions": GRANTS,
        "requires": list_of(TEXT, most=100),
        "features": list_of(one_of("batches"), most=1),
        "metadata": foreign,
    },
)

# --- lock ----------------------------------------------------------------------------------------

REQUIREMENT: Final = text(
    r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9A-Za-z.+!_-]+( --hash=sha256:[0-9a-f]{64})+",
    "one exact version and the hashes of its wheels",
    1_000_000,
)
"""No option, no address and no marker can hide in it."""
_PACKAGE: Final = text(r"[a-z0-9]+(-[a-z0-9]+)*", "a normalised package name", 128)
_PLATFORM: Final = text(r"linux-[a-z0-9_]{1,20}", "a platform")
LOCKED: Final = Shape(
    {
        "kind": one_of("airbyte", "singer"),
        "package": _PACKAGE,
        "version": VERSION,
        "requested": text(r"[0-9A-Za-z.+!_*<>=~, -]*", "a version specifier", 256),
        "python": text(r"3\.[0-9]{1,2}", "a Python version such as 3.11"),
        "script": text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "a console script"),
        "contents": MappingOf(_PLATFORM, DIGEST),
        "requirements": list_of(REQUIREMENT, 1, 5000),
    },
    {"newest": VERSION, "built": MappingOf(_PACKAGE, list_of(REQUIREMENT, 0, 1000))},
)
LOCKED_IMAGE: Final = Shape(
    {
        "kind": one_of("image"),
        "version": VERSION,
        "images": MappingOf(_PLATFORM, DIGEST),
        "contents": MappingOf(_PLATFORM, DIGEST),
    }
)


def _locked(value: Any, location: Location) -> dict[str, Any]:
    """Return an entry of the lock: a package's, or an image's."""
    image = isinstance(value, dict) and value.get("kind") == "image"
    return (LOCKED_IMAGE if image else LOCKED)(value, location)


LOCK: Final = Shape(
    {
        "version": whole(1, 1),
        "plugins": MappingOf(
            text(
                r"(airbyte|singer|image):[a-z0-9-]{1,128}",
                "a reference such as airbyte:source-faker",
            ),
            _locked,
        ),
    }
)

# --- what an image says of itself ----------------------------------------------------------------

_ANY_TEXT: Final = text(
    r"[^\0\ud800-\udfff]*", "a text", 128 * 1024 - 1
)  # MAX_ARG_STRLEN, execve(2)
UNPACKED: Final = Shape(
    {
        "id": DIGEST,
        "config": Shape(
            {
                "entrypoint": list_of(_ANY_TEXT, most=100),
                "command": list_of(_ANY_TEXT, most=100),
                "environment": MappingOf(text(r"[^\0=\ud800-\udfff]+", "a name"), _ANY_TEXT),
                "folder": text(r"/[^\0\ud800-\udfff]*", "an absolute path"),
                "user": _ANY_TEXT,
                "labels": MappingOf(_ANY_TEXT, _ANY_TEXT),
            }
        ),
    },
    {
        "program": lambda value, location: None if value is None else _ANY_TEXT(value, location),
        "files": whole(0),
        "bytes": whole(0),
        "devices": whole(0),
        "set_uid": whole(0),
    },
)
"""The answer of ``dativo.plugins.image``."""

# --- reading them --------------------------------------------------------------------------------


def read(shape: Shape, document: Document, what: str) -> dict[str, Any]:
    """Return what ``document`` says, parsed. Raises ConfigError for its first fault, with place and value."""
    try:
        return shape(document.value, ())
    except Fault as fault:
        value: Any = document.value
        for step in fault.location:
            value = value[step]
        name = fault.location[-1] if fault.location else ""
        about = f"`{name}`: " if name != "" and f"`{name}`" not in fault.message else ""
        shown = None if value is None or isinstance(value, (dict, list)) else str(value)
        raise ConfigError(
            f"{what}: {about}{fault.message}",
            document.where(fault.location),
            value=shown,
            hint=fault.hint,
        ) from None
