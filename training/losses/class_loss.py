# SPDX-License-Identifier: Apache-2.0
"""The loss of the classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot


def class_errors(
    logits: Tensor, labels: Tensor, open_classes: Tensor | None, softmax: bool, smoothing: float
) -> Tensor:
    """Return the cross-entropy of the classes.

    Args:
        logits: (P, C).
        labels: (P,) int64, the true classes.
        open_classes: (P, C), which classes are not labelled: they have no loss and no gradient,
            except the true class; None: all are labelled.
        softmax: whether the classes exclude each other.
        smoothing: share of the truth that is spread evenly: over the classes with softmax (Szegedy
            et al., 2016, section 7), else over yes and no of each class (darknet).

    Returns:
        (P, C).
    """
    own = one_hot(labels, logits.shape[1])
    skipped = None if open_classes is None else open_classes & ~own.bool()
    truth = own.to(logits.dtype)
    if softmax:
        if skipped is not None:
            logits = logits.masked_fill(skipped, -torch.inf)
        if smoothing:
            counted = logits.shape[1] if skipped is None else (~skipped).sum(1, keepdim=True)
            truth = truth * (1 - smoothing) + smoothing / counted
        errors = -truth * _finite(logits.log_softmax(1), skipped)
    else:
        if smoothing:
            truth = truth * (1 - smoothing) + smoothing / 2
        errors = binary_cross_entropy_with_logits(logits, truth, reduction="none")
        errors = _finite(errors, skipped)
    return errors


def _finite(errors: Tensor, skipped: Tensor | None) -> Tensor:
    return errors if skipped is None else errors.masked_fill(skipped, 0)
