# SPDX-License-Identifier: Apache-2.0
"""Keep two processes from writing into one folder, or into one file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def locked(folder: Path, in_use: Exception) -> Iterator[None]:
    """Lock a folder, which is made; the lock goes with the process that has it.

    Where a network file system has no locks, nothing is locked.

    Raises:
        in_use: another process has it.
        OSError: the folder cannot be made or opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise in_use from None
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


@contextmanager
def waiting_for(file: Path) -> Iterator[None]:
    """Wait until no other process has the lock of a file, which is made; for what takes moments.

    Where a network file system has no locks, nothing is locked.

    Raises:
        OSError: the file cannot be made or opened.
    """
    with file.open("ab") as handle:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
