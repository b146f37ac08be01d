# SPDX-License-Identifier: Apache-2.0
"""Darknet's layers as PyTorch modules for inference. All maps are (N, C, H, W) tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.darknet.weights import ConvolutionShape, ConvolutionWeights

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "leaky": partial(nn.LeakyReLU, 0.1),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "mish": nn.Mish,
    "swish": nn.SiLU,
    "logistic": nn.Sigmoid,
}


class Convolution(nn.Sequential):
    """Convolution with the batch normalisation folded into it, and activation."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module, normalised: bool, line: int) -> None:
        super().__init__(conv, activation)
        outputs, inputs, height, width = conv.weight.shape
        self.stored = ConvolutionShape((outputs, inputs, height, width), normalised, line)

    @property
    def logistic(self) -> bool:
        """Whether it ends with a sigmoid."""
        return isinstance(self[1], nn.Sigmoid)

    def load(self, weights: ConvolutionWeights) -> None:
        """Take the values of a weights file."""
        conv = self[0]
        conv.weight, conv.bias = (
            nn.Parameter(torch.from_numpy(values.copy()), requires_grad=False)
            for values in weights.folded()
        )


class MaxPool(nn.Module):
    """Maximum of squares; an odd ``padding`` has its extra pixel at the right and the bottom."""

    def __init__(self, size: int, stride: int, padding: int) -> None:
        super().__init__()
        before, after = padding // 2, padding - padding // 2
        self.arguments = (size, stride, before, after)

    def forward(self, x: Tensor) -> Tensor:
        maxima: Tensor = _UnevenMaxPool.apply(x, *self.arguments)  # type: ignore[no-untyped-call]
        return maxima


class _UnevenMaxPool(torch.autograd.Function):
    """Pooling with uneven padding, exported as one node; PyTorch pads in a separate step."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, stride: int, before: int, after: int) -> Tensor:
        padded = functional.pad(x, (before, after, before, after), value=-torch.inf)
        return functional.max_pool2d(padded, size, stride)

    @staticmethod
    def symbolic(graph: Any, x: Any, size: int, stride: int, before: int, after: int) -> Any:
        return graph.op(
            "MaxPool",
            x,
            kernel_shape_i=[size, size],
            strides_i=[stride, stride],
            pads_i=[before, before, after, after],
        )


class Route(nn.Module):
    """Concatenation of one part of each input: ``parts`` are (first, end) channels."""

    def __init__(self, parts: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.parts = tuple(parts)

    def forward(self, *maps: Tensor) -> Tensor:
        taken = [
            m if (first, end) == (0, m.shape[1]) else m[:, first:end]
            for m, (first, end) in zip(maps, self.parts, strict=True)
        ]
        return torch.cat(taken, 1) if len(taken) > 1 else taken[0]


class Shortcut(nn.Module):
    """Activation of the sum of the inputs: all are added to the first, which says the channels.

    Of an input with more channels, the first ones are added; one with fewer is added to the first
    ones.

    Args:
        channels: of every input.
        activation: of the sum.
    """

    def __init__(self, channels: Sequence[int], activation: nn.Module) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.activation = activation

    def forward(self, *maps: Tensor) -> Tensor:
        total, own = maps[0], self.channels[0]
        for other, channels in zip(maps[1:], self.channels[1:], strict=True):
            if channels < own:
                total = torch.cat((total[:, :channels] + other, total[:, channels:]), 1)
            else:
                total = total + (other[:, :own] if channels > own else other)
        y: Tensor = self.activation(total)
        return y


class Product(nn.Module):
    """Activation of the product of two maps; one may have a single pixel or a single channel."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, factor: Tensor, x: Tensor) -> Tensor:
        y: Tensor = self.activation(factor * x)
        return y


class Head(nn.Identity):
    """A [yolo] or [region] layer; its map is returned as it is, and decoded by ``AnchorGrid``.

    Attributes:
        anchors, classes: of every cell.
        xy_scale, softmax, squared: as in ``AnchorGrid``.
    """

    def __init__(
        self,
        anchors: Sequence[tuple[float, float]],
        classes: int,
        xy_scale: float = 1.0,
        softmax: bool = False,
        squared: bool = False,
    ) -> None:
        super().__init__()
        self.anchors = tuple(anchors)
        self.classes = classes
        self.xy_scale = xy_scale
        self.softmax = softmax
        self.squared = squared
