# SPDX-License-Identifier: Apache-2.0
"""Exponential moving average of a model's weights."""

from __future__ import annotations

import copy

import torch

from training.detectors.interface import Detector


class AveragedModel:
    """A copy of a model that follows it slowly; buffers are copied as they are."""

    def __init__(self, model: Detector, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: Detector, step: int) -> None:
        """Move towards ``model`` after ``step`` steps; early steps count more (warm-up)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)
        for kept, new in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(new)
