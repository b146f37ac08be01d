# SPDX-License-Identifier: Apache-2.0
"""The memory of this process."""

from __future__ import annotations

from pathlib import Path
from resource import getpagesize


def resident_bytes() -> int:
    """Bytes of main memory that this process uses (Linux: proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()
