# SPDX-License-Identifier: Apache-2.0
"""Predictions without an objectness loss, because they may or may not be background."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from training.data.batch import Targets
from training.detectors.loss_settings import LossSettings
from training.losses.overlap import iou, share_inside
from training.losses.predictions import Predictions

# Entries of a table of objects and rows, whatever the batch: in the cache of a processor, or few
# launches of a GPU.
TABLE, TABLE_ON_GPU = 2**18, 2**24


def ignored_rows(
    rows: Predictions, targets: Targets, settings: LossSettings, softmax: bool
) -> Tensor:
    """Return which predictions may not be counted as background.

    A prediction is ignored if it overlaps an object by ``ignore_iou`` or more (and the probability
    of its best class reaches ``ignore_score``), if that share of its area lies in an ignored box
    (COCO's measure for crowds), or if its best class is one that is not labelled in its image.

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
        mask |= lacking.gather(1, classes.argmax(-1))
    return mask


def open_classes(targets: Targets, images: int, classes: int) -> Tensor | None:
    """Return which classes may be in an image without a box.

    Args:
        targets: the labels.
        images: N.
        classes: C.

    Returns:
        A mask (N, C); None if every class is labelled in every image.
    """
    if not len(targets.unlabelled):
        return None
    mask = torch.zeros((images, classes), dtype=torch.bool, device=targets.unlabelled.device)
    mask[tuple(targets.unlabelled.unbind(1))] = True
    return mask


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
