"""Importing this loads the kernels (compiles them, the first time): for a server that runs are forked from."""

from harness.data.ops.numba_cache import kernels

kernels()
