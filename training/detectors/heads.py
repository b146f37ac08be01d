# SPDX-License-Identifier: Apache-2.0
"""From raw maps to boxes: the anchors of a detector and the YOLOv3 decoding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# The nine anchors of YOLOv3 and YOLO-ReT, width and height in input pixels at any input size.
YOLOV3_ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
# exp() of a larger value would be a box of 2980 anchor widths: a cap that only keeps float32 finite.
MAX_LOG_SIZE = 8.0


@dataclass(frozen=True)
class AnchorGrid:
    """Anchors ((width, height) input pixels) of each level, and the stride of each level in pixels."""

    anchors: tuple[tuple[tuple[float, float], ...], ...] = YOLOV3_ANCHORS
    strides: tuple[int, ...] = (8, 16, 32)

    @property
    def per_cell(self) -> int:
        """Anchors in every cell (the same number on every level)."""
        return len(self.anchors[0])


def flatten(maps: list[Tensor], per_cell: int) -> Tensor:
    """Join raw maps (N, A*F, H, W) of all levels to rows (N, R, F), ordered level, y, x, anchor."""
    rows = [m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, m.shape[1] // per_cell) for m in maps]
    return torch.cat(rows, 1)


def cells(maps: list[Tensor], grid: AnchorGrid) -> tuple[Tensor, Tensor, Tensor]:
    """Return cell corners (R, 2) in pixels, strides (R, 1) and anchor sizes (R, 2) of all rows."""
    corners, strides, sizes = [], [], []
    for level, stride, anchors in zip(maps, grid.strides, grid.anchors, strict=True):
        height, width = level.shape[2], level.shape[3]
        y = torch.arange(height, device=level.device, dtype=torch.float32)
        x = torch.arange(width, device=level.device, dtype=torch.float32)
        xy = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), -1)
        shape = (height, width, len(anchors), 2)
        corners.append((xy[:, :, None] * stride).expand(shape).reshape(-1, 2))
        anchor = torch.tensor(anchors, dtype=torch.float32, device=level.device)
        sizes.append(anchor.expand(shape).reshape(-1, 2))
        strides.append(torch.full_like(sizes[-1][:, :1], stride))
    return torch.cat(corners), torch.cat(strides), torch.cat(sizes)


def decode_boxes(rows: Tensor, corners: Tensor, strides: Tensor, sizes: Tensor) -> Tensor:
    """Decode rows (..., R, >= 4) to boxes (..., R, 4), xyxy in input pixels (YOLOv3, section 2.1)."""
    centre = rows[..., 0:2].sigmoid() * strides + corners
    half = rows[..., 2:4].clamp(max=MAX_LOG_SIZE).exp() * (sizes * 0.5)
    return torch.cat((centre - half, centre + half), -1)
