# SPDX-License-Identifier: Apache-2.0
"""YOLO-Fastest and YOLO-Fastest-XL, versions 1.0 and 1.1 (layers as in the authors' cfg files).

The convolutions are registered in the order of the cfg, which is that of darknet's weight files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from compact_yolo_ros.model.published import Published
from training.detectors.anchor_grid import AnchorGrid, output_layer
from training.detectors.blocks import (
    ConvNormAct,
    DepthwiseSeparable,
    InvertedResidual,
    SpatialPyramidPooling,
    upsample2,
)
from training.detectors.limits import in_range, one_of
from training.detectors.loss_settings import LossSettings
from training.detectors.publications import NANO, VALUES, WITH_STATISTICS, YOLO_FASTEST
from training.detectors.spec import DetectorSpec

conv = partial(ConvNormAct, act="leaky")
separable = partial(DepthwiseSeparable, kernel=5, act="leaky", last="linear")

COCO_ANCHORS = ((12, 18), (37, 49), (52, 132), (115, 73), (119, 199), (242, 238))
VOC_ANCHORS = ((26, 48), (67, 84), (72, 175), (189, 126), (137, 236), (265, 259))
COCO_GRID, VOC_GRID = (
    AnchorGrid(anchors=(anchors[:3], anchors[3:]), strides=(16, 32))
    for anchors in (COCO_ANCHORS, VOC_ANCHORS)
)

# Hidden channels, outputs, stride, blocks in a row; widths of the small variant.
BLOCKS = (
    (8, 4, 1, 2),
    (24, 8, 2, 1),
    (32, 8, 1, 2),
    (32, 8, 2, 1),
    (48, 8, 1, 2),
    (48, 16, 1, 1),
    (96, 16, 1, 4),
    (96, 24, 2, 1),
    (136, 24, 1, 4),
    (136, 48, 2, 1),
    (224, 48, 1, 5),
)
# The block that leads from stride 16 to 32.
LAST_STEP = 18
HEAD = 96


@dataclass(frozen=True)
class YoloFastestConfig:
    """What one YOLO-Fastest variant is made of.

    Attributes:
        version: 1.0, which the comparison tables of the papers mean, or 1.1.
        width: factor on every width of the backbone: 1, or 2 for XL.
        dropout: probability, on the residual branches.
    """

    num_classes: int = 80
    version: Literal["1.0", "1.1"] = "1.1"
    width: int = 1
    dropout: float = 0.15
    grid: AnchorGrid = COCO_GRID

    def __post_init__(self) -> None:
        one_of("version", self.version, ("1.0", "1.1"))
        in_range("width", self.width, 1, 8)
        in_range("dropout", self.dropout, 0, 0.9)


class FastestBackbone(nn.Module):
    """Stem and 24 inverted bottlenecks to stride 32."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        inputs = 8 * width
        self.stem = conv(3, inputs, 3, 2)
        self.blocks = nn.ModuleList()
        for hidden, outputs, stride, repeats in BLOCKS:
            for _ in range(repeats):
                self.blocks.append(
                    InvertedResidual(
                        inputs,
                        hidden * width,
                        outputs * width,
                        stride=stride,
                        dropout=dropout,
                        act="leaky",
                    )
                )
                inputs = outputs * width

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the map of stride 16, its expansion in the next block, and that of stride 32."""
        x = self.stem(images)
        for block in self.blocks[:LAST_STEP]:
            x = block(x)
        at_16, last = x, self.blocks[LAST_STEP]
        assert isinstance(last, InvertedResidual)
        expanded = last.expand(x)
        x = last.project(last.depthwise(expanded))
        for block in self.blocks[LAST_STEP + 1 :]:
            x = block(x)
        return at_16, expanded, x


class YoloFastest(nn.Module):
    """Images (N, 3, H, W), RGB in 0..1, to raw maps (N, A*(5+C), H/s, W/s) of strides 16 and 32."""

    def __init__(self, config: YoloFastestConfig) -> None:
        super().__init__()
        self.grid, self.num_classes = config.grid, config.num_classes
        self.first = config.version == "1.0"
        at_16, expanded, at_32 = (c * config.width for c in (24, 136, 48))
        self.backbone = FastestBackbone(config.width, config.dropout)
        self.pool = nn.Identity() if self.first else SpatialPyramidPooling()
        self.neck = conv(at_32 if self.first else 4 * at_32, HEAD)
        if self.first:
            self.s32 = nn.Sequential(separable(HEAD, 128), separable(128, 128))
        else:
            self.s32 = nn.Sequential(separable(HEAD, HEAD), separable(HEAD, HEAD))
        self.head32 = output_layer(128 if self.first else HEAD, self.grid, self.num_classes)
        if self.first:
            squeeze = conv(HEAD + expanded, HEAD)
            self.s16 = nn.Sequential(squeeze, separable(HEAD, HEAD), separable(HEAD, HEAD))
        else:
            joined = HEAD + at_16
            self.s16 = nn.Sequential(separable(joined, joined), separable(joined, joined))
        self.head16 = output_layer(HEAD if self.first else joined, self.grid, self.num_classes)

    def forward(self, images: Tensor) -> list[Tensor]:
        at_16, expanded, x = self.backbone(images)
        x = self.neck(self.pool(x))
        s16 = self.s16(torch.cat((upsample2(x), expanded if self.first else at_16), 1))
        return [self.head16(s16), self.head32(self.s32(x))]


# As in the authors' cfg files; truth_thresh is 1 there, which switches it off.
LOSS = LossSettings(
    box="ciou", gradient="darknet", box_weight=0.07, ignore_score=0.25, also_above=0.213
)
DETECTORS = (
    DetectorSpec(
        "yolo_fastest",
        YoloFastest,
        YoloFastestConfig(),
        LOSS,
        "yolo_fastest_paper",
        Published(YOLO_FASTEST, "COCO 2017", 320, {320: 24.40}, 0.35, VALUES, 0.252 / 2),
    ),
    # Its cfg differs from the small one's in the network only, in both versions.
    DetectorSpec(
        "yolo_fastest_xl",
        YoloFastest,
        YoloFastestConfig(width=2, dropout=0.2),
        LOSS,
        "yolo_fastest_paper",
        Published(YOLO_FASTEST, "COCO 2017", 320, {320: 34.33}, 0.925, VALUES, 0.725 / 2),
    ),
    DetectorSpec(
        "yolo_fastest_v1_0",
        YoloFastest,
        YoloFastestConfig(20, version="1.0", grid=VOC_GRID),
        LOSS,
        "yolo_fastest_v1_0_paper",
        Published(
            YOLO_FASTEST, "VOC 2007", 320, {320: 61.02}, 1.3, WITH_STATISTICS, 0.23 / 2,
            "published with two digits, the operations cut off", {NANO: {320: 42.41}},
        ),
    ),
    DetectorSpec(
        "yolo_fastest_xl_v1_0",
        YoloFastest,
        YoloFastestConfig(20, version="1.0", width=2, dropout=0.2, grid=VOC_GRID),
        LOSS,
        "yolo_fastest_v1_0_paper",
        Published(
            YOLO_FASTEST, "VOC 2007", 320, {320: 69.43}, 3.5, WITH_STATISTICS, 0.70 / 2,
            fps={NANO: {320: 27.93}},
        ),
    ),
)  # fmt: skip
