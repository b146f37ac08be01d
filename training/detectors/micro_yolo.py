# SPDX-License-Identifier: Apache-2.0
"""Micro-YOLO (Hu et al., 2021): Tiny-YOLOv3 with depthwise convolutions, a table of layers.

Unpublished, and chosen here: expansion 2, squeeze-and-excitation to 1/16 of a block's input, the
leaky activation of Tiny-YOLOv3. With these the counts lie within 1 % of the published ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from compact_yolo_ros.model.published import Published
from training.detectors.anchor_grid import AnchorGrid, output_layer
from training.detectors.blocks import (
    ConvNormAct,
    DepthwiseSeparable,
    InvertedResidual,
    downsample2,
    steady_pool2,
    upsample2,
)
from training.detectors.limits import KERNELS, MOST_CHANNELS, in_range, one_of
from training.detectors.publications import PARAMETERS
from training.detectors.spec import DetectorSpec
from training.detectors.tiny_yolo import V3_GRID, V3_LOSS

SQUEEZE = 16


@dataclass(frozen=True)
class Layer:
    """One layer: ``conv``, ``dsconv`` (depthwise separable), ``mbconv`` (inverted, with SE)."""

    kind: Literal["conv", "dsconv", "mbconv"]
    outputs: int
    kernel: int = 3

    def __post_init__(self) -> None:
        one_of("kind", self.kind, ("conv", "dsconv", "mbconv"))
        in_range("outputs", self.outputs, 1, MOST_CHANNELS)
        one_of("kernel", self.kernel, KERNELS)

    def build(self, inputs: int, expansion: int) -> nn.Module:
        """Return the layer as a module.

        Args:
            inputs: channels of its input.
            expansion: hidden over input channels of an inverted bottleneck.
        """
        if self.kind == "conv":
            return ConvNormAct(inputs, self.outputs, self.kernel, act="leaky")
        if self.kind == "dsconv":
            return DepthwiseSeparable(inputs, self.outputs, self.kernel, act="leaky", last="leaky")
        hidden, squeeze = expansion * inputs, max(1, inputs // SQUEEZE)
        return InvertedResidual(
            inputs, hidden, self.outputs, self.kernel, squeeze=squeeze, residual=False, act="leaky"
        )


@dataclass(frozen=True)
class MicroYoloConfig:
    """The layers of Micro-YOLO, numbered in the paper with the maxpools between them.

    Attributes:
        trunk: layers 1, 3, 5, 7, 9, 11, a maxpool after each; the last maxpool keeps the size.
        deep: layers 13 and 14; the second leads to both heads.
        s32: layer 15.
        up: its output is doubled in size and concatenated with layer 9.
        s16: what follows.
        expansion: of the inverted bottlenecks.
    """

    num_classes: int = 80
    trunk: tuple[Layer, ...] = (
        Layer("conv", 16),
        Layer("mbconv", 32),
        Layer("mbconv", 64, 5),
        Layer("mbconv", 128),
        Layer("mbconv", 256, 5),
        Layer("mbconv", 512),
    )
    deep: tuple[Layer, Layer] = (Layer("dsconv", 1024), Layer("conv", 256, 1))
    s32: Layer = Layer("mbconv", 512)
    up: Layer = Layer("conv", 128, 1)
    s16: Layer = Layer("mbconv", 256)
    expansion: int = 2
    grid: AnchorGrid = V3_GRID

    def __post_init__(self) -> None:
        in_range("expansion", self.expansion, 1, 16)
        if len(self.trunk) != 6:
            raise ValueError(f"trunk must have 6 layers, not {len(self.trunk)}")

    def with_kernels(self, *kernels: int) -> MicroYoloConfig:
        """Return the configuration with these kernel sizes in the trunk's bottlenecks."""
        first, *rest = self.trunk
        changed = (replace(layer, kernel=k) for layer, k in zip(rest, kernels, strict=True))
        return replace(self, trunk=(first, *changed))


