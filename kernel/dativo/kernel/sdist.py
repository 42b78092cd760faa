"""Source distributions of the package index: which one, its hash, its file. Nothing of them is executed here.

uv never learns what an sdist needs by building it: in the question which one fits, its dependencies are given as none
(``dependency-metadata``), and the answer is taken for its version, address and hash alone.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import re
import ssl
import tempfile
import time
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dativo.kernel import limits
from dativo.kernel.lock import normal
from dativo.protocol.errors import Blame, ConfigError, LimitExceeded

_ARCHIVES: Final = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
_CHUNK_BYTES: Final = 1 << 18
_SILENCE_S: Final = 60.0
_INDEXES: Final = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")


@dataclass(frozen=True, slots=True)
class Sdist:
    """One sdist of the index. ``address`` is an http, https or file URL, as the index gave it; ``sha256`` in hex."""

    package: str
    version: str
    sha256: str
    address: str = field(repr=False)

    @property
    def requirement(self) -> str:
        """The line of the lock."""
        return f"{self.package}=={self.version} --hash=sha256:{self.sha256}"

    @property
    def ending(self) -> str:
        """``.tar.gz`` and the like. Raises ConfigError."""
        path = urllib.parse.urlsplit(self.address).path
        for ending in _ARCHIVES:
            if path.endswith(ending):
                return ending
        raise ConfigError(
            f"the sdist of {self.package} {self.version} is no archive that is known",
            value=path.rpartition("/")[2],
            blame=Blame.PLUGIN,
        )


def from_pylock(text: str, package: str, folder: Path) -> Sdist:
    """Return the sdist of ``package`` in a pylock.toml (PEP 751) whose paths are relative to ``folder``. Raises ConfigError."""
    try:
        packages: list[dict[str, Any]] = tomllib.loads(text).get("packages", [])
        (entry,) = (entry for entry in packages if normal(entry["name"]) == package)
        said = entry["sdist"]
        address = said["url"] if "url" in said else (folder / said["path"]).resolve().as_uri()
        found = Sdist(package, entry["version"], said["hashes"]["sha256"], address)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the index has neither a wheel nor a source distribution of {package}",
            blame=Blame.PLUGIN,
        ) from error
    if not re.fullmatch("[0-9a-f]{64}", found.sha256) or not re.fullmatch(
        "[0-9A-Za-z.+!_-]{1,64}", found.version
    ):
        raise ConfigError(f"the index names no hash of the sdist of {package}")
    return found


def download(sdist: Sdist, folder: Path, env: Mapping[str, str]) -> Path:
    """Fetch ``sdist`` into ``folder`` and return its file, whose hash is right.

    ``env``: proxies and certificates. Blocks for at most ``limits.INSTALL_TIME_S``. Raises ConfigError, LimitExceeded.
    """
    what = f"downloading the sdist of {sdist.package} {sdist.version}"
    digest, size = hashlib.sha256(), 0
    deadline = time.monotonic() + limits.INSTALL_TIME_S
    handle, name = tempfile.mkstemp(suffix=sdist.ending, dir=folder)
    try:
        with os.fdopen(handle, "wb") as file, closing(_open(sdist.address, env)) as stream:
            while data := stream.read(_CHUNK_BYTES):
                size += len(data)
                if size > limits.SDIST_BYTES or time.monotonic() > deadline:
                    raise LimitExceeded(
                        f"{what}: more than {limits.SDIST_BYTES} bytes or {limits.INSTALL_TIME_S} s"
                    )
                digest.update(data)
                file.write(data)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ConfigError(f"{what} failed: {reason}", blame=Blame.MACHINE) from error
    if digest.hexdigest() != sdist.sha256:
        raise ConfigError(
            f"{what}: its hash is not {sdist.sha256}", value=digest.hexdigest(), blame=Blame.PLUGIN
        )
    Path(name).chmod(0o444)
    return Path(name)


def _open(address: str, env: Mapping[str, str]) -> Any:
    """Open an address of the index; a file only where the index itself is a folder of this machine."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "file":
        return Path(urllib.request.url2pathname(parts.path)).open("rb")
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"the index gave a {parts.scheme or 'relative'} address")
    proxies = {
        scheme: proxy
        for scheme in ("http", "https")
        for proxy in (_proxy(env, scheme, parts.hostname or ""),)
        if proxy
    }
    context = ssl.create_default_context(
        cafile=env.get("SSL_CERT_FILE") or None, capath=env.get("SSL_CERT_DIR") or None
    )
    plain = parts._replace(netloc=_place(parts))
    request = urllib.request.Request(plain.geturl())  # noqa: S310  # http and https alone, see above
    if credentials := _credentials(env, parts):
        # Not sent on to wherever the index redirects.
        request.add_unredirected_header("Authorization", f"Basic {credentials}")
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(proxies),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener.open(request, timeout=_SILENCE_S)


def _credentials(env: Mapping[str, str], address: urllib.parse.SplitResult) -> str | None:
    """Return name and password for ``address``, in base64: of the index in ``env`` at the very scheme, host and port, or .netrc.

    Raises ValueError for a .netrc that cannot be read.
    """
    said = [index for name in _INDEXES for index in env.get(name, "").split()]
    # Several may be written in one variable, each with a name before it or not.
    for index in (
        address,
        *(urllib.parse.urlsplit(re.sub(r"^[\w.-]+=", "", each)) for each in said),
    ):
        user = index.netloc.rpartition("@")[0]
        if user and (index.scheme, _place(index)) == (address.scheme, _place(address)):
            return base64.b64encode(urllib.parse.unquote(user).encode()).decode()
    import netrc

    try:
        found = netrc.netrc(Path(env.get("HOME", "/"), ".netrc")).authenticators(
            address.hostname or ""
        )
    except FileNotFoundError:
        return None
    except netrc.NetrcParseError as error:
        raise ValueError(f".netrc: {error.msg}") from error
    return None if found is None else base64.b64encode(f"{found[0]}:{found[2]}".encode()).decode()


def _place(address: urllib.parse.SplitResult) -> str:
    """Return host and port."""
    return address.netloc.rpartition("@")[2]


def _proxy(env: Mapping[str, str], scheme: str, host: str) -> str | None:
    """Return the proxy of ``env`` for ``host``, by the same variables that uv reads."""

    def said(name: str) -> str:
        return env.get(name.lower()) or env.get(name) or ""

    direct = [entry.strip().lstrip(".") for entry in said("NO_PROXY").split(",")]
    if any(
        entry == "*" or (entry and (host == entry or host.endswith("." + entry)))
        for entry in direct
    ):
        return None
    return said(f"{scheme.upper()}_PROXY") or said("ALL_PROXY") or None
