"""Amounts as people write them: ``512MiB``, ``12h``, ``0.5``. Bytes, seconds and processors as numbers."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_AMOUNT: Final = re.compile(r"([0-9]{1,15})\s*([A-Za-z]{0,3})")
_BYTES: Final = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
MAX_BYTES: Final = 2**60
MAX_SECONDS: Final = 3650 * 86400
MAX_CPUS: Final = 1024


def parse_bytes(value: object) -> int:
    """Return the bytes of ``512MiB``, ``1GB`` or a whole number. Raises ValueError."""
    return _amount(value, _BYTES, MAX_BYTES, "a size such as 512MiB")


def parse_seconds(value: object) -> int:
    """Return the seconds of ``30s``, ``5m``, ``12h``, ``7d`` or a whole number. Raises ValueError."""
    return _amount(value, _SECONDS, MAX_SECONDS, "a time such as 30s, 5m or 12h")


def parse_cpus(value: object) -> float:
    """Return the processors of ``1`` or ``0.5``; at least a hundredth. Raises ValueError."""
    wanted = "a number of processors such as 1 or 0.5"
    if isinstance(value, bool) or not isinstance(value, (int, Decimal, str)):
        raise ValueError(f"expected {wanted}")
    try:
        cpus = float(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"expected {wanted}") from error
    if not 0.01 <= cpus <= MAX_CPUS:
        raise ValueError(f"expected {wanted}, between 0.01 and {MAX_CPUS}")
    return cpus


def _amount(value: object, units: dict[str, int], most: int, wanted: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"expected {wanted}")
    match = _AMOUNT.fullmatch(str(value).strip())
    if match is None or match[2] not in units:
        raise ValueError(f"expected {wanted} (units: {', '.join(u for u in units if u)})")
    amount = int(match[1]) * units[match[2]]
    if not 1 <= amount <= most:
        raise ValueError(f"expected {wanted}, more than 0 and at most {most}")
    return amount


def show_bytes(amount: int) -> str:
    """Return ``amount`` with the largest unit that divides it, as ``parse_bytes`` reads it."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if amount and amount % _BYTES[unit] == 0:
            return f"{amount // _BYTES[unit]}{unit}"
    return f"{amount}B"


def show_seconds(amount: int) -> str:
    """Return ``amount`` with the largest unit that divides it, as ``parse_seconds`` reads it."""
    for unit in ("d", "h", "m"):
        if amount and amount % _SECONDS[unit] == 0:
            return f"{amount // _SECONDS[unit]}{unit}"
    return f"{amount}s"
