# SPDX-License-Identifier: Apache-2.0
"""RFCR, raw feature collection and redistribution (YOLO-ReT, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.detectors.blocks import ConvNormAct, downsample2, upsample2

COLLECTED = 48
REDISTRIBUTED = 96
EPS = 1e-3


class RawFeatureCollection(nn.Module):
    """Collect raw maps at stride 16, mix them, and give the mix back to strides 8, 16 and 32.

    Args:
        channels: of the raw maps of strides 4, 8, 16 and 32, or only of the last three (the paper's
            ablation without "shortcut").
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.collect = nn.ModuleList(nn.Conv2d(c, COLLECTED, 1, bias=False) for c in channels)
        self.weights = nn.Parameter(torch.ones(len(channels)))
        self.mix = nn.Sequential(
            ConvNormAct(COLLECTED, COLLECTED, 5, groups=COLLECTED, eps=EPS),
            ConvNormAct(COLLECTED, REDISTRIBUTED, eps=EPS),
        )

    def forward(self, taps: list[Tensor]) -> list[Tensor]:
        """Return the maps of strides 8, 16 and 32, each with REDISTRIBUTED more channels."""
        *s4, s8, s16, s32 = taps
        *collect4, collect8, collect16, collect32 = self.collect
        at_16 = [
            collect(functional.max_pool2d(x, 4)) for collect, x in zip(collect4, s4, strict=True)
        ]
        at_16 += [downsample2(collect8(s8)), collect16(s16), upsample2(collect32(s32))]
        z = self.mix(sum(w * x for w, x in zip(self.weights, at_16, strict=True)))
        return [
            torch.cat((s8, upsample2(z)), 1),
            torch.cat((s16, z), 1),
            torch.cat((s32, downsample2(z)), 1),
        ]
