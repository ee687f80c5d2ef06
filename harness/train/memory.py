"""Tell glibc to keep freed memory: what a step frees, the next step needs."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""glibc's malloc.h."""


def keep_memory() -> bool:
    """Tell glibc to keep what this process frees; True if it agreed, False on another C library.

    Batches and activations are blocks of megabytes. By default glibc takes such a block from the kernel and gives it
    back when it is freed, so that every step pays again for every page it touches: half of the time of a view, a tenth
    or more of a step of a small network. A process holds its peak from then on, which it needs at the next step anyway.
    """
    if not sys.platform.startswith("linux"):
        return False
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        wanted = {M_MMAP_THRESHOLD: 1 << 30, M_TRIM_THRESHOLD: (1 << 31) - 1, M_TOP_PAD: 1 << 26}
        return all(mallopt(name, value) == 1 for name, value in wanted.items())
    return False
