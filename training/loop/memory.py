# SPDX-License-Identifier: Apache-2.0
"""What to do where memory is short, of which PyTorch tells in several ways."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread

import torch

from compact_yolo_ros.support.error_text import first_line

LOADER = "DataLoader worker (pid"
"""How PyTorch's errors begin about a loader process that has died."""
CPU_ALLOCATOR = "DefaultCPUAllocator"


class MemoryShortageError(RuntimeError):
    """A training has less memory than it needs; the message says what to change."""


@contextmanager
def memory_shortage_told() -> Iterator[None]:
    """Raise MemoryShortageError instead of what PyTorch raises where memory is short."""
    try:
        yield
    except RuntimeError as error:
        if str(error).startswith(LOADER):
            _tell_once()
            raise MemoryShortageError(
                f"a loader process has died ({first_line(error).strip()}), mostly because memory is"
                " short, or a container's shared memory (docker run --shm-size=1g): give --cache"
                " disk or --workers 0, and the same command continues from its last checkpoint"
            ) from error
        if isinstance(error, torch.OutOfMemoryError) or CPU_ALLOCATOR in str(error):
            raise MemoryShortageError(
                f"there is not enough memory for a step ({first_line(error)}): raise accumulate,"
                " which computes it in parts, or lower batch_size or the sizes of the phases;"
                " training.train then goes on with --replan"
            ) from error
        raise


def _tell_once() -> None:
    """Let no other process that ends raise the same error again, wherever the program is then.

    PyTorch's handler does that until the loader is closed, which ends the other loaders.
    """
    if current_thread() is main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
