# SPDX-License-Identifier: Apache-2.0
"""Assignment of predictions to objects by what is predicted (Feng et al., 2021, TOOD, section 3.2).

The paper has one prediction a cell, this package one for each anchor: an object's candidates are
all predictions of the cells whose centre lies in it, on all levels. An object narrower than a cell
counts as wide as the cell there, so that it has candidates on every level.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from training.detectors.loss_settings import LossSettings
from training.losses.overlap import TINY, iou
from training.losses.predictions import Predictions

# Entries of a table of objects and rows: some megabytes, whatever the batch.
TABLE = 2**18


@torch.no_grad()
def align(
    rows: Predictions, objects: Tensor, settings: LossSettings, softmax: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Assign predictions by their alignment with the objects, score^alpha * IoU^beta.

    The ``top_k`` best aligned candidates are responsible for an object; a candidate of several
    objects is responsible for the one that it overlaps most.

    Args:
        rows: the predictions.
        objects: (T, 6): image number, class, xyxy in input pixels.
        settings: ``top_k``, ``alpha`` and ``beta``.
        softmax: whether the classes exclude each other.

    Returns:
        P pairs: numbers of the objects (P,) and of the predictions (P,), and the alignment (P,),
        scaled so that the best prediction of an object has the largest IoU of its predictions.
    """
    number, row, alignment, overlap = _candidates(rows, objects, settings, softmax)
    place = objects[number, 0].long() * rows.boxes.shape[1] + row
    most = overlap.new_zeros(rows.boxes.shape[:2].numel())
    kept = overlap >= most.scatter_reduce(0, place, overlap, "amax")[place]
    number, row, alignment, overlap = number[kept], row[kept], alignment[kept], overlap[kept]

    top = alignment.new_full((len(objects),), -torch.inf)
    top = top.scatter_reduce(0, number, alignment, "amax")[number]
    widest = overlap.new_zeros(len(objects)).scatter_reduce(0, number, overlap, "amax")[number]
    return number, row, (alignment - top).exp() * widest


def _candidates(
    rows: Predictions, objects: Tensor, settings: LossSettings, softmax: bool
) -> tuple[Tensor, ...]:
    """Return number, row, logarithm of the alignment and IoU of each object's best rows."""
    middle_x, middle_y = (rows.begin + rows.width / 2).unbind(1)
    half = rows.width[:, 0] / 2
    sure, classes = logsigmoid(rows.logits[..., 4]), rows.logits[..., 5:]
    likely = classes.log_softmax(-1) if softmax else classes
    parts = []
    numbers = torch.arange(len(objects), device=objects.device)
    for number in torch.split(numbers, max(1, TABLE // len(half))):
        part = objects[number]
        x, y = ((part[:, 2:4] + part[:, 4:6]) / 2).T[..., None]
        across, down = ((part[:, 4:6] - part[:, 2:4]) / 2).T[..., None]
        inside = (middle_x - x).abs() <= torch.maximum(across, half)
        inside &= (middle_y - y).abs() <= torch.maximum(down, half)
        which, row = inside.nonzero(as_tuple=True)
        image, label = part[which, :2].long().unbind(1)
        overlap = iou(rows.boxes[image, row], part[which, 2:])
        score = likely[image, row, label]
        score = sure[image, row] + (score if softmax else logsigmoid(score))
        table = overlap.new_full(inside.shape, -torch.inf)
        table[which, row] = settings.alpha * score + settings.beta * (overlap + TINY).log()
        best, row = table.topk(min(settings.top_k, len(half)), 1)
        which, rank = (best > -torch.inf).nonzero(as_tuple=True)
        row = row[which, rank]
        overlap = iou(rows.boxes[part[which, 0].long(), row], part[which, 2:])
        parts.append((number[which], row, best[which, rank], overlap))
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))
