# SPDX-License-Identifier: Apache-2.0
"""Names of detectors and how to build them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from training.detectors.micro_yolo import Layer, MicroYolo, MicroYoloConfig
from training.detectors.tinier_yolo import TinierYolo, TinierYoloConfig
from training.detectors.tiny_yolo import V2_GRID, TinyYoloConfig, TinyYoloV2, TinyYoloV3
from training.detectors.yolo_fastest import VOC_GRID, YoloFastest, YoloFastestConfig
from training.detectors.yolo_nano import YoloNano, YoloNanoConfig
from training.detectors.yolo_ret import YoloRet, YoloRetConfig
from training.detectors.yolov4_tiny import GRID_3L, YoloV4Tiny, YoloV4TinyConfig

# Progressive pruning as in the paper: 2/16 of most layers, 6/16 of layer 13, none of layer 15.
PRUNED = MicroYoloConfig(
    trunk=(
        Layer("conv", 14),
        Layer("mbconv", 28),
        Layer("mbconv", 56, 5),
        Layer("mbconv", 112),
        Layer("mbconv", 224, 5),
        Layer("mbconv", 448),
    ),
    deep=(Layer("dsconv", 640), Layer("conv", 224, 1)),
    up=Layer("conv", 112, 1),
    s16=Layer("mbconv", 224),
)

# Name: constructor and its frozen default configuration.
DETECTORS: dict[str, tuple[Callable[[Any], nn.Module], Any]] = {
    "yolo_ret_m075": (YoloRet, YoloRetConfig()),
    "yolo_ret_m14": (YoloRet, YoloRetConfig(backbone="mobilenet_v2_140")),
    "yolo_ret_eb3": (YoloRet, YoloRetConfig(backbone="efficientnet_b3")),
    "yolo_nano": (YoloNano, YoloNanoConfig()),
    "micro_yolo": (MicroYolo, MicroYoloConfig()),
    "micro_yolo_pruned": (MicroYolo, PRUNED),
    "yolo_fastest": (YoloFastest, YoloFastestConfig()),
    "yolo_fastest_xl": (YoloFastest, YoloFastestConfig(width=2, dropout=0.2)),
    "yolo_fastest_v1_0": (YoloFastest, YoloFastestConfig(20, version="1.0", grid=VOC_GRID)),
    "yolo_fastest_xl_v1_0": (
        YoloFastest,
        YoloFastestConfig(20, version="1.0", width=2, dropout=0.2, grid=VOC_GRID),
    ),
    "tiny_yolov2": (TinyYoloV2, TinyYoloConfig(grid=V2_GRID)),
    "tiny_yolov3": (TinyYoloV3, TinyYoloConfig()),
    "tinier_yolo": (TinierYolo, TinierYoloConfig()),
    "yolov4_tiny": (YoloV4Tiny, YoloV4TinyConfig()),
    "yolov4_tiny_3l": (YoloV4Tiny, YoloV4TinyConfig(grid=GRID_3L)),
    "yolov4_tiny_rfcr": (YoloV4Tiny, YoloV4TinyConfig(rfcr=True)),
    "yolov4_tiny_3l_rfcr": (YoloV4Tiny, YoloV4TinyConfig(rfcr=True, grid=GRID_3L)),
}


def build(name: str, **changes: Any) -> nn.Module:
    """Build the detector called ``name``, its default configuration changed by ``changes``.

    Raises ValueError for a name that is not registered.
    """
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}: choose one of {', '.join(sorted(DETECTORS))}")
    constructor, config = DETECTORS[name]
    return constructor(replace(config, **changes))
