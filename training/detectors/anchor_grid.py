# SPDX-License-Identifier: Apache-2.0
"""The anchors of a detector, and how its raw maps are decoded to boxes (YOLOv3)."""

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
# Initial objectness as a logit (probability 0.003): nearly every anchor is background.
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
        squared: a side is the anchor's times (2 sigmoid)^2 of its logit (Scaled-YOLOv4, darknet's
            "new_coords"), instead of times the exponential.
        any_size: the network was made for a size whose sides are no multiples of 32. As in darknet,
            the cells of a map divide the input evenly, and ``strides`` are rounded.
    """

    anchors: tuple[tuple[tuple[float, float], ...], ...] = YOLOV3_ANCHORS
    strides: tuple[int, ...] = (8, 16, 32)
    xy_scales: tuple[float, ...] = ()
    softmax: bool = False
    squared: bool = False
    any_size: bool = False

    @property
    def per_cell(self) -> int:
        """Anchors in every cell (the same number on every level)."""
        return len(self.anchors[0])


def output_layer(inputs: int, grid: AnchorGrid, num_classes: int) -> nn.Conv2d:
    """Return the last layer of a level: a 1x1 convolution to A * (5 + C) channels.

    Its bias makes the initial objectness low (RARE_OBJECT_LOGIT).

    Args:
        inputs: channels of the map that it reads.
        grid: says how many anchors (A) a cell has.
        num_classes: C.
    """
    layer = nn.Conv2d(inputs, grid.per_cell * (5 + num_classes), 1)
    bias = torch.zeros(grid.per_cell, 5 + num_classes)
    bias[:, 4] = RARE_OBJECT_LOGIT
    layer.bias = nn.Parameter(bias.flatten())
    return layer


def flatten(maps: list[Tensor], per_cell: int) -> Tensor:
    """Join the raw maps of all levels to one table of rows, ordered level, y, x, anchor.

    Args:
        maps: (N, A * F, H, W) of each level.
        per_cell: anchors in a cell, A.

    Returns:
        (N, R, F).
    """
    rows = [m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, m.shape[1] // per_cell) for m in maps]
    return torch.cat(rows, 1)


def cells(
    maps: list[Tensor], grid: AnchorGrid, shape: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return where the centre of every row can lie, and the row's anchor.

    The range of the centre is the row's cell, unless ``grid.xy_scales`` widens it.

    Args:
        maps: raw maps (N, A * F, H, W); only their sizes and device are read.
        grid: anchors and strides.
        shape: (height, width) of the input in pixels, which the cells divide evenly; None: every
            cell is a square of the stride.

    Returns:
        In input pixels: begin of the range (R, 2) as x, y; its width and height (R, 2), or (R, 1)
        if both are the same; width and height of the anchor (R, 2).
    """
    corners, strides, sizes = [], [], []
    scales = grid.xy_scales or (1.0,) * len(grid.strides)
    levels = zip(maps, grid.strides, grid.anchors, scales, strict=True)
    for level, stride, anchors, scale in levels:
        height, width = level.shape[2], level.shape[3]
        y = torch.arange(height, device=level.device, dtype=torch.float32)
        x = torch.arange(width, device=level.device, dtype=torch.float32)
        xy = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), -1)
        table = (height, width, len(anchors), 2)
        cell = stride if shape is None else _cell(shape, x, y)
        begin = (xy - (scale - 1) / 2) * cell
        corners.append(begin[:, :, None].expand(table).reshape(-1, 2))
        anchor = torch.tensor(anchors, dtype=torch.float32, device=level.device)
        sizes.append(anchor.expand(table).reshape(-1, 2))
        strides.append(torch.ones_like(sizes[-1][:, : 1 if shape is None else 2]) * (cell * scale))
    return torch.cat(corners), torch.cat(strides), torch.cat(sizes)


def _cell(shape: tuple[int, int], x: Tensor, y: Tensor) -> Tensor:
    """Return width and height (2,) of a cell; ``x`` and ``y`` number columns and rows."""
    return torch.stack((shape[1] / (x[-1] + 1), shape[0] / (y[-1] + 1)))


def decode_boxes(
    rows: Tensor, corners: Tensor, strides: Tensor, sizes: Tensor, squared: bool = False
) -> Tensor:
    """Decode rows to boxes (Redmon and Farhadi, 2018, YOLOv3, section 2.1).

    Args:
        rows: (..., R, 4 or more) logits: x, y, logarithms of width and height over the anchor.
        corners: (R, 2), begin of the range of the centre, as ``cells`` returns it.
        strides: (R, 1 or 2), width and height of the range.
        sizes: (R, 2), width and height of the anchor.
        squared: as in ``AnchorGrid``.

    Returns:
        (..., R, 4) as x1 y1 x2 y2, in the unit of ``corners`` (input pixels).
    """
    centre = rows[..., 0:2].sigmoid() * strides + corners
    sides = rows[..., 2:4]
    if squared:
        half = sides.sigmoid().square() * (sizes * 2)
    else:
        half = sides.clamp(max=MAX_LOG_SIZE).exp() * (sizes * 0.5)
    return torch.cat((centre - half, centre + half), -1)
