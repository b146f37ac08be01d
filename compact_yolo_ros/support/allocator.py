# SPDX-License-Identifier: Apache-2.0
"""Keep the memory of one image for the next one, instead of fetching it from the kernel anew."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_SEPARATE = 32 * 2**20
"""Bytes from which memory is fetched for one use and given back at once: the most glibc allows."""
KEPT = 3 * _SEPARATE
"""Bytes at the end of a heap that are kept when they become free: three images of 4K."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def give_back_freed_memory() -> None:
    """Return to the kernel what is free now, after something large is gone; takes milliseconds."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def keep_freed_memory() -> bool:
    """Let this process keep up to ``KEPT`` bytes of freed memory, for the images to come.

    glibc's own limits follow the largest block that was freed. An image is received or decoded into
    one block and copied into another, so both together are just above the limit: their pages go
    back to the kernel with every image, and each page that comes again is cleared first. That takes
    as long as decoding does.

    All threads share one heap from now on: of one for each thread, each would keep what it once
    had. Call it before there are threads, because theirs are used on.

    Returns:
        Whether the C library can be told so. One other than glibc keeps its own rules.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = (_M_MMAP_THRESHOLD, _SEPARATE), (_M_TRIM_THRESHOLD, KEPT), (_M_ARENA_MAX, 1)
    return all(mallopt(*setting) for setting in settings)
