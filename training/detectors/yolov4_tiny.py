# SPDX-License-Identifier: Apache-2.0
"""YOLOv4-tiny and YOLOv4-tiny-3l (Wang et al., 2021, Scaled-YOLOv4), with or without RFCR.

The convolutions are registered in the order of the cfg, which is that of darknet's weight files
(not with RFCR, which those do not know). Where RFCR taps YOLOv4-tiny is unpublished; the choice
here: it collects the outputs of the first block and the inner maps of the others that the heads
use, and its maps join the 1x1 convolution of stride 32 and each route.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from compact_yolo_ros.model.published import Published
from training.detectors.anchor_grid import AnchorGrid, output_layer
from training.detectors.blocks import ConvNormAct, downsample2, make_divisible, upsample2
from training.detectors.limits import MOST_LAYERS, in_range
from training.detectors.loss_settings import LossSettings
from training.detectors.publications import COCO_AP, FLOAT32, NANO, YOLO_RET
from training.detectors.rfcr import REDISTRIBUTED, RawFeatureCollection
from training.detectors.spec import DetectorSpec
from training.detectors.tiny_yolo import V3_ANCHORS

conv = partial(ConvNormAct, act="leaky")

# A centre may lie a little outside its cell: x = 1.05 sigmoid(t) - 0.025.
XY_SCALE = 1.05
GRID = AnchorGrid(
    anchors=(V3_ANCHORS[1:4], V3_ANCHORS[3:]), strides=(16, 32), xy_scales=(XY_SCALE, XY_SCALE)
)
GRID_3L = AnchorGrid(
    anchors=(
        ((12, 16), (19, 36), (40, 28)),
        ((36, 75), (76, 55), (72, 146)),
        ((142, 110), (192, 243), (459, 401)),
    ),
    strides=(8, 16, 32),
    xy_scales=(XY_SCALE, XY_SCALE, XY_SCALE),
)


@dataclass(frozen=True)
class YoloV4TinyConfig:
    """What one YOLOv4-tiny variant is made of.

    Attributes:
        rfcr: with raw feature collection and redistribution.
        width: factor on every width, rounded to multiples of 8.
        depth: CSP blocks in each stage.
        grid: two levels, or three ("3l").
    """

    num_classes: int = 80
    rfcr: bool = False
    width: float = 1.0
    depth: int = 1
    grid: AnchorGrid = GRID

    def __post_init__(self) -> None:
        in_range("width", self.width, 0.05, 16)
        in_range("depth", self.depth, 1, MOST_LAYERS)
        if self.grid.strides not in (GRID.strides, GRID_3L.strides):
            raise ValueError("grid.strides must be 16, 32 or 8, 16, 32")


class CspOsa(nn.Module):
    """CSP-ised one-shot aggregation, the partial connection inside (Scaled-YOLOv4, section 4.2).

    3x3 to ``base``; its second half goes through ``steps`` - 1 3x3 convolutions of ``growth``
    channels, whose outputs are concatenated (last first) and mixed by a 1x1 back to ``base``: the
    inner map. The output is the first convolution's map and the inner map, equal parts, 2 ``base``
    channels. ``steps`` k and growth g follow from b/2 + k g = 2 b: the paper takes g = b/2 and so
    k = 3. As k g is more than b/2, splitting inside the block moves less data than around it.
    """

    def __init__(self, inputs: int, base: int, steps: int = 3) -> None:
        super().__init__()
        growth = 3 * base // (2 * steps)
        self.first = conv(inputs, base, 3)
        widths = (base - base // 2, *(growth for _ in range(steps - 1)))
        self.steps = nn.ModuleList(conv(i, o, 3) for i, o in zip(widths, widths[1:], strict=False))
        self.mix = conv(growth * (steps - 1), base)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, C, H, W) to the output (N, 2 base, H, W) and the inner map (N, base, H, W)."""
        first = self.first(x)
        x = first[:, self._passed() :]
        maps: list[Tensor] = []
        for step in self.steps:
            x = step(x)
            maps.insert(0, x)
        inner = self.mix(torch.cat(maps, 1))
        return torch.cat((first, inner), 1), inner

    def _passed(self) -> int:
        """Return how many channels the steps do not read; some may have been taken out."""
        return _convolution(self.first).out_channels - _convolution(self.steps[0]).in_channels


def _convolution(unit: nn.Module) -> nn.Conv2d:
    """Return the convolution of a unit, whose norm may have been folded into it for export."""
    return next(module for module in unit.modules() if isinstance(module, nn.Conv2d))


