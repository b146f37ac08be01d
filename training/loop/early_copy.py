# SPDX-License-Identifier: Apache-2.0
"""Values of a GPU on the CPU, without waiting for the work that is queued after them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def early_copy(values: Tensor) -> Callable[[], Tensor]:
    """Begin to copy values to the CPU.

    Args:
        values: of any device; those of a CPU are not copied.

    Returns:
        What returns them on the CPU, and waits until they are there.
    """
    if values.device.type != "cuda":
        return values.cpu
    copied = values.to("cpu", non_blocking=True)  # into pinned memory, else it would wait here
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record()

    def wait() -> Tensor:
        done.synchronize()
        return copied

    return wait
