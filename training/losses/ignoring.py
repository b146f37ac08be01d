# SPDX-License-Identifier: Apache-2.0
"""Rows whose objectness is neither right nor wrong."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from training.data.batch import Targets
from training.detectors.loss_settings import LossSettings
from training.losses.overlap import iou, share_inside
from training.losses.predictions import Predictions

# Entries of a table of objects and rows: some megabytes, whatever the batch.
TABLE = 2**18


def ignored_rows(
    rows: Predictions, targets: Targets, settings: LossSettings, softmax: bool
) -> Tensor:
    """Return the mask (N, R) of rows that are no background for sure.

    These overlap an object by ``ignore_iou`` or more (and are sure of some class, if the settings
    say so), or lie in an ignored box with that share of their area (COCO's measure for crowds), or
    take themselves for a class without labels.

    Args:
        rows: predictions.
        targets: what the images show.
        settings: ``ignore_iou`` and ``ignore_score``.
        softmax: the classes exclude each other.
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
    """Return which classes (N, C) may be in an image without a box; None: all are labelled."""
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
    """Return the mask (N, R) of boxes (N, R, 4) whose overlap with a truth reaches ``least``.

    Args:
        boxes: xyxy.
        image: (T,), the image of each truth.
        truths: (T, 4), xyxy.
        measure: of the overlap, as ``iou``.
        least: smallest overlap that counts.
    """
    mask = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    at_once = max(1, TABLE // boxes.shape[1])
    parts = torch.split(image, at_once), torch.split(truths, at_once)
    for number, truth in zip(*parts, strict=True):
        hit, row = (measure(boxes[number], truth[:, None]) >= least).nonzero(as_tuple=True)
        mask[number[hit], row] = True
    return mask
