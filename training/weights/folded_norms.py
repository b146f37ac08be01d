# SPDX-License-Identifier: Apache-2.0
"""Networks whose batch norms are identities, because they are folded into the convolutions."""

from __future__ import annotations

import torch
from torch import nn

from training.detectors.blocks import ConvNormAct, statistics
from training.detectors.interface import Detector


def neutral_norms(network: Detector) -> None:
    """Make identities of all batch norms."""
    for unit in network.modules():
        if isinstance(unit, ConvNormAct):
            nn.init.ones_(unit.norm.weight)
            nn.init.zeros_(unit.norm.bias)
            mean, variance = statistics(unit.norm)
            mean.zero_()
            # With epsilon it is exactly 1.
            variance.fill_(1 - unit.norm.eps)


@torch.no_grad()
def fold_norms(network: Detector) -> None:
    """Move what batch norms do in evaluation into the kernels; their shift is all that stays."""
    units = [unit for unit in network.modules() if isinstance(unit, ConvNormAct)]
    folded = [unit.folded() for unit in units]
    neutral_norms(network)
    for unit, (kernel, bias) in zip(units, folded, strict=True):
        unit.conv.weight.copy_(kernel)
        unit.norm.bias.copy_(bias)
