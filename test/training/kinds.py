# SPDX-License-Identifier: Apache-2.0
"""The detectors of the registry that differ from each other in more than the width of layers."""

from __future__ import annotations

from training.detectors.registry import DETECTORS

WIDER = {"yolo_ret_m14", "yolo_fastest_xl", "yolo_fastest_xl_v1_0"}
KINDS = [name for name in DETECTORS if name not in WIDER]
