# SPDX-License-Identifier: Apache-2.0
"""Tiny-YOLOv2 and Tiny-YOLOv3 (Redmon and Farhadi, 2016 and 2018; layers as in the cfg files).

The convolutions are registered in the order of the cfg, which is that of darknet's weight files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from compact_yolo_ros.model.published import Published
from training.detectors.anchor_grid import AnchorGrid, output_layer
from training.detectors.blocks import ConvNormAct, downsample2, steady_pool2, upsample2
from training.detectors.loss_settings import LossSettings
from training.detectors.publications import AGX, FLOAT32, NANO, NX, WITH_STATISTICS
from training.detectors.spec import DetectorSpec

conv = partial(ConvNormAct, act="leaky")

# Given in cells of 32 pixels.
V2_ANCHORS = ((1.08, 1.19), (3.42, 4.41), (6.63, 11.38), (9.42, 5.11), (16.62, 10.52))
V2_GRID = AnchorGrid(
    anchors=(tuple((32 * w, 32 * h) for w, h in V2_ANCHORS),), strides=(32,), softmax=True
)
V3_ANCHORS = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))
# A cfg with masks 1,2,3 at stride 16 circulates too.
V3_GRID = AnchorGrid(anchors=(V3_ANCHORS[:3], V3_ANCHORS[3:]), strides=(16, 32))

# Of the cfg files; truth_thresh is 1 there, which switches it off.
V2_LOSS = LossSettings(
    kind="region", objectness_weight=5.0, ignore_iou=0.6, rescore=True, anchor_pull=12800
)
V3_LOSS = LossSettings(kind="sse", ignore_iou=0.7)


@dataclass(frozen=True)
class TinyYoloConfig:
    """What a Tiny-YOLO is made of: its classes and, by version, its anchors."""

    num_classes: int = 20
    grid: AnchorGrid = V3_GRID


class TinyTrunk(nn.Module):
    """Five 3x3 convolutions, a maxpool after each: 256 channels at stride 16, and pooled at 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16, 3)
        widths = (16, 32, 64, 128, 256)
        self.blocks = nn.ModuleList(conv(i, o, 3) for i, o in zip(widths, widths[1:], strict=False))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(images)
        for block in self.blocks:
            x = block(downsample2(x))
        return x, downsample2(x)


class TinyYoloV2(nn.Module):
    """Images (N, 3, H, W), RGB in 0..1, to the raw map (N, A*(5+C), H/32, W/32)."""

    def __init__(self, config: TinyYoloConfig) -> None:
        super().__init__()
        self.grid, self.num_classes = config.grid, config.num_classes
        self.backbone = TinyTrunk()
        self.conv6 = conv(256, 512, 3)
        self.conv7 = conv(512, 1024, 3)
        self.conv8 = conv(1024, 1024, 3)
        self.head = output_layer(1024, self.grid, self.num_classes)

    def forward(self, images: Tensor) -> list[Tensor]:
        _, x = self.backbone(images)
        x = self.conv7(steady_pool2(self.conv6(x)))
        return [self.head(self.conv8(x))]


class TinyYoloV3(nn.Module):
    """Images (N, 3, H, W), RGB in 0..1, to raw maps (N, A*(5+C), H/s, W/s) of strides 16 and 32."""

    def __init__(self, config: TinyYoloConfig) -> None:
        super().__init__()
        self.grid, self.num_classes = config.grid, config.num_classes
        self.backbone = TinyTrunk()
        self.conv6 = conv(256, 512, 3)
        self.conv7 = conv(512, 1024, 3)
        self.squeeze = conv(1024, 256)
        self.s32 = conv(256, 512, 3)
        self.head32 = output_layer(512, self.grid, self.num_classes)
        self.up = conv(256, 128)
        self.s16 = conv(128 + 256, 256, 3)
        self.head16 = output_layer(256, self.grid, self.num_classes)

    def forward(self, images: Tensor) -> list[Tensor]:
        at_16, x = self.backbone(images)
        x = self.squeeze(self.conv7(steady_pool2(self.conv6(x))))
        s16 = self.s16(torch.cat((upsample2(self.up(x)), at_16), 1))
        return [self.head16(s16), self.head32(self.s32(x))]


DETECTORS = (
    DetectorSpec(
        "tiny_yolov2",
        TinyYoloV2,
        TinyYoloConfig(grid=V2_GRID),
        V2_LOSS,
        "tiny_yolov2_paper",
        Published(
            "YOLO9000, Redmon and Farhadi 2016", "VOC 2007", 416, {416: 57.1}, 60.5, FLOAT32,
            6.97 / 2,
        ),
    ),
    DetectorSpec(
        "tiny_yolov3",
        TinyYoloV3,
        TinyYoloConfig(),
        V3_LOSS,
        "tiny_yolov3_paper",
        Published(
            "YOLOv3, Redmon and Farhadi 2018", "VOC 2007", 416, {416: 58.4}, 34.9, WITH_STATISTICS,
            5.52 / 2,
            "another paper has AP50 61.30; the 5.52 lie between 20 classes (5.47) and 80 (5.57)",
            fps={NANO: {416: 27.36}, NX: {416: 66.55}, AGX: {416: 91.71}},
            also={"COCO 2017": {416: 33.1}},
        ),
    ),
)  # fmt: skip
