# SPDX-License-Identifier: Apache-2.0
"""Parameters and multiply-accumulates of a network, which may be on the "meta" device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from training.detectors.blocks import ConvNormAct
from training.detectors.interface import Module, device_of

_OF_ONE_MAP = {
    functional.hardtanh, functional.relu6, functional.silu, functional.leaky_relu,
    torch.rsqrt, torch.sigmoid,
}  # fmt: skip
_OF_TWO_MAPS = {Tensor.add, Tensor.sub, Tensor.mul}


class ShapesOnly(TorchFunctionMode):
    """Computes no values where shapes are asked for: on "meta" they take most of the time."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: tuple[Any, ...] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        if function in _OF_ONE_MAP:
            return arguments[0]
        if function in _OF_TWO_MAPS:
            one, other = arguments
            if not isinstance(other, Tensor) or one.shape == other.shape:
                return one
            return one.new_empty(np.broadcast_shapes(one.shape, other.shape))
        return function(*arguments, **(options or {}))


def parameters(module: Module) -> int:
    """Count trainable parameters (batch-norm running statistics excluded)."""
    return sum(p.numel() for p in module.parameters())


def stored_values(module: Module) -> int:
    """Count parameters and running statistics: the floats of a darknet weight file."""
    return parameters(module) + sum(b.numel() for b in module.buffers() if b.is_floating_point())


def kernel_values(module: Module) -> int:
    """Count the values of convolution kernels and fully-connected layers only."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def deployed_values(module: Module) -> int:
    """Count the values left when every batch norm is part of its convolution, as a bias."""
    folded = sum(
        p.numel() for m in module.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()
    )
    return parameters(module) - folded // 2


def macs(module: Module, height: int, width: int) -> int:
    """Count the multiply-accumulates of all convolutions and linear layers for one image.

    Args:
        module: maps images (N, 3, H, W) to anything.
        height: of the image in pixels.
        width: of the image in pixels.
    """
    total = 0

    def count(layer: nn.Conv2d | nn.Linear, _: Tensor, outputs: Tensor) -> None:
        nonlocal total
        total += layer.weight[0].numel() * outputs.numel()

    watch(module, height, width, count)
    return total


def macs_by_size(module: Module, sizes: Sequence[int]) -> dict[int, int]:
    """Count the multiply-accumulates for square images of several sizes, from two runs.

    This is exact: the cost of a layer grows with the area, or, after a mean over the map, not at
    all.

    Args:
        module: as for ``macs``.
        sizes: sides in pixels, multiples of 32.

    Returns:
        The counts by side.
    """
    small, large = macs(module, 32, 32), macs(module, 64, 64)
    per_square = (large - small) // 3
    return {size: small + per_square * ((size // 32) ** 2 - 1) for size in sizes}


def watch(
    module: Module,
    height: int,
    width: int,
    seen: Callable[[nn.Conv2d | nn.Linear, Tensor, Tensor], None],
) -> None:
    """Run ``module`` in evaluation mode on an empty image, and report its weighted layers.

    Args:
        module: left as it was.
        height: of the image in pixels.
        width: of the image in pixels.
        seen: called with each convolution or linear layer, its input and its output.
    """

    def report(layer: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        weighted = layer.conv if isinstance(layer, ConvNormAct) else layer
        assert isinstance(weighted, nn.Conv2d | nn.Linear)
        seen(weighted, inputs[0], outputs)

    hooks = [
        m.register_forward_hook(report)
        for m in module.modules()
        if isinstance(m, ConvNormAct | nn.Conv2d | nn.Linear)
    ]
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.no_grad(), ShapesOnly():
            module(torch.zeros(1, 3, height, width, device=device_of(module)))
    finally:
        for hook in hooks:
            hook.remove()
        for m, training in modes:
            m.training = training
