"""``${NAME}`` in the string values of a job or policy, after parsing and once: a value is never read again.

``${NAME}``, ``${NAME:-default}`` (unset or empty), ``${NAME:?message}`` (unset or empty is an error with that message), and
``$$`` for a dollar. A dollar before anything else is itself, so patterns such as ``^a$`` need no care. Numbers, keys and secret
references are not expanded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from dativo.kernel.document import Document, Location, Tree
from dativo.protocol.errors import ConfigError, NotPermitted

_REFERENCE: Final = re.compile(
    r"\$\$|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<rule>:[-?])(?P<rest>[^}]*))?\})?"
)
SECRET_KEY: Final = "secret"  # noqa: S105  # the key of a reference


def expand(document: Document, variables: Mapping[str, str | None]) -> Document:
    """Return ``document`` with every reference replaced.

    ``variables`` holds every name that may be used; None means allowed but not set. Raises NotPermitted for any other name and
    ConfigError for an unset one or a malformed reference.
    """

    def walk(value: Tree, location: Location) -> Tree:
        if isinstance(value, str):
            return _text(value, location) if "$" in value else value
        if isinstance(value, dict):
            if value.keys() == {SECRET_KEY}:
                return value
            return {key: walk(item, (*location, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item, (*location, index)) for index, item in enumerate(value)]
        return value

    def _text(text: str, location: Location) -> str:
        def one(match: re.Match[str]) -> str:
            if match[0] == "$$":
                return "$"
            name, rule, rest = match["name"], match["rule"], match["rest"]
            if name is None:
                raise ConfigError(
                    "`${` does not begin a reference",
                    document.where(location),
                    value=text,
                    hint="Write ${NAME}, ${NAME:-default} or ${NAME:?message}; $${ for the text itself",
                )
            if name not in variables:
                raise NotPermitted(
                    f"variable {name} is not listed by the policy",
                    document.where(location),
                    hint=f"The operator allows it in policy.yaml: variables: [{name}]",
                )
            found = variables[name]
            if rule == ":-":
                return found or rest
            if rule == ":?" and not found:
                raise ConfigError(
                    rest or f"variable {name} is not set",
                    document.where(location),
                    hint=f"Set {name}",
                )
            if found is None:
                raise ConfigError(
                    f"variable {name} is not set",
                    document.where(location),
                    hint=f"Set it, or write ${{{name}:-default}}",
                )
            return found

        return _REFERENCE.sub(one, text)

    return replace(document, value=walk(document.value, ()))