class CspBackbone(nn.Module):
    """Two strided convolutions; three stages of CSP blocks, a maxpool after each; a convolution."""

    def __init__(self, width: float, depth: int) -> None:
        super().__init__()
        stem, *bases = (make_divisible(c * width) for c in (32, 64, 128, 256))
        self.stem = conv(3, stem, 3, 2)
        self.down = conv(stem, bases[0], 3, 2)
        self.blocks = nn.ModuleList()
        inputs = bases[0]
        for base in bases:
            for _ in range(depth):
                self.blocks.append(CspOsa(inputs, base))
                inputs = 2 * base
        self.depth = depth
        self.last = conv(inputs, inputs, 3)
        self.channels = (2 * bases[0], bases[1], bases[2], inputs)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return maps of strides 4 (a whole block), 8 and 16 (inner maps) and 32."""
        x = self.down(self.stem(images))
        wholes, inners = [], []
        for index, block in enumerate(self.blocks, 1):
            x, inner = block(x)
            if index % self.depth == 0:
                wholes.append(x)
                inners.append(inner)
                x = downsample2(x)
        return [wholes[0], *inners[1:], self.last(x)]


class YoloV4Tiny(nn.Module):
    """Images (N, 3, H, W), RGB in 0..1, to raw maps (N, A*(5+C), H/s, W/s) of (8,) 16 and 32."""

    def __init__(self, config: YoloV4TinyConfig) -> None:
        super().__init__()
        self.grid, self.num_classes = config.grid, config.num_classes
        self.backbone = CspBackbone(config.width, config.depth)
        channels = self.backbone.channels
        widened = REDISTRIBUTED if config.rfcr else 0
        s8, s16, s32 = (c + widened for c in channels[1:])
        n64, n128, n256, n512 = (make_divisible(c * config.width) for c in (64, 128, 256, 512))
        head = partial(output_layer, grid=self.grid, num_classes=self.num_classes)
        self.squeeze = conv(s32, n256)
        self.s32, self.head32 = conv(n256, n512, 3), head(n512)
        self.up16 = conv(n256, n128)
        self.s16, self.head16 = conv(n128 + s16, n256, 3), head(n256)
        self.three = len(self.grid.strides) == 3
        if self.three:
            self.up8 = conv(n256, n64)
            self.s8, self.head8 = conv(n64 + s8, n128, 3), head(n128)
        self.collection = RawFeatureCollection(channels) if config.rfcr else None

    def forward(self, images: Tensor) -> list[Tensor]:
        taps = self.backbone(images)
        at_8, at_16, x = self.collection(taps) if self.collection else taps[1:]
        x = self.squeeze(x)
        s16 = self.s16(torch.cat((upsample2(self.up16(x)), at_16), 1))
        maps = [self.head16(s16), self.head32(self.s32(x))]
        if self.three:
            s8 = self.s8(torch.cat((upsample2(self.up8(s16)), at_8), 1))
            maps.insert(0, self.head8(s8))
        return maps


# As in the authors' cfg files; truth_thresh is 1 there, which switches it off.
LOSS = LossSettings(
    box="ciou", gradient="darknet", box_weight=0.07, ignore_iou=0.7, ignore_score=0.25
)
RFCR_REMARK = "where RFCR taps this detector is not published"

# Those with RFCR are compared in YOLO-ReT's paper, which does not say how they were trained: as
# those without here.
DETECTORS = (
    DetectorSpec(
        "yolov4_tiny",
        YoloV4Tiny,
        YoloV4TinyConfig(),
        LOSS,
        "yolov4_tiny_paper",
        Published(
            "Scaled-YOLOv4, Wang et al. 2021", "COCO 2017", 416,
            {416: 42.0}, 23.1, FLOAT32, 6.9 / 2,
            "in YOLO-ReT with AP50 40.2, AP 21.7",
            fps={
                NANO: {416: 29.55},
                "RTX 2080 Ti": {416: 443},
                "RTX 2080 Ti, TensorRT FP16, 4 images at a time": {416: 1774},
            },
            also={COCO_AP: {416: 22.0}},
        ),
    ),
    DetectorSpec(
        "yolov4_tiny_3l",
        YoloV4Tiny,
        YoloV4TinyConfig(grid=GRID_3L),
        LOSS,
        "yolov4_tiny_3l_paper",
        Published(
            YOLO_RET, "COCO 2017", 608, {608: 47.2}, fps={NANO: {608: 24.87}},
            also={COCO_AP: {608: 28.7}},
        ),
    ),
    DetectorSpec(
        "yolov4_tiny_rfcr",
        YoloV4Tiny,
        YoloV4TinyConfig(rfcr=True),
        LOSS,
        "yolov4_tiny_paper",
        Published(
            YOLO_RET, "COCO 2017", 416, {416: 41.5}, remark=RFCR_REMARK, fps={NANO: {416: 27.81}},
            also={COCO_AP: {416: 22.9}},
        ),
    ),
    DetectorSpec(
        "yolov4_tiny_3l_rfcr",
        YoloV4Tiny,
        YoloV4TinyConfig(rfcr=True, grid=GRID_3L),
        LOSS,
        "yolov4_tiny_3l_paper",
        Published(
            YOLO_RET, "COCO 2017", 608, {608: 48.1}, remark=RFCR_REMARK, fps={NANO: {608: 21.40}},
            also={COCO_AP: {608: 29.3}},
        ),
    ),
)  # fmt: skip
