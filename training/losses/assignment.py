# SPDX-License-Identifier: Apache-2.0
"""Which predictions are responsible for which objects."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from training.data.batch import Targets
from training.detectors.anchor_grid import AnchorGrid
from training.detectors.loss_settings import LossSettings
from training.losses.overlap import iou, size_iou
from training.losses.predictions import Predictions
from training.losses.task_aligned import align


class Pairs(NamedTuple):
    """P pairs of an object and a prediction that is responsible for it.

    Attributes:
        target: (P,), number of the object.
        image: (P,), number of the image.
        row: (P,), number of the prediction in its image.
        weight: (P,) in 0..1, of the box and class losses.
        sure: (P,) in 0..1, the target of the objectness.
    """

    target: Tensor
    image: Tensor
    row: Tensor
    weight: Tensor
    sure: Tensor


def match(rows: Predictions, targets: Targets, settings: LossSettings, grid: AnchorGrid) -> Pairs:
    """Assign predictions to objects.

    An object that a teacher labelled with confidence c has weight and objectness target c: on
    average that is the loss of an object that exists with probability c.

    Args:
        rows: the predictions.
        targets: the labels.
        settings: ``assignment`` and the settings of the one chosen; ``rescore``.
        grid: the detector's anchors and strides.
    """
    objects = targets.objects
    if settings.assignment == "task_aligned":
        target, row, quality = align(rows, objects, settings, grid.softmax)
        weight = sure = targets.confidence[target] * quality
    else:
        target, row = assign(objects, grid, rows.shapes, settings.also_above)
        weight = sure = targets.confidence[target]
    image = objects[target, 0].long()
    if settings.rescore:
        sure = sure * iou(rows.boxes[image, row], objects[target, 2:])
    return Pairs(target, image, row, weight, sure)


def assign(
    targets: Tensor, grid: AnchorGrid, shapes: list[tuple[int, int]], also_above: float | None
) -> tuple[Tensor, Tensor]:
    """Assign predictions by the sizes of their anchors (YOLOv3).

    The cell of an object is the one that its centre lies in. Its anchor is the one of all levels
    whose size overlaps most; with ``also_above``, every anchor whose size IoU reaches it as well.

    Args:
        targets: (T, 6): image number, class, xyxy in input pixels.
        grid: the detector's anchors and strides.
        shapes: (height, width) in cells of each level.
        also_above: size IoU from 0 to 1, or None.

    Returns:
        P pairs: numbers of the objects (P,) and of the predictions (P,).
    """
    table = _table(grid, tuple(shapes), targets.dtype, targets.device)
    sizes = targets[:, 4:6] - targets[:, 2:4]
    fit = size_iou(sizes[:, None], table.anchors[None])
    matched = torch.zeros_like(fit, dtype=torch.bool)
    if len(targets):
        matched.scatter_(1, fit.argmax(1, keepdim=True), True)
    if also_above is not None:
        matched |= fit >= also_above
    target, anchor = matched.nonzero(as_tuple=True)

    level, within = anchor // grid.per_cell, anchor % grid.per_cell
    height, width = table.heights[level], table.widths[level]
    centre = (targets[target, 2:4] + targets[target, 4:6]) / 2
    x, y = (centre / table.strides[level][:, None]).long().unbind(1)
    x, y = x.clamp(max=width - 1), y.clamp(max=height - 1)
    return target, table.offsets[level] + (y * width + x) * grid.per_cell + within


class _Table(NamedTuple):
    """The anchors (A, 2), and of each of L levels (L,): cells, first row, stride in pixels."""

    anchors: Tensor
    heights: Tensor
    widths: Tensor
    offsets: Tensor
    strides: Tensor


@lru_cache(maxsize=16)
def _table(
    grid: AnchorGrid,
    shapes: tuple[tuple[int, int], ...],
    dtype: torch.dtype,
    device: torch.device,
) -> _Table:
    """Return the table of a grid on a device: kept, because every copy to a GPU is waited for."""
    with torch.inference_mode(False):
        heights, widths = torch.tensor(shapes, device=device).T
        rows = heights * widths * grid.per_cell
        anchors = torch.tensor(grid.anchors, dtype=dtype, device=device).reshape(-1, 2)
        strides = torch.tensor(grid.strides, device=device)
        return _Table(anchors, heights, widths, rows.cumsum(0) - rows, strides)
