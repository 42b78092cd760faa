"""Settings of all tests."""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# A shell has its background ignore these, what is ignored stays ignored, and the tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)

NIGHTLY = bool(os.environ.get("DATIVO_NIGHTLY"))

# Shared machines are slow by turns: time is no property of what is tested here.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", parent=settings.get_profile("default"), max_examples=5000)
settings.load_profile("nightly" if NIGHTLY else "default")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long grids, marked ``nightly``, to `make nightly`; tests that are named one by one run all the same."""
    if NIGHTLY or any("::" in argument for argument in config.args):
        return
    long = [item for item in items if item.get_closest_marker("nightly")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]
