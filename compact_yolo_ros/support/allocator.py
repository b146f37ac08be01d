# SPDX-License-Identifier: Apache-2.0
"""How this process's C library hands memory back to the system."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of the settings, see mallopt(3)."""
LARGEST_KEPT = 32 << 20
"""Bytes of the largest block that is kept; glibc allows no more."""
MOST_KEPT = 256 << 20
"""Bytes at the end of the heap that are kept: a handful of 4K images."""


def keep_freed_memory() -> None:
    """Let the next image use the pages of the one before.

    glibc gives large blocks back to the system at once, and asks for fresh pages for the next
    image: three copies of a VGA image then cost 700 page faults and four times the time. Another C
    library is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, MOST_KEPT)
