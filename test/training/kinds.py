# SPDX-License-Identifier: Apache-2.0
"""The detectors of the registry that differ from each other in more than the width of layers."""

from __future__ import annotations

from dataclasses import replace

from training.detectors.registry import DETECTORS
from training.detectors.variant import Variant
from training.detectors.yolo_nano import Fca, YoloNanoConfig
from training.detectors.yolo_ret import BackboneOptions

OF_OTHER_WIDTH = {
    "yolo_ret_m14", "micro_yolo_pruned", "yolo_fastest_xl", "yolo_fastest_xl_v1_0",
}  # fmt: skip
# The deepest, with fewer of the same modules: each takes its time.
SHORTER = {
    "yolo_ret_eb3": {"backbone": BackboneOptions("efficientnet_b3", blocks=9)},
    "yolo_nano": {"trunk": tuple(s[: 4 if Fca() in s else 2] for s in YoloNanoConfig().trunk)},
}
KINDS = [name for name in DETECTORS if name not in OF_OTHER_WIDTH]


def shorter(name: str) -> Variant:
    """A detector, or what is as deep as needed of it."""
    return Variant(name, replace(DETECTORS[name].config, **SHORTER.get(name, {})))
