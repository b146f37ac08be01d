# SPDX-License-Identifier: Apache-2.0
"""Tinier-YOLO (Fang et al., 2020): Tiny-YOLOv3's trunk, then fire modules, densely connected.

The convolutions are registered in the order of the authors' cfg, and maps are concatenated as their
darknet does (github.com/jnfrancis/Tinier-YOLO): 3x3 before 1x1, the newest map first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from compact_yolo_ros.model.published import Published
from training.detectors.anchor_grid import AnchorGrid, output_layer
from training.detectors.blocks import ConvNormAct, Reorg, activation, upsample2
from training.detectors.publications import AGX, NANO, NX, WITH_STATISTICS
from training.detectors.spec import DetectorSpec
from training.detectors.tiny_yolo import V3_ANCHORS, V3_LOSS, TinyTrunk

conv = partial(ConvNormAct, act="leaky")

GRID = AnchorGrid(anchors=(V3_ANCHORS[1:4], V3_ANCHORS[3:]), strides=(16, 32))


@dataclass(frozen=True)
class TinierYoloConfig:
    """What a Tinier-YOLO is made of.

    Attributes:
        squeeze_norm: with batch norms after the squeeze convolutions, as in the cfg for COCO; the
            one for VOC is without.
    """

    num_classes: int = 20
    squeeze_norm: bool = False
    grid: AnchorGrid = GRID


class Fire(nn.Module):
    """SqueezeNet's module: 1x1 to ``squeezed``; 3x3 and 1x1 to ``expanded`` each, concatenated."""

    def __init__(self, inputs: int, squeezed: int, expanded: int, squeeze_norm: bool) -> None:
        super().__init__()
        bare = nn.Sequential(nn.Conv2d(inputs, squeezed, 1), activation("leaky"))
        self.squeeze = conv(inputs, squeezed) if squeeze_norm else bare
        self.one = conv(squeezed, expanded)
        self.three = conv(squeezed, expanded, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return torch.cat((self.three(x), self.one(x)), 1)


class TinierYolo(nn.Module):
    """Images (N, 3, H, W), RGB in 0..1, to raw maps (N, A*(5+C), H/s, W/s) of strides 16 and 32."""

    def __init__(self, config: TinierYoloConfig) -> None:
        super().__init__()
        self.grid, self.num_classes = config.grid, config.num_classes
        fire = partial(Fire, squeeze_norm=config.squeeze_norm)
        self.backbone = TinyTrunk()
        self.dense = nn.ModuleList(fire(256 + 512 * index, 64, 256) for index in range(5))
        self.passthrough = nn.Sequential(conv(256, 64), Reorg(2))
        self.fire6 = fire(512 + 256, 64, 256)
        self.head32 = output_layer(768 + 512, self.grid, self.num_classes)
        self.up = conv(512, 128)
        self.fire7 = fire(128 + 256, 32, 128)
        self.fire8 = fire(384 + 256, 32, 128)
        self.head16 = output_layer(640 + 256, self.grid, self.num_classes)

    def forward(self, images: Tensor) -> list[Tensor]:
        at_16, x = self.backbone(images)
        for fire in self.dense[:-1]:
            x = torch.cat((fire(x), x), 1)
        x = torch.cat((self.passthrough(at_16), self.dense[-1](x)), 1)
        six = self.fire6(x)
        y = torch.cat((upsample2(self.up(six)), at_16), 1)
        y = torch.cat((self.fire7(y), y), 1)
        y = torch.cat((self.fire8(y), y), 1)
        return [self.head16(y), self.head32(torch.cat((six, x), 1))]


# The row is that of PASCAL VOC; COCO has its own cfg, recipe tinier_yolo_coco_paper.
DETECTORS = (
    DetectorSpec(
        "tinier_yolo",
        TinierYolo,
        TinierYoloConfig(),
        V3_LOSS,
        "tinier_yolo_voc_paper",
        Published(
            "Tinier-YOLO, Fang et al. 2020", "VOC 2007", 416, {416: 65.7}, 8.9, WITH_STATISTICS,
            fps={NANO: {416: 30.14}, NX: {416: 68.73}, AGX: {416: 92.09}},
            also={"COCO 2017": {416: 34.0}},
        ),
    ),
)  # fmt: skip
