# SPDX-License-Identifier: Apache-2.0
"""The loss of a detector: raw maps compared with the labels."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from training.data.batch import Targets
from training.detectors.anchor_grid import AnchorGrid
from training.detectors.loss_settings import LossSettings
from training.losses.assignment import Pairs, match
from training.losses.box_loss import box_errors, pull_to_anchors
from training.losses.class_loss import class_errors
from training.losses.ignoring import ignored_rows, open_classes
from training.losses.predictions import Predictions, read_predictions


class Loss(NamedTuple):
    """The parts of a loss: sums over all predictions, divided by the number of images.

    ``distillation`` is what a teacher adds, 0 without one (``feature_distillation``).
    """

    box: Tensor
    objectness: Tensor
    classes: Tensor
    distillation: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.box + self.objectness + self.classes + self.distillation


class Criterion(Protocol):
    """The loss of one detector and its settings."""

    def __call__(self, maps: list[Tensor], targets: Targets, seen: int | None = None) -> Loss:
        """See ``detection_loss``."""


def criterion(settings: LossSettings, grid: AnchorGrid) -> Criterion:
    """Return the loss with these settings for a detector with these anchors and strides."""
    return partial(detection_loss, settings=settings, grid=grid)


def detection_loss(
    maps: list[Tensor],
    targets: Targets,
    seen: int | None = None,
    *,
    settings: LossSettings,
    grid: AnchorGrid,
) -> Loss:
    """Compare raw maps with the labels of their images.

    A prediction that is responsible for two objects is trained for both.

    Args:
        maps: (N, A*(5+C), H, W) of each level, of any floating type; the loss is float32 at least.
        targets: the labels.
        seen: images that the detector has been trained on before, for ``anchor_pull``; None: more
            than that.
        settings: of the loss.
        grid: the detector's anchors and strides.
    """
    rows = read_predictions(maps, grid)
    pairs = match(rows, targets, settings, grid)
    positive = torch.zeros(rows.boxes.shape[:2], dtype=torch.bool, device=rows.boxes.device)
    positive[pairs.image, pairs.row] = True
    answers, truths = rows.logits[pairs.image, pairs.row], targets.objects[pairs.target]

    box = (box_errors(answers[:, :4], truths[:, 2:], pairs, rows, settings) * pairs.weight).sum()
    box = box * settings.box_weight
    if seen is not None and seen < settings.anchor_pull:
        box = box + pull_to_anchors(rows.logits[~positive][:, :4])
    ignored = ignored_rows(rows, targets, settings, grid.softmax)
    objectness = _objectness(rows, pairs, positive, positive | ~ignored, settings)
    lacking = open_classes(targets, *rows.logits[..., 0, 5:].shape)
    errors = class_errors(
        answers[:, 5:],
        truths[:, 1].long(),
        None if lacking is None else lacking.of(pairs.image, truths[:, 2:]),
        grid.softmax,
        settings.label_smoothing,
    )
    classes = (errors * pairs.weight[:, None]).sum() * settings.classes_weight
    count = len(rows.logits)
    return Loss(box / count, objectness / count, classes / count, box.new_zeros(()))


def _objectness(
    rows: Predictions, pairs: Pairs, positive: Tensor, counted: Tensor, settings: LossSettings
) -> Tensor:
    """Return the sum over the counted rows; of two objects of a row, the surer one counts."""
    place = pairs.image * positive.shape[1] + pairs.row
    truth = rows.boxes.new_zeros(positive.numel())
    truth = truth.scatter_reduce(0, place, pairs.sure.to(truth.dtype), "amax")
    # Once: a GPU is waited for whenever a mask is turned into places.
    chosen = counted.nonzero(as_tuple=True)
    logits, truth = rows.logits[..., 4][chosen], truth.view_as(positive)[chosen]
    if settings.kind == "region":
        errors = (logits.sigmoid() - truth).square() / 2
    else:
        errors = binary_cross_entropy_with_logits(logits, truth, reduction="none")
    weights = torch.where(positive[chosen], settings.objectness_weight, settings.background_weight)
    return (errors * weights).sum()
