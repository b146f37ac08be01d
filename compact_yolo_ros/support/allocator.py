# SPDX-License-Identifier: Apache-2.0
"""Keep freed memory for what comes next, instead of fetching it from the kernel anew."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_SEPARATE = 32 * 2**20
"""Bytes from which memory is fetched for one use and given back at once: the most glibc allows."""
KEPT = 3 * _SEPARATE
"""Bytes at the end of a heap that are kept when they become free: three images of 4K."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
_NEVER = -1


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
    return _set((_M_MMAP_THRESHOLD, _SEPARATE), (_M_TRIM_THRESHOLD, KEPT), (_M_ARENA_MAX, 1))


def keep_all_freed_memory() -> bool:
    """Let this process keep all memory that it frees: for one that needs as much again and again.

    The feature maps of a training have up to a hundred megabytes each. Fetched anew in every step,
    they took 14 to 25 % of the processor's time, in which the kernel cleared their pages.

    Returns:
        Whether the C library can be told so. One other than glibc keeps its own rules.
    """
    return _set((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER))


def _set(*settings: tuple[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all(mallopt(*setting) for setting in settings)
