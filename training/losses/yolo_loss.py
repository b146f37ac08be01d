# SPDX-License-Identifier: Apache-2.0
"""The loss of YOLO-ReT: GIoU, binary cross-entropy of objectness and classes, no weights."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot
from torch.nn.utils.rnn import pad_sequence

from training.data.batch import Targets
from training.detectors.heads import AnchorGrid, cells, decode_boxes, flatten
from training.losses.assignment import assign
from training.losses.overlap import generalized_iou, iou

IGNORE_IOU = 0.5


class Loss(NamedTuple):
    """Sums over all rows, divided by the number of images."""

    box: Tensor
    objectness: Tensor
    classes: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.box + self.objectness + self.classes


def yolo_loss(
    maps: list[Tensor], targets: Targets, grid: AnchorGrid, also_above: float | None = None
) -> Loss:
    """Compare raw maps (N, A*(5+C), H, W) with the certain objects of the targets.

    Rows that answer for no object but overlap one by IGNORE_IOU or more have no objectness loss.
    """
    objects = targets.objects
    rows = flatten(maps, grid.per_cell).float()
    boxes = decode_boxes(rows, *cells(maps, grid))
    shapes = [(m.shape[2], m.shape[3]) for m in maps]
    target, row = assign(objects, grid, shapes, also_above)
    image = objects[target, 0].long()
    count = len(rows)

    positive = torch.zeros(rows.shape[:2], dtype=torch.bool, device=rows.device)
    positive[image, row] = True
    counted = positive | ~_overlapping(boxes.detach(), objects)
    objectness = binary_cross_entropy_with_logits(
        rows[..., 4][counted], positive[counted].float(), reduction="sum"
    )
    box = (1 - generalized_iou(boxes[image, row], objects[target, 2:])).sum()
    logits = rows[image, row, 5:]
    truth = one_hot(objects[target, 1].long(), logits.shape[-1]).float()
    classes = binary_cross_entropy_with_logits(logits, truth, reduction="sum")
    return Loss(box / count, objectness / count, classes / count)


def _overlapping(boxes: Tensor, targets: Tensor) -> Tensor:
    """Return the mask (N, R) of boxes (N, R, 4) that overlap an object of their image enough."""
    per_image = [targets[targets[:, 0] == number, 2:] for number in range(len(boxes))]
    truths = pad_sequence(per_image, batch_first=True)
    mask = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    # One object of every image at a time: no (N, R, T) table of floats.
    for truth in truths.unbind(1):
        mask |= iou(boxes, truth[:, None]) >= IGNORE_IOU
    return mask
