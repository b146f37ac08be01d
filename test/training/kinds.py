# SPDX-License-Identifier: Apache-2.0
"""The detectors of the registry that differ from each other in more than the width of layers."""

from __future__ import annotations

from training.detectors.registry import DETECTORS

OF_OTHER_WIDTH = {
    "yolo_ret_m14", "micro_yolo_pruned", "yolo_fastest_xl", "yolo_fastest_xl_v1_0",
}  # fmt: skip
KINDS = [name for name in DETECTORS if name not in OF_OTHER_WIDTH]
