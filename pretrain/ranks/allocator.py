"""Memory that a step frees is kept for the next one, on CPU."""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of glibc's `mallopt`."""
LARGEST_KEPT = 32 * 2**20
"""Blocks up to this many bytes are taken from the heap; glibc allows no more."""
KEPT = 2**30
"""Free bytes at the heap's end that are not given back."""
OWN = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables by which a user has chosen."""


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed instead of giving it back to the system.

    By default it maps larger blocks anew for every tensor, and the kernel clears each page when it
    is first touched, thousands of times a step. What a step computes does not change.

    Returns:
        whether it was told: not under another C library, nor where the user has chosen.
    """
    if any(name in os.environ for name in OWN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(M_TRIM_THRESHOLD, KEPT))
