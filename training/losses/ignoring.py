# SPDX-License-Identifier: Apache-2.0
"""Predictions without an objectness loss, because they may or may not be background."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from training.data.batch import Targets
from training.detectors.loss_settings import LossSettings
from training.losses.overlap import iou, share_inside
from training.losses.predictions import Predictions

# Entries of a table of objects and rows, whatever the batch: in the cache of a processor, or few
# launches of a GPU.
TABLE, TABLE_ON_GPU = 2**18, 2**24
PARTS = 4
"""Of a mosaic."""


def ignored_rows(
    rows: Predictions, targets: Targets, settings: LossSettings, softmax: bool
) -> Tensor:
    """Return which predictions may not be counted as background.

    A prediction is ignored if it overlaps an object by ``ignore_iou`` or more (and the probability
    of its best class reaches ``ignore_score``), if that share of its area lies in an ignored box
    (COCO's measure for crowds), or if its best class is one that is not labelled in its image, or
    in the part of a mosaic that its centre lies in.

    Args:
        rows: the predictions.
        targets: the labels.
        settings: ``ignore_iou`` and ``ignore_score``.
        softmax: whether the classes exclude each other.

    Returns:
        A mask (N, R).
    """
    least, objects, ignored = settings.ignore_iou, targets.objects, targets.ignored
    mask = overlapping(rows.boxes, objects[:, 0].long(), objects[:, 2:], iou, least)
    classes = rows.logits.detach()[..., 5:]
    if settings.ignore_score > 0:
        scores = classes[mask].softmax(-1) if softmax else classes[mask].sigmoid()
        mask[mask.clone()] = scores.amax(-1) >= settings.ignore_score
    if len(ignored):
        mask |= overlapping(rows.boxes, ignored[:, 0].long(), ignored[:, 1:], share_inside, least)
    lacking = open_classes(targets, len(mask), classes.shape[-1])
    if lacking is not None:
        mask |= lacking.has(rows.boxes, classes.argmax(-1))
    return mask


class OpenClasses(NamedTuple):
    """Which classes may be in N images, or in parts of them, without a box.

    Attributes:
        mask: (N, 4, C), the parts as ``Mosaic`` orders them; the first is all of another image.
        seams: (N, 2), where the parts of a mosaic meet; beyond every point of another image.
    """

    mask: Tensor
    seams: Tensor

    def parts(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Return the parts (P,) that the centres of boxes (P, 4) of these images (P,) lie in."""
        seam = self.seams[image]
        right, below = (boxes[..., :2] + boxes[..., 2:] >= 2 * seam).unbind(-1)
        return right.long() + 2 * below.long()

    def of(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Return which classes (P, C) are open where boxes (P, 4) of these images (P,) lie."""
        return self.mask[image, self.parts(image, boxes)]

    def has(self, boxes: Tensor, label: Tensor) -> Tensor:
        """Return whether the classes (N, R) of boxes (N, R, 4) are open where they lie."""
        images = torch.arange(len(boxes), device=boxes.device)[:, None]
        place = self.parts(images, boxes) * self.mask.shape[2] + label
        return self.mask.flatten(1).gather(1, place)


def open_classes(targets: Targets, images: int, classes: int) -> OpenClasses | None:
    """Return which classes may be in N images of C classes without a box; None: there is none."""
    unlabelled, seams = targets.unlabelled, targets.seams
    if not len(unlabelled):
        return None
    mask = torch.zeros((images, PARTS, classes), dtype=torch.bool, device=unlabelled.device)
    image, label, part = unlabelled.unbind(1)
    mask[image, part, label] = True
    places = seams.new_full((images, 2), torch.inf)
    places[seams[:, 0].long()] = seams[:, 1:]
    return OpenClasses(mask, places)


def overlapping(
    boxes: Tensor,
    image: Tensor,
    truths: Tensor,
    measure: Callable[[Tensor, Tensor], Tensor],
    least: float,
) -> Tensor:
    """Return which boxes overlap one of the true boxes of their image.

    Args:
        boxes: (N, R, 4) as x1 y1 x2 y2.
        image: (T,), the number of the image of each true box.
        truths: (T, 4) as x1 y1 x2 y2.
        measure: of the overlap, as ``iou``.
        least: smallest overlap that counts.

    Returns:
        A mask (N, R).
    """
    mask = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    entries = TABLE if boxes.device.type == "cpu" else TABLE_ON_GPU
    at_once = max(1, entries // boxes.shape[1])
    parts = torch.split(image, at_once), torch.split(truths, at_once)
    for number, truth in zip(*parts, strict=True):
        hit, row = (measure(boxes[number], truth[:, None]) >= least).nonzero(as_tuple=True)
        mask[number[hit], row] = True
    return mask
