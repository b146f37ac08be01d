# SPDX-License-Identifier: Apache-2.0
"""A score of networks that needs no training: NASWOT (Mellor et al., 2021)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.detectors.interface import Module


@torch.no_grad()
def naswot(network: Module, images: Tensor) -> float:
    """Return how differently a fresh network's activations answer to images (Mellor et al., 2021).

    The score is the logarithm of the determinant of K, where K counts for each two images the
    activations that are both on or both off.

    Args:
        network: maps images to raw maps; put into training mode, so that norms follow the images.
        images: (N, 3, H, W), RGB in 0..1.
    """
    count = len(images)
    kernel = np.zeros((count, count))

    def add(_: nn.Module, __: Any, output: Tensor) -> None:
        on = (output > 0).flatten(1).float()
        same = on @ on.T + (1 - on) @ (1 - on).T
        np.add(kernel, same.numpy() / on.shape[1], out=kernel)

    hooks = [m.register_forward_hook(add) for m in network.modules() if isinstance(m, nn.ReLU6)]
    try:
        network.train()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return float(np.linalg.slogdet(kernel)[1])
