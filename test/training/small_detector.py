# SPDX-License-Identifier: Apache-2.0
"""Small detectors: one of nine convolutions that has all that quantisation meets (a residual sum,
channel attention, a concatenation, a map that two convolutions read, leaky and clipped
activations), and the smallest of the registry, of which a step takes a sixth of one of
``yolo_ret_m075``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.detectors.anchor_grid import AnchorGrid, output_layer
from training.detectors.blocks import ConvNormAct, InvertedResidual, upsample2

SMALLEST_YOLO_RET = {
    "name": "yolo_ret_m075",
    "backbone": {"name": "mobilenet_v2", "width": 0.25, "blocks": 4},
    "neck": "none",
    "rfcr": False,
}
"""Options of a detector that trains, exports and is read back as fast as one can."""

GRID = AnchorGrid((((12, 12), (24, 24), (48, 48)),), (8,))


class SmallDetector(nn.Module):
    """Images (N, 3, H, W) in 0..1 to one raw map of stride 8."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.grid, self.num_classes = GRID, classes
        self.stem = ConvNormAct(3, 8, 3, 2)
        self.down = ConvNormAct(8, 16, 3, 2, act="leaky")
        self.block = InvertedResidual(16, 32, 16, squeeze=8)
        self.deeper = ConvNormAct(16, 16, 3, 2)
        self.deepest = ConvNormAct(16, 16, 3, 2, act="leaky")
        self.head = output_layer(32, GRID, classes)

    def forward(self, images: Tensor) -> list[Tensor]:
        at_8 = self.deeper(self.block(self.down(self.stem(images))))
        return [self.head(torch.cat((at_8, upsample2(self.deepest(at_8))), 1))]


def small_detector() -> SmallDetector:
    """Return it in evaluation mode, with norms that fit pictures."""
    torch.manual_seed(5)
    model = SmallDetector().train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(functional.interpolate(torch.rand(4, 3, 20, 20), scale_factor=8))
        model.head.weight.mul_(8)
    return model.eval()
