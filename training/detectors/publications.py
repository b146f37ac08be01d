# SPDX-License-Identifier: Apache-2.0
"""What several detectors' published figures have in common: sources, devices, units."""

from __future__ import annotations

from collections.abc import Callable

from training.detectors.complexity import kernel_values, parameters, stored_values
from training.detectors.interface import Module

YOLO_RET = "YOLO-ReT, Ganesh et al. 2021"
YOLO_FASTEST = "repository dog-qiuqiu/Yolo-Fastest"

NANO, NX, AGX = "Jetson Nano, FP16", "Xavier NX, FP16", "AGX Xavier, FP16"
"""TensorRT, one image at a time, as measured by the authors of YOLO-ReT, also of others' models."""

COCO_AP = "COCO 2017, AP from 0.50 to 0.95"
"""What stands beside the data sets of AP50 where COCO's own measure is published."""

FLOAT32 = "MiB, float32"
WITH_STATISTICS = "MB, float32 and statistics"
KERNELS_8_BIT = "MiB, 8-bit kernels"
PARAMETERS = "M parameters"
VALUES = "M values"

SIZE_UNITS: dict[str, Callable[[Module], float]] = {
    FLOAT32: lambda m: 4 * parameters(m) / 2**20,
    WITH_STATISTICS: lambda m: 4 * stored_values(m) / 1e6,
    KERNELS_8_BIT: lambda m: kernel_values(m) / 2**20,
    PARAMETERS: lambda m: parameters(m) / 1e6,
    VALUES: lambda m: stored_values(m) / 1e6,
}
"""The unit of a published size, and how the same is counted of a detector that is built here."""
