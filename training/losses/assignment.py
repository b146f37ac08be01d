# SPDX-License-Identifier: Apache-2.0
"""Which rows of the prediction answer for which objects."""

from __future__ import annotations

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
    """P pairs of an object and a row that answers for it.

    Attributes:
        target: (P,), number of the object.
        image: (P,).
        row: (P,).
        weight: (P,) in 0..1, of box and classes.
        sure: (P,) in 0..1, the objectness to reach.
    """

    target: Tensor
    image: Tensor
    row: Tensor
    weight: Tensor
    sure: Tensor


def match(rows: Predictions, targets: Targets, settings: LossSettings, grid: AnchorGrid) -> Pairs:
    """Assign rows as the settings say.

    An object that a teacher drew with confidence c weighs c, and so is the objectness to reach: on
    average that is the loss of an object that exists with probability c.
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
    """Return the pairs (target number (P,), row (P,)) that shall match.

    The object's cell is the one its centre lies in. Its anchor is the one of all levels whose size
    overlaps most (YOLOv3); with ``also_above`` every anchor whose size IoU reaches it answers too.

    Args:
        targets: (T, 6): image number, class, xyxy in input pixels.
        grid: the detector's anchors and strides.
        shapes: (height, width) in cells of each level.
        also_above: size IoU from 0 to 1, or None.
    """
    anchors = targets.new_tensor(grid.anchors).reshape(-1, 2)
    sizes = targets[:, 4:6] - targets[:, 2:4]
    fit = size_iou(sizes[:, None], anchors[None])
    matched = torch.zeros_like(fit, dtype=torch.bool)
    if len(targets):
        matched.scatter_(1, fit.argmax(1, keepdim=True), True)
    if also_above is not None:
        matched |= fit >= also_above
    target, anchor = matched.nonzero(as_tuple=True)

    level, within = anchor // grid.per_cell, anchor % grid.per_cell
    heights, widths = torch.tensor(shapes, device=targets.device).T
    rows = heights * widths * grid.per_cell
    offset = rows.cumsum(0) - rows
    stride = torch.tensor(grid.strides, device=targets.device)[level]
    centre = (targets[target, 2:4] + targets[target, 4:6]) / 2
    x, y = (centre / stride[:, None]).long().unbind(1)
    x, y = x.clamp(max=widths[level] - 1), y.clamp(max=heights[level] - 1)
    return target, offset[level] + (y * widths[level] + x) * grid.per_cell + within
