# SPDX-License-Identifier: Apache-2.0
"""The first runs of a network that was opened, and the check of what it puts out."""

from __future__ import annotations

import math
from hashlib import shake_128
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.backends.backend import Backend
from compact_yolo_ros.backends.outputs import check_outputs
from compact_yolo_ros.model.sizes import Size

if TYPE_CHECKING:  # options.py knows the table of backends, whose rows are in the backends' files
    from compact_yolo_ros.backends.options import RunOptions


def warm_up(backend: Backend, options: RunOptions) -> dict[Size, float]:
    """Run a backend at every size, the one to begin with last; return what ``sizes`` holds.

    So the first image of every size finds memory and caches in place. The input is noise, on which
    a network answers with all of its classes: those that its card does not name are found now.

    Args:
        backend: what was opened.
        options: what it was opened with, resolved.

    Raises:
        BackendError: the runtime failed, or the network puts out what nothing can be made of.
    """
    seconds = dict.fromkeys(options.sizes, 0.0)
    for size in reversed(options.sizes):
        backend.resize(size)
        backend.input[...] = _noise(backend.input.shape)
        check_outputs(backend.run(options.batch), options.batch, len(backend.card.classes))
        if len(seconds) > 1:
            began = perf_counter()
            backend.run(options.batch)
            seconds[size] = perf_counter() - began
        backend.input[...] = 0
    return seconds


def _noise(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the same bytes each time. To load NumPy's generators takes longer than to run."""
    return np.frombuffer(shake_128().digest(math.prod(shape)), np.uint8).reshape(shape)
