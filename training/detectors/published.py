# SPDX-License-Identifier: Apache-2.0
"""How to read the sizes that papers and authors' repositories give for the detectors."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from compact_yolo_ros.model.published import PUBLISHED, Published
from training.detectors.complexity import kernel_values, parameters, stored_values

__all__ = ["PUBLISHED", "READINGS", "Published"]

# How a published size counts: its unit, and the same number of a detector built here.
READINGS: dict[str, Callable[[nn.Module], float]] = {
    "MiB, float32": lambda m: 4 * parameters(m) / 2**20,
    "MB, float32 and statistics": lambda m: 4 * stored_values(m) / 1e6,
    "MiB, 8-bit kernels": lambda m: kernel_values(m) / 2**20,
    "M parameters": lambda m: parameters(m) / 1e6,
    "M values": lambda m: stored_values(m) / 1e6,
}
