# SPDX-License-Identifier: Apache-2.0
"""The loss of the boxes. All functions take P pairs of a prediction and its object."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from training.detectors.anchor_grid import MAX_LOG_SIZE, decode_boxes
from training.detectors.loss_settings import LossSettings
from training.losses.assignment import Pairs
from training.losses.overlap import (
    aspect_gap,
    aspect_weight,
    centre_gap,
    complete_iou,
    generalized_iou,
    iou,
)
from training.losses.predictions import Predictions

# The weight of the pull towards the anchors in darknet.
PULL = 0.01


def box_errors(
    logits: Tensor, truths: Tensor, pairs: Pairs, rows: Predictions, settings: LossSettings
) -> Tensor:
    """Return the error of boxes.

    Args:
        logits: (P, 4), place in the cell and logarithms of width and height over the anchor.
        truths: (P, 4), the objects' boxes as x1 y1 x2 y2 in input pixels.
        pairs: which predictions the logits are of.
        rows: all predictions.
        settings: ``kind``, ``box`` and ``gradient``.

    Returns:
        (P,).
    """
    cells = rows.begin[pairs.row], rows.width[pairs.row], rows.anchors[pairs.row]
    if settings.kind == "region":
        return squared_error(logits, *encode(truths, *cells))
    if settings.kind == "sse":
        share = (truths[:, 2:] - truths[:, :2]).prod(1) / (rows.size[0] * rows.size[1])
        return (2 - share) * yolov3_error(logits, *encode(truths, *cells))
    boxes = decode_boxes(logits, *cells)
    if settings.box == "giou":
        return 1 - generalized_iou(boxes, truths)
    if settings.gradient == "exact":
        return 1 - complete_iou(boxes, truths)
    scale = truths.new_tensor(rows.size * 2)
    return darknet_ciou_error(logits, boxes.detach() / scale, truths / scale)


def squared_error(logits: Tensor, place: Tensor, scale: Tensor) -> Tensor:
    """Return half the squared error (P,) of the place in the cell and of the size (YOLOv2).

    Args:
        logits: (P, 4).
        place: (P, 2), target of the sigmoid of the first two.
        scale: (P, 2), target of the last two, as ``encode`` returns it.
    """
    error = torch.cat((logits[:, :2].sigmoid() - place, logits[:, 2:] - scale), 1)
    return error.square().sum(1) / 2


def yolov3_error(logits: Tensor, place: Tensor, scale: Tensor) -> Tensor:
    """Return the same with cross-entropy of the place, minus its minimum (YOLOv3).

    The gradient is that of darknet's YOLOv3: prediction minus target, of all four logits.
    """
    cross = binary_cross_entropy_with_logits(logits[:, :2], place, reduction="none")
    least = torch.special.entr(place) + torch.special.entr(1 - place)
    error: Tensor = (cross - least).sum(1) + (logits[:, 2:] - scale).square().sum(1) / 2
    return error


def darknet_ciou_error(logits: Tensor, boxes: Tensor, truths: Tensor) -> Tensor:
    """Return 1 - CIoU (P,) with the gradient that darknet passes to the logits.

    It reaches the centre's logits as it is, without the slope of the sigmoid and the size of the
    cell, and those of width and height times their exponential, without the size of the anchor.
    IoU counts twice along width and height. The aspect term leaves out 1 / (w^2 + h^2) (Zheng et
    al., 2020, below equation 12). The wrong sign of the hull's slope along x and y in darknet is
    not repeated.

    Args:
        logits: (P, 4), place in the cell and logarithm of the size.
        boxes: (P, 4) that they decode to, as x1 y1 x2 y2 in shares of the image.
        truths: (P, 4), the objects' boxes likewise.
    """
    centre = _with_slope_of((boxes[:, :2] + boxes[:, 2:]) / 2, logits[:, :2])
    exponential = logits[:, 2:].clamp(max=MAX_LOG_SIZE).exp()
    sides = _with_slope_of(boxes[:, 2:] - boxes[:, :2], exponential)
    boxes = torch.cat((centre - sides / 2, centre + sides / 2), 1)
    steep = _with_slope_of(boxes, torch.cat((centre - sides, centre + sides), 1))
    overlap, aspect = iou(steep, truths), aspect_gap(boxes, truths)
    aspect = _with_slope_of(aspect, aspect * sides.detach().square().sum(1))
    return 1 - overlap + centre_gap(boxes, truths) + aspect_weight(overlap, aspect) * aspect


def encode(truths: Tensor, begin: Tensor, width: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the targets of the logits of boxes, the inverse of ``decode_boxes``.

    Args:
        truths: (P, 4), the objects' boxes as x1 y1 x2 y2 in input pixels. A side below one pixel
            counts as one pixel, so that its logarithm stays finite.
        begin: (P, 2), begin of the range of the centre in input pixels.
        width: (P, 1), width of that range.
        anchors: (P, 2), width and height.

    Returns:
        The place in the range of the centre (P, 2), 0..1, and the logarithms of width and height
        over the anchor (P, 2).
    """
    place = ((truths[:, :2] + truths[:, 2:]) / 2 - begin) / width
    sides = (truths[:, 2:] - truths[:, :2]).clamp(min=1)
    return place.clamp(0, 1), (sides / anchors).log()


def pull_to_anchors(logits: Tensor) -> Tensor:
    """Return the cost of logits (M, 4) that differ from the anchor in the middle of the cell."""
    return PULL * squared_error(logits, logits.new_tensor(0.5), logits.new_tensor(0.0)).sum()


def _with_slope_of(value: Tensor, source: Tensor) -> Tensor:
    """Return the values of ``value`` with the gradient of ``source``."""
    return source + (value - source).detach()
