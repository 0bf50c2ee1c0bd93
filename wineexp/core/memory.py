"""Memory that was freed and that libraries keep for what comes next."""

import ctypes
from contextlib import suppress

import pyarrow as pa


def release_unused() -> None:
    """Give it back to the system, where that can be done: what comes next may be another library."""
    pa.default_memory_pool().release_unused()
    # A function of glibc, which other C libraries lack.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
