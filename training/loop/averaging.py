# SPDX-License-Identifier: Apache-2.0
"""Exponential moving average of a model's weights."""

from __future__ import annotations

import copy

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from training.detectors.interface import Detector


class AveragedModel:
    """The moving average of a detector's weights; buffers are copied as they are.

    Args:
        model: the detector.
        decay: share of the average that a step keeps; 0: no average.
    """

    def __init__(self, model: Detector, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: Detector, step: int) -> None:
        """Move towards ``model``; the decay is lower in the first steps.

        Args:
            model: the detector after a step.
            step: optimizer steps done.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        # All together: one by one, a GPU would wait for hundreds of launches.
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average([*self.model.parameters()], [*model.parameters()], step)
        for kept, new in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(new)
