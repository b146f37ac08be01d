# SPDX-License-Identifier: Apache-2.0
"""Muon: a kernel steps along its momentum, made orthogonal: all directions count alike.

The gradient of a kernel is mostly a few directions, and Adam, which scales each value for itself,
keeps that. Here all singular values of a step are about 1: what is rare is learned as fast as what
is frequent. PyTorch's own ``torch.optim.Muon`` takes matrices alone, and the kernels of
convolutions have four axes.

Sources: K. Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024
(kellerjordan.github.io/posts/muon): momentum, Newton-Schulz iteration and its coefficients; J. Liu
et al., Muon is Scalable for LLM Training, arXiv:2502.16982, section 2.2: weight decay, and steps of
the size of AdamW's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import AdamW

from training.loop.precision import emulates_bfloat16

MOMENTUM = 0.95
STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of x, (x xT) x and (x xT)^2 x: they bring small singular values up the fastest."""
STEP_SIZE = 0.2
"""Root mean square of the values of a step of AdamW, as Liu et al. found it."""


class Muon(AdamW):
    """AdamW, with Muon for the groups that have ``orthogonal: True``.

    Their parameters have two axes or more. The first one is that of the rows, all others together
    are that of the columns.
    """

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Do one step of all groups, as ``torch.optim.Optimizer.step``."""
        groups = self.param_groups
        # AdamW does its step first: a closure computes the gradients of all groups.
        self.param_groups = [group for group in groups if not group.get("orthogonal")]
        try:
            loss: float | None = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group.get("orthogonal"):
                self._orthogonal_step(group)
        return loss

    def _orthogonal_step(self, group: dict[str, Any]) -> None:
        """Move the parameters of a group; matrices of one shape are made orthogonal together."""
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for parameter in group["params"]:
            if (gradient := parameter.grad) is not None:
                matrix = self._momentum(parameter, gradient).flatten(1)
                alike.setdefault(matrix.shape, []).append((parameter, matrix))
        for (rows, columns), found in alike.items():
            steps = orthogonal(torch.stack([matrix for _, matrix in found]))
            size = STEP_SIZE * math.sqrt(max(rows, columns))
            for (parameter, _), step in zip(found, steps, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(step.reshape(parameter.shape), alpha=-group["lr"] * size)

    def _momentum(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradient with Nesterov's momentum, and keep the momentum."""
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            # AdamW looks for the number of steps in all that it restores.
            state["step"] = torch.zeros(())
            state["momentum_buffer"] = torch.zeros_like(parameter)
        kept = state["momentum_buffer"].lerp_(gradient, 1 - MOMENTUM)
        return torch.lerp(gradient, kept, MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """Bring all singular values near 1 (0.7 to 1.2; those that are below 1e-3 of all, less).

    Args:
        matrices: (N, rows, columns).

    Returns:
        The matrices with the same singular vectors, in bfloat16, or in float32 on processors that
        have no instructions for bfloat16.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if tall else matrices
    norms = torch.linalg.matrix_norm(x, keepdim=True)
    # Noise of 0.4 % does not matter.
    x = (x / (norms + 1e-7)).to(_fast_type(x.device.type))
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x


@cache
def _fast_type(device: str) -> torch.dtype:
    """bfloat16 takes half of the time of float32, or 25 to 50 times as long if it is emulated."""
    return torch.float32 if emulates_bfloat16(device) else torch.bfloat16
