# SPDX-License-Identifier: Apache-2.0
"""Parameters and multiply-accumulates of a detector, which may be on the "meta" device."""

from __future__ import annotations

import torch
from torch import nn

from training.detectors.blocks import ConvNormAct


def parameters(module: nn.Module) -> int:
    """Count trainable parameters (batch-norm running statistics excluded)."""
    return sum(p.numel() for p in module.parameters())


def stored_values(module: nn.Module) -> int:
    """Count parameters and running statistics: the floats of a darknet weight file."""
    return parameters(module) + sum(b.numel() for b in module.buffers() if b.is_floating_point())


def kernel_values(module: nn.Module) -> int:
    """Count the values of convolution kernels and fully-connected layers only."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def deployed_values(module: nn.Module) -> int:
    """Count the values left when every batch norm is part of its convolution, as a bias."""
    folded = sum(
        p.numel() for m in module.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()
    )
    return parameters(module) - folded // 2


def macs(module: nn.Module, height: int, width: int) -> int:
    """Count multiply-accumulates of convolutions and linear layers for one image of this size."""
    total = 0

    def count(layer: nn.Conv2d | nn.Linear, outputs: torch.Tensor) -> None:
        nonlocal total
        total += layer.weight[0].numel() * outputs.numel()

    hooks = [
        m.register_forward_hook(
            lambda m, _, y: count(m.conv if isinstance(m, ConvNormAct) else m, y)
        )
        for m in module.modules()
        if isinstance(m, ConvNormAct | nn.Conv2d | nn.Linear)
    ]
    training = [(m, m.training) for m in module.modules()]
    module.eval()
    with torch.no_grad():
        module(torch.zeros(1, 3, height, width, device=next(module.parameters()).device))
    for m, was in training:
        m.training = was
    for hook in hooks:
        hook.remove()
    return total
