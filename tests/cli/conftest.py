"""Experiments of the sweep's tests."""

from tests.sweep.conftest import folder, write

__all__ = ["folder", "write"]
