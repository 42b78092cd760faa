"""The operator's word on networks: ``network`` of the policy (docs/spec/policy.md).

What is wholly blocked, or not within what is allowed at all, is refused before anything starts; what is blocked in part is
subtracted by the broker, which sees every name and address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from dativo.kernel import network_text, secrets
from dativo.kernel.network import NetworkGrant, enclosing
from dativo.kernel.secrets import SecretRef
from dativo.protocol.errors import ConfigError, NotPermitted, Where

# Everything is denied but what is granted, so that to block these means nothing more.
_EVERYTHING: Final = frozenset(("0.0.0.0/0", "::/0"))
_MAX_CREDENTIALS_CHARS: Final = 512


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """``blocked_hosts`` (names, ``*.name``) and ``blocked`` (networks) are never reached, whatever is granted.

    ``permit_special``: networks that names may lead to although they are the machine's own, a cloud's or reserved.
    ``resolvers`` None: those of /etc/resolv.conf. ``allowed`` None: no ceiling, an approval is enough.
    ``proxy_credentials``: where USER:PASSWORD for the proxy is kept; its value is in none of these.
    ``ca``: the file of authorities that processes are to trust beside the public ones.
    """

    blocked_hosts: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    permit_special: tuple[str, ...] = ()
    resolvers: tuple[str, ...] | None = None
    proxy: str | None = None
    allowed: tuple[NetworkGrant, ...] | None = None
    proxy_credentials: SecretRef | None = None
    ca: Path | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> NetworkPolicy:
        """Return what the keys of the policy say, parsed."""
        blocked = said.get("blocked", ())
        networks = [text for text in blocked if network_text.is_address(text)]
        return cls(
            blocked_hosts=tuple(text for text in blocked if text not in networks),
            blocked=tuple(text for text in networks if text not in _EVERYTHING),
            permit_special=said.get("permit_special", ()),
            resolvers=said.get("resolvers"),
            proxy=said.get("proxy"),
            allowed=said.get("allowed"),
            proxy_credentials=said.get("proxy_credentials"),
            ca=Path(said["ca"]) if "ca" in said else None,
        )

    def proxy_authorization(self, env: Mapping[str, str]) -> str | None:
        """Return the value of the proxy's ``Proxy-Authorization``, a secret (RFC 7617); None without credentials.

        ``env`` is the kernel's own. Raises ConfigError, never showing a value.
        """
        ref = self.proxy_credentials
        if ref is None:
            return None
        from base64 import b64encode

        value = secrets.resolve((ref,), env, frozenset((str(ref),))).values[ref]
        user, colon, _ = value.partition(":")
        if not (user and colon and value.isprintable() and len(value) <= _MAX_CREDENTIALS_CHARS):
            raise ConfigError(
                f"secret {ref} is not USER:PASSWORD", hint="It is for the policy's network.proxy"
            )
        return f"Basic {b64encode(value.encode()).decode('ascii')}"

    def permit(self, grants: Iterable[NetworkGrant], file: Path) -> None:
        """Raise NotPermitted, placed in the policy ``file``, for the first grant that the operator rules out."""
        blocked = {*self.blocked_hosts, *self.blocked}
        allowed: dict[str, list[NetworkGrant]] = {}
        for wide in self.allowed or ():
            allowed.setdefault(wide.where, []).append(wide)
        for grant in grants:
            places = tuple(enclosing(grant))
            found = next((place for place in places if place in blocked), None)
            if found is not None and grant.kind != "srv":
                raise NotPermitted(
                    f"network {grant.place} is blocked by the policy",
                    Where(file=str(file), pointer="/network/blocked"),
                    value=found,
                    hint="Only the operator can lift it",
                )
            if self.allowed is not None and not any(
                wide.covers(grant) for place in places for wide in allowed.get(place, ())
            ):
                raise NotPermitted(
                    f"network {grant} is not within what the policy allows",
                    Where(file=str(file), pointer="/network/allowed"),
                    hint="Ask for less, or have the operator add it",
                )


# --- shared hosting --------------------------------------------------------------------------------------------------------


@cache
def _shared() -> tuple[str, ...]:
    text = Path(__file__).with_name("shared_hosts.txt").read_text("ascii")
    return tuple(line for line in text.split("\n") if line and not line.startswith("#"))


def notices(grants: Iterable[NetworkGrant]) -> list[str]:
    """Return what is to be known before such grants are approved: hosts that serve anybody's accounts."""
    found = []
    for grant in grants:
        name = grant.where.removeprefix("*.")
        host = next((each for each in _shared() if name == each or name.endswith(f".{each}")), None)
        if grant.kind == "host" and host is not None:
            capped = "" if grant.upload_bytes is not None else "; upload=SIZE bounds what is sent"
            found.append(
                f"network {grant.place}: {host} is shared hosting, where anybody may have an account that receives data{capped}"
            )
    return found
