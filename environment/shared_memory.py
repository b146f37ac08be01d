# SPDX-License-Identifier: Apache-2.0
"""Remove the shared-memory segments that killed ROS 2 processes left behind.

Fast DDS keeps a data segment for each participant (32 MiB with this package's profile) in /dev/shm.
A killed process cannot remove its own, and a container often has only 64 MB of shared memory. The
owner of a segment holds a lock on its `_el` file while it lives; without the lock it is abandoned.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


def remove_abandoned_segments(folder: Path = Path("/dev/shm")) -> int:
    """Remove this user's segments whose owner is dead and return their number."""
    removed = 0
    for lock in folder.glob("fastdds_" + "[0-9a-f]" * 16 + "_el"):
        with contextlib.suppress(OSError), lock.open("rb") as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():
                continue
            # fails with BlockingIOError while the owner lives
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.with_name(lock.name.removesuffix("_el")).unlink()
            lock.unlink()
            removed += 1
    return removed
