"""Every environment variable that dativo reads, and nothing else reads them.

A process of a run never inherits this environment: the sandbox starts each with an empty one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: its name and what it changes."""

    name: str
    meaning: str

    def __str__(self) -> str:
        return self.name


DATIVO_HOME: Final = Variable(
    "DATIVO_HOME",
    "One absolute folder that holds store, config and state, instead of the usual places",
)
DATIVO_BIN_DIR: Final = Variable(
    "DATIVO_BIN_DIR",
    "Folder of dativo's executables, instead of the scripts folder of the installation",
)
HOME: Final = Variable("HOME", "The user's home, for the defaults of the XDG folders")
XDG_DATA_HOME: Final = Variable("XDG_DATA_HOME", "Base of a plain user's store (~/.local/share)")
XDG_CONFIG_HOME: Final = Variable("XDG_CONFIG_HOME", "Base of a plain user's config (~/.config)")
XDG_STATE_HOME: Final = Variable("XDG_STATE_HOME", "Base of a plain user's state (~/.local/state)")
NO_COLOR: Final = Variable("NO_COLOR", "When set and not empty: no colour (no-color.org)")
TERM: Final = Variable("TERM", "`dumb` means no colour and no progress line")
UV_CACHE_DIR: Final = Variable(
    "UV_CACHE_DIR",
    "uv's cache, instead of dativo's own; what hard-links into it can change plugins",
)

NO_INDEX: Final = Variable("UV_NO_INDEX", "When set and not empty: install from UV_FIND_LINKS only")
FIND_LINKS: Final = Variable("UV_FIND_LINKS", "Folders or pages with wheels and sdists")

OWN: Final = (
    DATIVO_HOME,
    DATIVO_BIN_DIR,
    HOME,
    XDG_DATA_HOME,
    XDG_CONFIG_HOME,
    XDG_STATE_HOME,
    NO_COLOR,
    TERM,
    UV_CACHE_DIR,
    NO_INDEX,
)

INSTALL: Final = (
    Variable("SSL_CERT_FILE", "Certificates that the package index is checked with"),
    Variable("SSL_CERT_DIR", "The same, as a folder"),
    Variable("HTTP_PROXY", "Proxy to the package index"),
    Variable("HTTPS_PROXY", "Proxy to the package index"),
    Variable("ALL_PROXY", "Proxy to the package index"),
    Variable("NO_PROXY", "Hosts that are reached without the proxy"),
    Variable("http_proxy", "Lower-case spelling of HTTP_PROXY"),
    Variable("https_proxy", "Lower-case spelling of HTTPS_PROXY"),
    Variable("all_proxy", "Lower-case spelling of ALL_PROXY"),
    Variable("no_proxy", "Lower-case spelling of NO_PROXY"),
    Variable("UV_DEFAULT_INDEX", "The package index"),
    Variable("UV_INDEX_URL", "The package index, older spelling"),
    Variable("UV_INDEX", "Further package indexes"),
    Variable("UV_EXTRA_INDEX_URL", "Further package indexes, older spelling"),
    FIND_LINKS,
    Variable("UV_OFFLINE", "Use what uv has in its cache only"),
    Variable("UV_HTTP_TIMEOUT", "Seconds that uv waits for the index"),
    Variable("UV_SYSTEM_CERTS", "Use the system's certificates"),
    Variable("UV_EXCLUDE_NEWER", "Ignore what was uploaded after this date"),
)
"""Passed on to uv by ``dativo plugin add``, with HOME for its ``.netrc``."""


def current() -> dict[str, str]:
    """Return a copy of this process's environment; everything below the command line is given one."""
    return dict(os.environ)
