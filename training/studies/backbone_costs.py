# SPDX-License-Identifier: Apache-2.0
"""What classification backbones cost at 224 x 224 (YOLO-ReT, table of backbones).

The published figures lie within 5 % of the exact ones; the counter they come from is not named.

    python -m training.studies.backbone_costs
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from compact_yolo_ros.support.terminal import open_console, print_table
from training.detectors.blocks import ConvNormAct
from training.detectors.complexity import macs, parameters
from training.detectors.efficientnet import EfficientNet
from training.detectors.mobilenet_v2 import MobileNetV2

CLASSES = 1000
SIZE = 224
leaky = partial(ConvNormAct, act="leaky")
relu = partial(ConvNormAct, act="relu6")
# Name: published millions of multiply-accumulates and top-1 accuracy on ImageNet in percent.
TABLE = {
    "ResNet50": (3989, 74.9),
    "MobileNetV2 x1.4": (588, 74.7),
    "DarkNet19": (2764, 72.9),
    "DarkNet53": (7172, 77.2),
    "CSPDarkNet53": (5038, 77.2),
    "EfficientNet-B0": (396, 77.1),
    "EfficientNet-B3": (1007, 81.6),
}


class Classifier(nn.Sequential):
    """Feature extractor, mean over the map, linear layer."""

    def __init__(self, features: nn.Module, channels: int) -> None:
        super().__init__(
            features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)
        )


class Last(nn.Module):
    """The stride-32 output of a feature extractor."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> Tensor:
        last: Tensor = self.features(images)[-1]
        return last


class Residual(nn.Module):
    """``branch`` plus ``skip`` of the same input."""

    def __init__(self, branch: nn.Module, skip: nn.Module) -> None:
        super().__init__()
        self.branch, self.skip = branch, skip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.branch(x) + self.skip(x)
        return y


class CrossStage(nn.Module):
    """CSP stage: a 1x1 past the blocks, a 1x1 into them and one after, concatenation, 1x1."""

    def __init__(self, channels: int, half: int, blocks: nn.Module) -> None:
        super().__init__()
        self.past = leaky(channels, half)
        self.through = nn.Sequential(leaky(channels, half), blocks, leaky(half, half))
        self.join = leaky(2 * half, channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.join(torch.cat((self.through(x), self.past(x)), 1))
        return y


def resnet50() -> nn.Module:
    """He et al., 2015, table 1: the stride is in a block's first 1x1."""
    layers: list[nn.Module] = [relu(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, (width, repeats) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(repeats):
            stride = 2 if stage and not block else 1
            branch = nn.Sequential(
                relu(inputs, width, 1, stride),
                relu(width, width, 3),
                relu(width, 4 * width, act="linear"),
            )
            skip = relu(inputs, 4 * width, 1, stride, act="linear") if not block else nn.Identity()
            layers.append(Residual(branch, skip))
            inputs = 4 * width
    return Classifier(nn.Sequential(*layers), inputs)


def darknet19() -> nn.Module:
    """Redmon and Farhadi, 2016 (YOLO9000), table 6: the classifier is a 1x1 convolution."""
    layers: list[nn.Module] = [leaky(3, 32, 3), nn.MaxPool2d(2), leaky(32, 64, 3), nn.MaxPool2d(2)]
    for width, repeats in ((128, 1), (256, 1), (512, 2), (1024, 2)):
        layers.append(leaky(width // 2, width, 3))
        for _ in range(repeats):
            layers += (leaky(width, width // 2), leaky(width // 2, width, 3))
        layers.append(nn.MaxPool2d(2) if width < 1024 else nn.Conv2d(1024, CLASSES, 1))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))


def darknet53(cross_stage: bool = False) -> nn.Module:
    """Redmon and Farhadi, 2018 (YOLOv3), table 1; CSP stages as in Wang et al., 2019 (CSPNet)."""
    layers: list[nn.Module] = [leaky(3, 32, 3)]
    for width, repeats in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        layers.append(leaky(width // 2, width, 3, 2))
        # Half of the width passes through the blocks, unbottlenecked, but in the first stage.
        inner = width // 2 if cross_stage and width > 64 else width
        hidden = inner if cross_stage and width > 64 else inner // 2
        branches = (
            nn.Sequential(leaky(inner, hidden), leaky(hidden, inner, 3)) for _ in range(repeats)
        )
        blocks = nn.Sequential(*(Residual(branch, nn.Identity()) for branch in branches))
        layers.append(CrossStage(width, inner, blocks) if cross_stage else blocks)
    return Classifier(nn.Sequential(*layers), 1024)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ResNet50": resnet50,
    "MobileNetV2 x1.4": lambda: Classifier(Last(MobileNetV2(1.4, complete=True)), 1792),
    "DarkNet19": darknet19,
    "DarkNet53": darknet53,
    "CSPDarkNet53": partial(darknet53, cross_stage=True),
    "EfficientNet-B0": lambda: Classifier(Last(EfficientNet("b0", complete=True)), 1280),
    "EfficientNet-B3": lambda: Classifier(Last(EfficientNet("b3", complete=True)), 1536),
}


def main() -> None:
    """Print the table of backbones."""
    head = "backbone", "parameters", "MMAC", "published", "difference", "top-1 % (published)"
    rows = []
    for name, (published, accuracy) in TABLE.items():
        with torch.device("meta"):
            network = NETWORKS[name]()
        counted = macs(network, SIZE, SIZE) / 1e6
        rows.append(
            (
                name,
                f"{parameters(network):,}",
                f"{counted:.0f}",
                f"{published}",
                f"{100 * (counted / published - 1):+.1f} %",
                f"{accuracy}",
            )
        )
    print_table(open_console(), head, rows)


if __name__ == "__main__":
    main()
