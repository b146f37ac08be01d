# SPDX-License-Identifier: Apache-2.0
"""Parameters and multiply-accumulates of a detector."""

from __future__ import annotations

import torch
from torch import nn

from training.detectors.blocks import ConvNormAct


def parameters(module: nn.Module) -> int:
    """Count trainable parameters (batch-norm running statistics excluded)."""
    return sum(p.numel() for p in module.parameters())


def macs(module: nn.Module, height: int, width: int) -> int:
    """Count multiply-accumulates of all convolutions for one image of the given size in pixels."""
    total = 0

    def count(conv: nn.Conv2d, outputs: torch.Tensor) -> None:
        nonlocal total
        total += conv.weight[0].numel() * outputs.numel()

    hooks = [
        m.register_forward_hook(lambda m, _, y: count(m.conv if isinstance(m, ConvNormAct) else m, y))
        for m in module.modules()
        if isinstance(m, ConvNormAct | nn.Conv2d)
    ]
    training = module.training
    module.eval()
    with torch.no_grad():
        module(torch.zeros(1, 3, height, width))
    module.train(training)
    for hook in hooks:
        hook.remove()
    return total
