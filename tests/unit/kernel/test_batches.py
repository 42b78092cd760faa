"""When batches are agreed on: a source that offers them, a writer that names them, numbers that are doubles."""

from __future__ import annotations

import pytest

from dativo.kernel.landing import Input, open_writer
from dativo.kernel.limits import EpochLimits, ReadLimits
from dativo.protocol import events, handshake


@pytest.mark.parametrize(
    ("offered", "numbers", "taken"),
    [
        (True, "double", True),
        (True, "decimal", False),
        (True, "text", False),
        (False, "double", False),
    ],
)
def test_what_the_writer_is_told(offered: bool, numbers: str, taken: bool) -> None:
    read = Input("airbyte", (), ReadLimits(), numbers=numbers, batches=offered)
    assert open_writer(read, EpochLimits())["batches"] is taken


def test_a_feature_is_in_force_when_both_name_it() -> None:
    hello = events.Hello("1.0", "dativo-writer", "0.1.0", ("batches", "later"))
    assert handshake.agree(hello, program="dativo-writer").features == {"batches"}
    older = events.Hello("1.0", "dativo-writer", "0.1.0", ())
    assert handshake.agree(older, program="dativo-writer").features == frozenset()
