# SPDX-License-Identifier: Apache-2.0
"""The raw maps of a detector as a table: one row for each prediction of an image."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from training.detectors.anchor_grid import AnchorGrid, cells, decode_boxes, flatten


class Predictions(NamedTuple):
    """Predictions of all levels, ordered level, y, x, anchor; lengths in input pixels.

    Attributes:
        logits: (N, R, 5+C), float32 or wider: place in the cell, logarithm of the size relative to
            the anchor, objectness, classes.
        boxes: (N, R, 4), what they decode to, xyxy, without gradient; each coordinate lies together
            in memory, which makes overlaps quick.
        begin: (R, 2), where the range of each centre begins.
        width: (R, 1), how wide the range is.
        anchors: (R, 2).
        shapes: (height, width) in cells of each level.
        size: (width, height) of the input.
    """

    logits: Tensor
    boxes: Tensor
    begin: Tensor
    width: Tensor
    anchors: Tensor
    shapes: list[tuple[int, int]]
    size: tuple[int, int]


def read_predictions(maps: list[Tensor], grid: AnchorGrid) -> Predictions:
    """Join the raw maps of all levels, and decode their boxes.

    Args:
        maps: (N, A * (5 + C), H, W) of each level, of any floating type.
        grid: the detector's anchors and strides.
    """
    joined = flatten(maps, grid.per_cell)
    logits = joined.to(torch.promote_types(joined.dtype, torch.float32))
    shapes = [(m.shape[2], m.shape[3]) for m in maps]
    where = _cells(tuple(shapes), grid, joined.device)
    boxes = decode_boxes(logits.detach(), *where)
    boxes = boxes.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    size = (shapes[0][1] * grid.strides[0], shapes[0][0] * grid.strides[0])
    return Predictions(logits, boxes, *where, shapes, size)


@lru_cache(maxsize=16)
def _cells(
    shapes: tuple[tuple[int, int], ...], grid: AnchorGrid, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``cells`` of maps of these (height, width): kept, for few sizes come again and again.

    They are some forty launches of a GPU, and three copies that are waited for.
    """
    with torch.inference_mode(False):
        maps = [torch.empty((1, 1, *shape), device=device) for shape in shapes]
        return cells(maps, grid)