class MicroBackbone(nn.Module):
    """The trunk: maps of strides 16 and 32."""

    def __init__(self, layers: tuple[Layer, ...], expansion: int) -> None:
        super().__init__()
        first, *rest = layers
        self.stem = first.build(3, expansion)
        inputs = (layer.outputs for layer in layers)
        self.blocks = nn.ModuleList(
            layer.build(width, expansion) for layer, width in zip(rest, inputs, strict=False)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(images)
        for block in self.blocks:
            at_16 = x
            x = block(downsample2(x))
        return at_16, steady_pool2(x)


class MicroYolo(nn.Module):
    """Images (N, 3, H, W), RGB in 0..1, to raw maps (N, A*(5+C), H/s, W/s) of strides 16 and 32."""

    def __init__(self, config: MicroYoloConfig) -> None:
        super().__init__()
        self.grid, self.num_classes = config.grid, config.num_classes
        self.backbone = MicroBackbone(config.trunk, config.expansion)
        at_16, at_32 = (layer.outputs for layer in config.trunk[-2:])
        wide, squeezed = config.deep

        def build(layer: Layer, inputs: int) -> nn.Module:
            return layer.build(inputs, config.expansion)

        self.deep = nn.Sequential(build(wide, at_32), build(squeezed, wide.outputs))
        self.s32 = build(config.s32, squeezed.outputs)
        self.head32 = output_layer(config.s32.outputs, self.grid, self.num_classes)
        self.up = build(config.up, squeezed.outputs)
        self.s16 = build(config.s16, config.up.outputs + at_16)
        self.head16 = output_layer(config.s16.outputs, self.grid, self.num_classes)

    def forward(self, images: Tensor) -> list[Tensor]:
        at_16, x = self.backbone(images)
        x = self.deep(x)
        s16 = self.s16(torch.cat((upsample2(self.up(x)), at_16), 1))
        return [self.head16(s16), self.head32(self.s32(x))]


# Progressive pruning as in the paper: 2/16 of most layers, 6/16 of layer 13, none of layer 15.
PRUNED = MicroYoloConfig(
    trunk=(
        Layer("conv", 14),
        Layer("mbconv", 28),
        Layer("mbconv", 56, 5),
        Layer("mbconv", 112),
        Layer("mbconv", 224, 5),
        Layer("mbconv", 448),
    ),
    deep=(Layer("dsconv", 640), Layer("conv", 224, 1)),
    up=Layer("conv", 112, 1),
    s16=Layer("mbconv", 224),
)
SOURCE = "Micro-YOLO, Hu et al. 2021"
DEVICE = "a GPU that is not named"

# The paper gives neither schedule nor augmentation of the final training; anchors, decoding and
# loss follow Tiny-YOLOv3, and so does the rest here. Its searches train each candidate for 20
# epochs, from the weights before pruning: --start with a trained micro_yolo does it.
DETECTORS = (
    DetectorSpec(
        "micro_yolo",
        MicroYolo,
        MicroYoloConfig(),
        V3_LOSS,
        "tiny_yolov3_paper",
        Published(
            SOURCE, "COCO 2017", 416, {416: 32.4}, 2.56, PARAMETERS, 1.10,
            "expansion and attention width are not published; with norms and activations counted "
            "as multiply-accumulates it is 1.09",
            fps={DEVICE: {416: 328}},
        ),
    ),
    DetectorSpec(
        "micro_yolo_pruned",
        MicroYolo,
        PRUNED,
        V3_LOSS,
        "tiny_yolov3_paper",
        Published(
            SOURCE, "COCO 2017", 416, {416: 29.3}, 1.92, PARAMETERS, 0.87,
            "the widths after pruning are published for two layers only, and as \"most\" for the "
            "rest",
            fps={DEVICE: {416: 357}},
        ),
    ),
)  # fmt: skip
