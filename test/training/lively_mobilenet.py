# SPDX-License-Identifier: Apache-2.0
"""A MobileNetV2 that stands for a trained one, and the images that its statistics are of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.detectors.mobilenet_v2 import MobileNetV2


def images() -> Tensor:
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def lively_mobilenet() -> MobileNetV2:
    """Random weights with the statistics of the images, so that no map fades away."""
    torch.manual_seed(1)
    model = MobileNetV2(1.0, uneven=True).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum, module.eps = 1.0, 1e-3
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        model(images())
    return model.eval().requires_grad_(False)
