"""What a command's processes were kept from on the network, for whoever sits at the command line: its report has no tables."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Final

from dativo.kernel import show
from dativo.kernel.network_record import NetworkRecord, Refused

MAX_REPORTED: Final = 20


def tell(
    command: str, record: NetworkRecord, redact: Callable[[str], str] = lambda text: text
) -> None:
    """Note on stderr each place that was refused, how often, and the flag that would let it through; most often first.

    Of an observed process also the flags that all of its refused connections would have needed. ``redact`` takes secrets out.
    """
    for each in record.reports():
        for refused in each.refusals[:MAX_REPORTED]:
            times = f" {refused.count} times" if refused.count > 1 else ""
            place = redact(show.foreign(refused.place))
            show.note(
                f"{command}: refused{times}: {place} ({refused.reason}){_allow(refused, redact)}"
            )
        if (left := len(each.refusals) - MAX_REPORTED) > 0:
            show.note(f"{command}: and {left} more were refused")
        if each.proposed is not None:
            line = redact(" ".join(f"--net {shlex.quote(text)}" for text in each.proposed))
            show.note(f"{command}: proposed, and not applied: {line or 'nothing'}")


def _allow(refused: Refused, redact: Callable[[str], str]) -> str:
    if refused.allow is None:
        return ""
    if refused.allow.startswith("policy: "):
        return f"; {refused.allow}"
    flag = f"--net {shlex.quote(refused.allow)}"
    return f"; to allow it: {redact(flag + refused.of_any_port)}"
