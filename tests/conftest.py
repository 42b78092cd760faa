"""Settings of all tests."""

import os

from hypothesis import HealthCheck, settings

# Shared machines are slow by turns: time is no property of what is tested here.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", parent=settings.get_profile("default"), max_examples=5000)
settings.load_profile("nightly" if os.environ.get("DATIVO_NIGHTLY") else "default")
