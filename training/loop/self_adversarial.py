# SPDX-License-Identifier: Apache-2.0
"""Self-adversarial training (YOLOv4, section 3.3): the detector alters the images it trains on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from training.data.batch import Targets
from training.detectors.interface import Module


def hide_objects(
    network: Callable[[Tensor], list[Tensor]],
    criterion: Callable[[list[Tensor], Targets], Any],
    images: Tensor,
    step: float,
) -> Tensor:
    """Return images that are altered so that the detector finds less in them.

    One step down the gradient of the loss for empty labels. The paper gives neither norm nor
    length of the step; the maximum norm is from YOLO-ReT's description.

    Args:
        network: the detector.
        criterion: its loss.
        images: (N, H, W, 3) uint8, RGB.
        step: largest change of a pixel, as a share of 255.

    Returns:
        (N, H, W, 3) uint8, RGB.
    """
    pixels = (images.float() / 255).requires_grad_(True)
    nothing = Targets.of(torch.zeros((0, 6), device=images.device))
    claim = criterion(network(pixels.permute(0, 3, 1, 2)), nothing).total
    (gradient,) = torch.autograd.grad(claim, pixels)
    altered = pixels.detach() - step * gradient.sign()
    return (altered * 255).round().clamp(0, 255).to(torch.uint8)


class Undisturbed:
    """Context in which a model is in evaluation mode, so that its statistics do not change."""

    def __init__(self, model: Module) -> None:
        self.modes = {module: module.training for module in model.modules()}
        self.model = model

    def __enter__(self) -> None:
        self.model.eval()

    def __exit__(self, *_: object) -> None:
        for module, training in self.modes.items():
            module.training = training
