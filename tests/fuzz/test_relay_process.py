"""The real relay on the fuzz corpus with bytes changed: one ending, told once, and nothing half done that looks whole."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.relay_kernel import opening, play, stream

CORPUS = Path(__file__).parents[2] / "rust-plugins" / "fuzz" / "corpus" / "relay"
INPUTS = [path.read_bytes() for path in sorted(CORPUS.iterdir())]
STREAMS = [
    stream("s", schema={}, drop=["dropped"]),
    stream("s", namespace="n", out="n__s", schema={}),
]
DIALECTS = st.sampled_from(["airbyte", "singer"])
CHANGES = st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=3)), max_size=3)


@settings(max_examples=60)
@given(
    dialect=DIALECTS,
    to=DIALECTS,
    strict=st.booleans(),
    chosen=st.lists(st.sampled_from(INPUTS), min_size=1, max_size=4),
    changes=CHANGES,
)
def test_any_input_ends_in_whole_lines_or_in_one_error(
    dialect: str,
    to: str,
    strict: bool,
    chosen: list[bytes],
    changes: list[tuple[int, bytes]],
) -> None:
    fed = bytearray(b"".join(chosen))
    for at, new in changes:
        fed[at % len(fed) : at % len(fed) + 1] = new
    relay = play(opening(dialect, to, STREAMS, strict=strict, statuses=True), bytes(fed))
    assert relay.peak_bytes < 16_000_000
    if relay.status == 0:
        assert len(relay.of("passed")) == 1 and not relay.of("error")
        for line in relay.lines():
            kind = json.loads(line)["type"]
            assert kind in ("RECORD", "STATE", "SCHEMA", "ACTIVATE_VERSION", "TRACE")
    else:
        assert relay.status in (6, 7) and not relay.of("passed")
        assert relay.error()["blame"] == "plugin"
        assert not relay.output.endswith(b"\n")
