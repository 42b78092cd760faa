"""The Singer face of a standalone target: what it says about itself, and the states that it hands back.

Sources: Singer spec, RUNNING_AND_DEVELOPING (a target writes the value of a state once everything before it is stored, and its
caller keeps the last line); singer-sdk's ``--about`` (name, description, version, capabilities, settings as JSON Schema).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from dativo.kernel import target_config
from dativo.kernel._version import VERSION
from dativo.kernel.target_config import Target

if TYPE_CHECKING:
    from dativo.protocol import events

Format: TypeAlias = Literal["text", "json", "markdown"]

DESCRIPTIONS: Final[dict[Target, str]] = {
    "parquet": "Lands a tap or an Airbyte source in a Parquet dataset, rows and state in one commit",
    "iceberg": "Lands a tap or an Airbyte source in Iceberg tables, rows and state in one commit",
}
CAPABILITIES: Final = ("about", "activate-version", "target-schema", "validate-records")


def about(target: Target, form: Format) -> str:
    """Return what ``--about`` prints, in singer-sdk's shape."""
    facts: dict[str, Any] = {
        "name": f"dativo-target-{target}",
        "description": DESCRIPTIONS[target],
        "version": VERSION,
        "capabilities": list(CAPABILITIES),
        "settings": target_config.json_schema(target, "singer"),
    }
    if form == "json":
        return json.dumps(facts, indent=2)
    return "\n".join(_markdown(facts) if form == "markdown" else _text(facts))


def _text(facts: Mapping[str, Any]) -> Iterator[str]:
    for key in ("name", "description", "version"):
        yield f"{key.capitalize()}: {facts[key]}"
    yield "Capabilities:"
    yield from (f"  - {name}" for name in facts["capabilities"])
    yield "Settings:"
    for name, schema in facts["settings"]["properties"].items():
        kind = schema["type"]
        needed = ", required" if name in facts["settings"]["required"] else ""
        yield f"  - {name} ({kind if isinstance(kind, str) else ' or '.join(kind)}{needed})"
        yield f"      {schema['description']}"


def _markdown(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"# `{facts['name']}`\n\n{facts['description']}\n\n## Capabilities\n"
    yield from (f"* `{name}`" for name in facts["capabilities"])
    yield "\n## Settings\n\n| Setting | Required | Default | Description |"
    yield "|:--------|:--------:|:-------:|:------------|"
    for name, schema in facts["settings"]["properties"].items():
        needed = name in facts["settings"]["required"]
        yield f"| {name} | {needed} | {schema.get('default')} | {schema['description']} |"


def states(sealed: events.Sealed) -> tuple[str, ...]:
    """Return the line that a committed epoch adds to stdout: the value of its newest state, as the tap wrote it."""
    return (sealed.echo[-1].text,) if sealed.echo else ()
