"""Committers are played with the warehouses of the tests of faults."""

from tests.faults.conftest import warehouse

__all__ = ["warehouse"]
