# SPDX-License-Identifier: Apache-2.0
"""What the error of a box costs. All functions take P pairs of a row and its object."""

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

# darknet's weight of the pull towards the anchors.
PULL = 0.01


def box_errors(
    logits: Tensor, truths: Tensor, pairs: Pairs, rows: Predictions, settings: LossSettings
) -> Tensor:
    """Return the error (P,) of logits (P, 4) about boxes that shall be truths (P, 4).

    Truths are xyxy in input pixels.
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
    """Half the squared error (P,) of the place in the cell and of the size's logarithm (YOLOv2)."""
    error = torch.cat((logits[:, :2].sigmoid() - place, logits[:, 2:] - scale), 1)
    return error.square().sum(1) / 2


def yolov3_error(logits: Tensor, place: Tensor, scale: Tensor) -> Tensor:
    """As ``squared_error``, but the place by cross-entropy, less what is left of that at its best.

    Its gradient is that of darknet's YOLOv3: prediction minus truth, of all four.
    """
    cross = binary_cross_entropy_with_logits(logits[:, :2], place, reduction="none")
    least = torch.special.entr(place) + torch.special.entr(1 - place)
    error: Tensor = (cross - least).sum(1) + (logits[:, 2:] - scale).square().sum(1) / 2
    return error


def darknet_ciou_error(logits: Tensor, boxes: Tensor, truths: Tensor) -> Tensor:
    """1 - CIoU (P,) with the gradient that darknet passes to the logits.

    It reaches the centre's logits as it is, without the slope of the sigmoid and the size of the
    cell, and those of width and height times their exponential, without the size of the anchor.
    IoU counts twice along width and height. The aspect term leaves out 1 / (w^2 + h^2) (Zheng et
    al., 2020, below equation 12). darknet's sign of the hull's slope along x and y, a slip, is not
    repeated.

    Args:
        logits: (P, 4), place in the cell and logarithm of the size.
        boxes: (P, 4) that they decode to, xyxy, as shares of the image.
        truths: (P, 4), likewise.
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
    """Return what shall be reached: place in the range of the centre, 0..1, and log of the size.

    Both are (P, 2). An object thinner than a pixel counts as a pixel: its logarithm stays finite.
    """
    place = ((truths[:, :2] + truths[:, 2:]) / 2 - begin) / width
    sides = (truths[:, 2:] - truths[:, :2]).clamp(min=1)
    return place.clamp(0, 1), (sides / anchors).log()


def pull_to_anchors(logits: Tensor) -> Tensor:
    """Return the cost of rows (M, 4) that are not their anchor in the middle of their cell."""
    return PULL * squared_error(logits, logits.new_tensor(0.5), logits.new_tensor(0.0)).sum()


def _with_slope_of(value: Tensor, source: Tensor) -> Tensor:
    """Return the numbers of ``value``, with the gradient of ``source``."""
    return source + (value - source).detach()
