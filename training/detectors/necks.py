# SPDX-License-Identifier: Apache-2.0
"""Necks of YOLO-ReT: none, FPN, PANet (as in the authors' code) and BiFPN (named in the ablation).

Each takes maps of strides 8, 16, 32 and returns three maps with the channels of the heads.
``last_units`` are the units that end it, one for each of these maps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from training.detectors.blocks import ConvNormAct, SqueezeExcite, downsample2, upsample2

EPS = 1e-3
# Hidden widths of the units at strides 8, 16 and 32.
HIDDEN = (128, 256, 512)
BIFPN_CHANNELS = 64
# Keeps the sum of BiFPN's fusion weights from zero (EfficientDet, section 3.3).
FUSION_EPS = 1e-4


def unit(
    inputs: int, outputs: int, kernel: int = 1, groups: int = 1, act: str = "relu6"
) -> ConvNormAct:
    """Return a convolution of a neck, which all share one batch-norm epsilon."""
    return ConvNormAct(inputs, outputs, kernel, groups=groups, act=act, eps=EPS)


class HeadUnit(nn.Sequential):
    """1x1 to ``hidden``, depthwise 3x3, squeeze-and-excitation, linear 1x1; no residual."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__(
            unit(inputs, hidden),
            unit(hidden, hidden, 3, groups=hidden, act="swish"),
            SqueezeExcite(hidden, hidden // 4),
            unit(hidden, outputs, act="linear"),
        )

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The batch norm that ends the unit."""
        last = self[-1]
        assert isinstance(last, ConvNormAct)
        return last.norm


class SeparateLevels(nn.Module):
    """No neck: one unit on every map."""

    def __init__(self, channels: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        self.p3, self.p4, self.p5 = (
            HeadUnit(c, hidden, outputs) for c, hidden in zip(channels, HIDDEN, strict=True)
        )

    @property
    def last_units(self) -> tuple[HeadUnit, ...]:
        return self.p3, self.p4, self.p5

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        s8, s16, s32 = maps
        return [self.p3(s8), self.p4(s16), self.p5(s32)]


class TopDown(nn.Module):
    """FPN of YOLO-ReT: the top-down half of its PANet."""

    def __init__(self, channels: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        s8, s16, s32 = channels
        self.p5 = HeadUnit(s32, 512, outputs)
        self.p5_up = unit(outputs, 256)
        self.p4 = HeadUnit(256 + s16, 256, outputs)
        self.p4_up = unit(outputs, 128)
        self.p3 = HeadUnit(128 + s8, 128, outputs)

    @property
    def last_units(self) -> tuple[HeadUnit, ...]:
        return self.p3, self.p4, self.p5

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        s8, s16, s32 = maps
        p5 = self.p5(s32)
        p4 = self.p4(torch.cat((upsample2(self.p5_up(p5)), s16), 1))
        p3 = self.p3(torch.cat((upsample2(self.p4_up(p4)), s8), 1))
        return [p3, p4, p5]


class PathAggregation(TopDown):
    """PANet of YOLO-ReT: top-down, then bottom-up; all maps in between have the heads' channels."""

    def __init__(self, channels: tuple[int, int, int], outputs: int) -> None:
        super().__init__(channels, outputs)
        self.q3 = HeadUnit(outputs, 128, outputs)
        self.q3_down = unit(outputs, 128)
        self.q4 = HeadUnit(128 + outputs, 256, outputs)
        self.q4_down = unit(outputs, 256)
        self.q5 = HeadUnit(256 + outputs, 512, outputs)

    @property
    def last_units(self) -> tuple[HeadUnit, ...]:
        return self.q3, self.q4, self.q5

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        p3, p4, p5 = super().forward(maps)
        q3 = self.q3(p3)
        q4 = self.q4(torch.cat((downsample2(self.q3_down(q3)), p4), 1))
        q5 = self.q5(torch.cat((downsample2(self.q4_down(q4)), p5), 1))
        return [q3, q4, q5]


class Fusion(nn.Module):
    """Fast normalised fusion of equal maps, then a separable 3x3 (EfficientDet, section 3.3)."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(inputs))
        self.conv = nn.Sequential(
            unit(channels, channels, 3, groups=channels, act="swish"),
            unit(channels, channels, act="linear"),
        )

    def forward(self, *maps: Tensor) -> Tensor:
        weights = self.weights.relu()
        weights = weights / (weights.sum() + FUSION_EPS)
        y: Tensor = self.conv(sum(w * x for w, x in zip(weights, maps, strict=True)))
        return y


class BiFpnLayer(nn.Module):
    """One BiFPN layer over strides 8, 16, 32 (EfficientDet, figure 2d, with three levels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down4, self.out3 = Fusion(2, channels), Fusion(2, channels)
        self.out4, self.out5 = Fusion(3, channels), Fusion(2, channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        p3, p4, p5 = maps
        middle = self.down4(p4, upsample2(p5))
        q3 = self.out3(p3, upsample2(middle))
        q4 = self.out4(p4, middle, downsample2(q3))
        return [q3, q4, self.out5(p5, downsample2(q4))]


class BiFpn(nn.Module):
    """``layers`` of BiFPN between 1x1 convolutions to 64 channels and one unit on every map.

    The paper's ablation gives neither its width nor its heads: 64 is EfficientDet-D0's.
    """

    def __init__(self, channels: tuple[int, int, int], outputs: int, layers: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(unit(c, BIFPN_CHANNELS, act="linear") for c in channels)
        self.layers = nn.Sequential(*(BiFpnLayer(BIFPN_CHANNELS) for _ in range(layers)))
        self.units = SeparateLevels((BIFPN_CHANNELS,) * 3, outputs)

    @property
    def last_units(self) -> tuple[HeadUnit, ...]:
        return self.units.last_units

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        levels = [conv(m) for conv, m in zip(self.lateral, maps, strict=True)]
        joined: list[Tensor] = self.units(self.layers(levels))
        return joined


NeckName = Literal["none", "fpn", "panet", "bifpn1", "bifpn2", "bifpn3"]
Neck = SeparateLevels | TopDown | BiFpn


def build_neck(name: str, channels: tuple[int, int, int], outputs: int) -> Neck:
    """Build a neck.

    Args:
        name: ``none``, ``fpn``, ``panet``, ``bifpn1``, ``bifpn2`` or ``bifpn3`` (that many layers).
        channels: of the maps of strides 8, 16 and 32.
        outputs: channels of the three maps that it returns.

    Raises:
        ValueError: there is no neck of that name.
    """
    if name in ("bifpn1", "bifpn2", "bifpn3"):
        return BiFpn(channels, outputs, int(name[-1]))
    necks: dict[str, Callable[[tuple[int, int, int], int], Neck]] = {
        "none": SeparateLevels,
        "fpn": TopDown,
        "panet": PathAggregation,
    }
    if name not in necks:
        raise ValueError(
            f"unknown neck {name!r}: choose one of {', '.join(necks)}, bifpn1, bifpn2, bifpn3"
        )
    return necks[name](channels, outputs)
