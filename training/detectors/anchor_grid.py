# SPDX-License-Identifier: Apache-2.0
"""From raw maps to boxes: the anchors of a detector and the YOLOv3 decoding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# The nine anchors of YOLOv3 and YOLO-ReT, width and height in input pixels at any input size.
YOLOV3_ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
# Objectness that a fresh detector starts with, as a logit: nearly every anchor is background.
RARE_OBJECT_LOGIT = -math.log(1 / 0.003 - 1)
# exp() of it makes a box of 2980 anchor widths: a cap that only keeps float32 finite.
MAX_LOG_SIZE = 8.0


@dataclass(frozen=True)
class AnchorGrid:
    """What turns raw maps into boxes.

    Attributes:
        anchors: (width, height) in input pixels, of each level.
        strides: pixels, of each level.
        xy_scales: width of the range of a centre in cells, around its cell, of each level (YOLOv4's
            "scale_x_y"); empty: 1 on every level.
        softmax: class probabilities exclude each other (YOLOv2) instead of being independent.
    """

    anchors: tuple[tuple[tuple[float, float], ...], ...] = YOLOV3_ANCHORS
    strides: tuple[int, ...] = (8, 16, 32)
    xy_scales: tuple[float, ...] = ()
    softmax: bool = False

    @property
    def per_cell(self) -> int:
        """Anchors in every cell (the same number on every level)."""
        return len(self.anchors[0])


def output_layer(inputs: int, grid: AnchorGrid, num_classes: int) -> nn.Conv2d:
    """Return a level's last layer: biased 1x1 to A*(5+C) channels, objectness low at first."""
    layer = nn.Conv2d(inputs, grid.per_cell * (5 + num_classes), 1)
    bias = torch.zeros(grid.per_cell, 5 + num_classes)
    bias[:, 4] = RARE_OBJECT_LOGIT
    layer.bias = nn.Parameter(bias.flatten())
    return layer


def flatten(maps: list[Tensor], per_cell: int) -> Tensor:
    """Join raw maps (N, A*F, H, W) of all levels to rows (N, R, F), ordered level, y, x, anchor."""
    rows = [m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, m.shape[1] // per_cell) for m in maps]
    return torch.cat(rows, 1)


def cells(maps: list[Tensor], grid: AnchorGrid) -> tuple[Tensor, Tensor, Tensor]:
    """Return begin (R, 2) and width (R, 1) of the range of every row's centre, and anchors (R, 2).

    All in input pixels. The range is the row's cell, unless ``grid.xy_scales`` widens it.
    """
    corners, strides, sizes = [], [], []
    scales = grid.xy_scales or (1.0,) * len(grid.strides)
    levels = zip(maps, grid.strides, grid.anchors, scales, strict=True)
    for level, stride, anchors, scale in levels:
        height, width = level.shape[2], level.shape[3]
        y = torch.arange(height, device=level.device, dtype=torch.float32)
        x = torch.arange(width, device=level.device, dtype=torch.float32)
        xy = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), -1)
        shape = (height, width, len(anchors), 2)
        begin = (xy - (scale - 1) / 2) * stride
        corners.append(begin[:, :, None].expand(shape).reshape(-1, 2))
        anchor = torch.tensor(anchors, dtype=torch.float32, device=level.device)
        sizes.append(anchor.expand(shape).reshape(-1, 2))
        strides.append(torch.full_like(sizes[-1][:, :1], stride * scale))
    return torch.cat(corners), torch.cat(strides), torch.cat(sizes)


def decode_boxes(rows: Tensor, corners: Tensor, strides: Tensor, sizes: Tensor) -> Tensor:
    """Decode rows (..., R, >= 4) to boxes (..., R, 4), xyxy, input pixels (YOLOv3, section 2.1)."""
    centre = rows[..., 0:2].sigmoid() * strides + corners
    half = rows[..., 2:4].clamp(max=MAX_LOG_SIZE).exp() * (sizes * 0.5)
    return torch.cat((centre - half, centre + half), -1)
