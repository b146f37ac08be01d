# SPDX-License-Identifier: Apache-2.0
"""Scaling YOLOv4-tiny to a budget of operations (Wang et al., 2021, Scaled-YOLOv4).

The largest detector for each budget, by the way it grows: input, depth and width together, or one
of them alone. ``training.studies.scaling`` trains them. Costs scale with the square of the input's
side (alpha), with depth (beta) and with the square of the width (gamma); sections 3.1 and 3.2 of
the paper. They are counted exactly, before anything is trained. P5 to P7 of the paper are too large
for this package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from training.detectors.complexity import watch
from training.detectors.interface import Module
from training.detectors.yolov4_tiny import YoloV4Tiny, YoloV4TinyConfig

SIZE = 416
"""Side in pixels of the base's input: that of YOLOv4-tiny."""
HALVINGS = 10
"""Refinement steps of the search for the largest scale."""


@dataclass(frozen=True)
class Cost:
    """What a network costs for one image.

    Attributes:
        flops: two for every multiply-accumulate of its convolutions.
        memory_access: values read and written, h w (C_in + C_out) + k^2 C_in C_out of every
            convolution (ShuffleNetV2's "MAC", which the paper minimises by C_in = C_out).
        convolutional_io: values of the maps alone, h w (C_in + C_out) (HarDNet's "CIO").
    """

    flops: int
    memory_access: int
    convolutional_io: int


def cost(network: Module, height: int, width: int) -> Cost:
    """Add up the costs of all convolutions for one image.

    Args:
        network: maps images (N, 3, H, W) to anything.
        height: of the image in pixels.
        width: of the image in pixels.
    """
    multiplied = accessed = moved = 0

    def count(conv: nn.Conv2d | nn.Linear, inputs: Tensor, outputs: Tensor) -> None:
        nonlocal multiplied, accessed, moved
        multiplied += conv.weight[0].numel() * outputs.numel()
        moved += inputs.numel() + outputs.numel()
        accessed += inputs.numel() + outputs.numel() + conv.weight.numel()

    watch(network, height, width, count)
    return Cost(2 * multiplied, accessed, moved)


@dataclass(frozen=True)
class Scale:
    """Factors of the input's side (alpha), depth (beta) and width (gamma)."""

    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0

    @property
    def cost(self) -> float:
        """The factor on FLOPs before rounding, alpha^2 beta gamma^2 (section 3.1)."""
        return self.alpha**2 * self.beta * self.gamma**2

    def __pow__(self, exponent: float) -> Scale:
        return Scale(self.alpha**exponent, self.beta**exponent, self.gamma**exponent)


@dataclass(frozen=True)
class Scaled:
    """A scaled detector: its configuration, the side of its input in pixels, its exact cost."""

    config: YoloV4TinyConfig
    size: int
    cost: Cost


def scaled(base: YoloV4TinyConfig, size: int, scale: Scale) -> Scaled:
    """Scale a configuration and its input.

    Args:
        base: the configuration.
        size: side of its square input in pixels; the scaled one is rounded to a multiple of 32.
        scale: the factors.
    """
    config = replace(
        base, width=base.width * scale.gamma, depth=max(1, round(base.depth * scale.beta))
    )
    side = max(32, round(size * scale.alpha / 32) * 32)
    with torch.device("meta"):
        network = YoloV4Tiny(config)
    return Scaled(config, side, cost(network, side, side))


def fit(base: YoloV4TinyConfig, size: int, direction: Scale, budget: int) -> Scaled:
    """Return the largest detector that costs at most ``budget`` FLOPs.

    Args:
        base: the configuration to scale.
        size: side of its square input in pixels.
        direction: how the three dimensions grow together. It is raised to one common exponent,
            which may be negative (compound scaling; Tan and Le, 2019, EfficientNet, section 3.3).
        budget: FLOPs for one image.

    Raises:
        ValueError: the direction does not make a detector larger, or no scale is cheap enough.
    """
    if direction.cost <= 1:
        raise ValueError("the direction must make the detector larger: alpha^2 beta gamma^2 > 1")
    base_cost = scaled(base, size, Scale()).cost.flops
    guess = math.log(budget / base_cost) / math.log(direction.cost)
    # Rounding makes the cost a staircase: begin where even its highest step is too expensive.
    low, high = guess - 2 / math.log(direction.cost), guess + 2 / math.log(direction.cost)
    best = None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        try:
            candidate = scaled(base, size, direction**middle)
        except ValueError:  # smaller or larger than a detector may be
            low, high = (middle, high) if middle < 0 else (low, middle)
            continue
        if candidate.cost.flops <= budget:
            best, low = candidate, middle
        else:
            high = middle
    if best is None:
        raise ValueError(f"no scale of this detector costs {budget:,} FLOPs or less")
    return best


DIRECTIONS = {
    "together": Scale(1.15, 1.2, 1.1),
    "input only": Scale(alpha=2.0),
    "depth only": Scale(beta=2.0),
    "width only": Scale(gamma=2.0),
}
"""Ways to grow, by name. "together" has EfficientNet's ratios (Tan and Le, 2019, section 3.3)."""
