# SPDX-License-Identifier: Apache-2.0
"""YOLO-ReT (Ganesh et al., 2021): truncated backbone, RFCR, PANet neck, YOLOv3 head.

The graph follows the authors' released code where it and the paper differ; its float32 size is larger
than the paper's table (7.08 MiB for M0.75 with 20 classes against the published 5.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.detectors.blocks import (
    ConvNormAct,
    SqueezeExcite,
    downsample2,
    upsample2,
)
from training.detectors.heads import AnchorGrid
from training.detectors.mobilenet_v2 import MobileNetV2

NECK_EPS = 1e-3
COLLECTED = 48
REDISTRIBUTED = 96


@dataclass(frozen=True)
class YoloRetConfig:
    """What one YOLO-ReT variant is made of."""

    num_classes: int = 20
    width: float = 0.75
    grid: AnchorGrid = AnchorGrid()


def unit(inputs: int, outputs: int, kernel: int = 1, groups: int = 1, act: str = "relu6") -> ConvNormAct:
    """Return a convolution of RFCR and neck, which all share one batch-norm epsilon."""
    return ConvNormAct(inputs, outputs, kernel, groups=groups, act=act, eps=NECK_EPS)


class RawFeatureCollection(nn.Module):
    """RFCR (section 3.1): collect four raw maps at stride 16, mix them, hand the mix back to three."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.collect = nn.ModuleList(nn.Conv2d(c, COLLECTED, 1, bias=False) for c in channels)
        self.weights = nn.Parameter(torch.ones(len(channels)))
        self.mix = nn.Sequential(
            unit(COLLECTED, COLLECTED, 5, groups=COLLECTED), unit(COLLECTED, REDISTRIBUTED)
        )

    def forward(self, taps: list[Tensor]) -> list[Tensor]:
        """Map raw maps of strides 4, 8, 16, 32 to widened maps of strides 8, 16, 32."""
        s4, s8, s16, s32 = taps
        at_16 = (
            self.collect[0](functional.max_pool2d(s4, 4)),
            downsample2(self.collect[1](s8)),
            self.collect[2](s16),
            upsample2(self.collect[3](s32)),
        )
        z = self.mix(sum(w * x for w, x in zip(self.weights, at_16, strict=True)))
        return [
            torch.cat((s8, upsample2(z)), 1),
            torch.cat((s16, z), 1),
            torch.cat((s32, downsample2(z)), 1),
        ]


class HeadUnit(nn.Sequential):
    """1x1 to ``hidden``, depthwise 3x3, squeeze-and-excitation, linear 1x1; no residual."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__(
            unit(inputs, hidden),
            unit(hidden, hidden, 3, groups=hidden, act="swish"),
            SqueezeExcite(hidden, hidden // 4),
            unit(hidden, outputs, act="linear"),
        )


class PathAggregation(nn.Module):
    """PANet of YOLO-ReT: top-down, then bottom-up; every map it passes on has the head's width."""

    def __init__(self, channels: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        s8, s16, s32 = channels
        self.p5 = HeadUnit(s32, 512, outputs)
        self.p5_up = unit(outputs, 256)
        self.p4 = HeadUnit(256 + s16, 256, outputs)
        self.p4_up = unit(outputs, 128)
        self.p3 = HeadUnit(128 + s8, 128, outputs)
        self.q3 = HeadUnit(outputs, 128, outputs)
        self.q3_down = unit(outputs, 128)
        self.q4 = HeadUnit(128 + outputs, 256, outputs)
        self.q4_down = unit(outputs, 256)
        self.q5 = HeadUnit(256 + outputs, 512, outputs)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        s8, s16, s32 = maps
        p5 = self.p5(s32)
        p4 = self.p4(torch.cat((upsample2(self.p5_up(p5)), s16), 1))
        p3 = self.p3(torch.cat((upsample2(self.p4_up(p4)), s8), 1))
        q3 = self.q3(p3)
        q4 = self.q4(torch.cat((downsample2(self.q3_down(q3)), p4), 1))
        q5 = self.q5(torch.cat((downsample2(self.q4_down(q4)), p5), 1))
        return [q3, q4, q5]


class YoloRet(nn.Module):
    """Images (N, 3, H, W), RGB in 0..1, to raw maps (N, A*(5+C), H/s, W/s) of strides 8, 16, 32."""

    def __init__(self, config: YoloRetConfig) -> None:
        super().__init__()
        self.grid = config.grid
        self.num_classes = config.num_classes
        outputs = self.grid.per_cell * (5 + config.num_classes)
        self.backbone = MobileNetV2(config.width)
        self.collection = RawFeatureCollection(self.backbone.channels)
        s8, s16, s32 = (c + REDISTRIBUTED for c in self.backbone.channels[1:])
        self.neck = PathAggregation((s8, s16, s32), outputs)
        self.heads = nn.ModuleList(nn.Conv2d(outputs, outputs, 1, bias=False) for _ in range(3))
        self._expect_few_objects()

    def _expect_few_objects(self) -> None:
        """Start from objectness 0.003. The last convolutions have no bias: the norm before them has."""
        for head, unit_before in zip(
            self.heads, (self.neck.q3, self.neck.q4, self.neck.q5), strict=True
        ):
            nn.init.eye_(head.weight.data[:, :, 0, 0])
            nn.init.constant_(unit_before[-1].norm.bias[4 :: 5 + self.num_classes], -math.log(1 / 0.003 - 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.neck(self.collection(self.backbone(images)))
        return [head(m) for head, m in zip(self.heads, maps, strict=True)]
