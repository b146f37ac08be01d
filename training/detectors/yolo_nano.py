# SPDX-License-Identifier: Apache-2.0
"""YOLO Nano (Wong et al., 2019, figure 2), as a table of modules.

The paper gives the widths of the modules, but not their expansions, the activation, or what a
residual does where widths differ. Choices here, none of them verified by released code: PEP
expands to its squeezed width, the two at stride 32 to twice that; EP at stride 2 to its input, at
stride 1 to four times it; ReLU6; a residual only where stride is 1 and the widths agree; the
anchors of YOLOv3. The published 4.0 MB are 8-bit weights (its baselines' sizes are float32): here
4.00 MiB, and 4.60 billion operations against the published 4.57. No expansion that is the same
everywhere gives both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from compact_yolo_ros.model.published import Published
from training.detectors.anchor_grid import AnchorGrid, output_layer
from training.detectors.blocks import (
    ConvNormAct,
    InvertedResidual,
    SqueezeExcite,
    tapped,
    upsample2,
)
from training.detectors.limits import KERNELS, MOST_CHANNELS, MOST_LAYERS, in_range, one_of
from training.detectors.publications import KERNELS_8_BIT
from training.detectors.spec import DetectorSpec
from training.detectors.tiny_yolo import V3_LOSS

EXPANSIONS = (0.1, 16)


@dataclass(frozen=True)
class Conv:
    """Convolution to ``outputs`` channels."""

    outputs: int
    kernel: int = 1
    stride: int = 1
    kind: Literal["conv"] = "conv"

    def __post_init__(self) -> None:
        in_range("outputs", self.outputs, 1, MOST_CHANNELS)
        one_of("kernel", self.kernel, KERNELS)
        one_of("stride", self.stride, (1, 2))

    def build(self, inputs: int) -> nn.Module:
        return ConvNormAct(inputs, self.outputs, self.kernel, self.stride)


@dataclass(frozen=True)
class Ep:
    """Expansion-projection: 1x1 to ``expansion`` times the input, depthwise 3x3, linear 1x1."""

    outputs: int
    stride: int = 1
    expansion: float = 4.0
    kind: Literal["ep"] = "ep"

    def __post_init__(self) -> None:
        in_range("outputs", self.outputs, 1, MOST_CHANNELS)
        one_of("stride", self.stride, (1, 2))
        in_range("expansion", self.expansion, *EXPANSIONS)

    def build(self, inputs: int) -> nn.Module:
        return InvertedResidual(
            inputs, round(self.expansion * inputs), self.outputs, stride=self.stride
        )


@dataclass(frozen=True)
class Pep:
    """Projection-expansion-projection: 1x1 to ``squeezed``, then Ep at stride 1."""

    outputs: int
    squeezed: int
    expansion: float = 1.0
    kind: Literal["pep"] = "pep"

    def __post_init__(self) -> None:
        in_range("outputs", self.outputs, 1, MOST_CHANNELS)
        in_range("squeezed", self.squeezed, 1, MOST_CHANNELS)
        in_range("expansion", self.expansion, *EXPANSIONS)

    def build(self, inputs: int) -> nn.Module:
        return PepModule(inputs, self.squeezed, round(self.expansion * self.squeezed), self.outputs)


@dataclass(frozen=True)
class Fca:
    """Fully-connected attention over channels, through 1/``reduction`` of them."""

    reduction: int = 8
    kind: Literal["fca"] = "fca"

    def __post_init__(self) -> None:
        in_range("reduction", self.reduction, 1, 64)

    @property
    def outputs(self) -> None:
        """It keeps the width."""

    def build(self, inputs: int) -> nn.Module:
        return SqueezeExcite(inputs, max(1, inputs // self.reduction), "relu6", bias=False)


Stage = tuple[Conv | Ep | Pep | Fca, ...]


@dataclass(frozen=True)
class YoloNanoConfig:
    """The modules of YOLO Nano, from the image on; figures in names are strides.

    Attributes:
        trunk: of strides 2, 4, 8, 16, 32; each but the first starts with a module of stride 2. The
            outputs of the last three are A, B and C.
        up16: from C; doubled in size and concatenated with B it enters ``neck16``.
        neck16: its output D goes to ``up8`` and ``head16``.
        up8: from D; doubled in size and concatenated with A it enters ``neck8``.
        neck8: leads to the head of stride 8.
        head16: between D and its head.
        head32: between C and its head.
        projected_skips: another reading of the paper: where a residual would change shape, it is
            projected instead of left out.
    """

    num_classes: int = 20
    trunk: tuple[Stage, ...] = (
        (Conv(12, 3), Conv(24, 3, 2), Pep(24, 7)),
        (Ep(70, 2, 1.0), Pep(70, 25), Pep(70, 24)),
        (
            Ep(150, 2, 1.0), Pep(150, 56), Conv(150), Fca(8),
            Pep(150, 73), Pep(150, 71), Pep(150, 75),
        ),
        (
            Ep(325, 2, 1.0), Pep(325, 132), Pep(325, 124), Pep(325, 141), Pep(325, 140),
            Pep(325, 137), Pep(325, 135), Pep(325, 133), Pep(325, 140),
        ),
        (Ep(545, 2, 1.0), Pep(545, 276, 2.0), Conv(230), Ep(489), Pep(469, 213, 2.0), Conv(189)),
    )  # fmt: skip
    up16: Stage = (Conv(105),)
    neck16: Stage = (Pep(325, 113), Pep(207, 99), Conv(98))
    up8: Stage = (Conv(47),)
    neck8: Stage = (Pep(122, 58), Pep(87, 52), Pep(93, 47))
    head16: Stage = (Ep(183),)
    head32: Stage = (Ep(462),)
    projected_skips: bool = False
    grid: AnchorGrid = AnchorGrid()

    def __post_init__(self) -> None:
        if len(self.trunk) != 5 or not all(self.trunk):
            raise ValueError("trunk must have 5 stages, of at least one module each")
        in_range("trunk's modules", sum(map(len, self.trunk)), 6, MOST_LAYERS)


class PepModule(nn.Module):
    """1x1 to ``squeezed``, 1x1 to ``expanded``, depthwise 3x3, linear 1x1; maybe a residual."""

    def __init__(self, inputs: int, squeezed: int, expanded: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = ConvNormAct(inputs, squeezed)
        self.rest = InvertedResidual(squeezed, expanded, outputs, residual=False)
        self.residual = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.rest(self.squeeze(x))
        return x + y if self.residual else y


class ProjectedSkip(nn.Module):
    """``module`` plus a linear 1x1 convolution of its input to its shape."""

    def __init__(self, module: nn.Module, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.module = module
        self.skip = ConvNormAct(inputs, outputs, stride=stride, act="linear")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.skip(x) + self.module(x)
        return y


def sequence(inputs: int, stage: Stage, projected_skips: bool) -> tuple[list[nn.Module], int]:
    """Build the modules of a stage.

    Args:
        inputs: channels of its input.
        stage: descriptions of the modules.
        projected_skips: see ``YoloNanoConfig``.

    Returns:
        The modules, and the channels of the last one.
    """
    modules = []
    for description in stage:
        module = description.build(inputs)
        if projected_skips and isinstance(description, Ep | Pep) and not module.residual:
            stride = getattr(description, "stride", 1)
            module = ProjectedSkip(module, inputs, description.outputs, stride)
        modules.append(module)
        inputs = description.outputs or inputs
    return modules, inputs


class NanoBackbone(nn.Module):
    """The trunk as stem and blocks; ``channels`` holds the widths of A, B and C."""

    def __init__(self, trunk: tuple[Stage, ...], projected_skips: bool) -> None:
        super().__init__()
        blocks, ends, widths, inputs = [], [], [], 3
        for stage in trunk:
            modules, inputs = sequence(inputs, stage, projected_skips)
            blocks += modules
            ends.append(len(blocks) - 2)
            widths.append(inputs)
        self.stem, self.blocks = blocks[0], nn.ModuleList(blocks[1:])
        self.taps, self.channels = tuple(ends[2:]), tuple(widths[2:])

    def forward(self, images: Tensor) -> list[Tensor]:
        return tapped(self.blocks, self.stem(images), self.taps)[0]


class YoloNano(nn.Module):
    """Images (N, 3, H, W), RGB in 0..1, to raw maps (N, A*(5+C), H/s, W/s) of strides 8, 16, 32."""

    up16: nn.Sequential
    neck16: nn.Sequential
    up8: nn.Sequential
    neck8: nn.Sequential
    head16: nn.Sequential
    head32: nn.Sequential

    def __init__(self, config: YoloNanoConfig) -> None:
        super().__init__()
        self.grid, self.num_classes = config.grid, config.num_classes
        self.backbone = NanoBackbone(config.trunk, config.projected_skips)
        a, b, c = self.backbone.channels
        up16 = self._add("up16", c, config)
        d = self._add("neck16", up16 + b, config)
        up8 = self._add("up8", d, config)
        widths = (
            self._add("neck8", up8 + a, config),
            self._add("head16", d, config),
            self._add("head32", c, config),
        )
        self.outputs = nn.ModuleList(output_layer(w, self.grid, self.num_classes) for w in widths)

    def _add(self, name: str, inputs: int, config: YoloNanoConfig) -> int:
        modules, outputs = sequence(inputs, getattr(config, name), config.projected_skips)
        self.add_module(name, nn.Sequential(*modules))
        return outputs

    def forward(self, images: Tensor) -> list[Tensor]:
        a, b, c = self.backbone(images)
        d = self.neck16(torch.cat((upsample2(self.up16(c)), b), 1))
        s8 = self.neck8(torch.cat((upsample2(self.up8(d)), a), 1))
        maps = (s8, self.head16(d), self.head32(c))
        return [output(m) for output, m in zip(self.outputs, maps, strict=True)]


# Loss, schedule and augmentation are unpublished. Its anchors are YOLOv3's, and so is the loss
# chosen here; all else is as for Tiny-YOLOv3. The figures are of PASCAL VOC.
DETECTORS = (
    DetectorSpec(
        "yolo_nano",
        YoloNano,
        YoloNanoConfig(),
        V3_LOSS,
        "yolo_nano_paper",
        Published(
            "YOLO Nano, Wong et al. 2019", "VOC 2007", 416, {416: 69.1}, 4.0, KERNELS_8_BIT,
            4.57 / 2,
            "expansions are not published; 8-bit size, its baselines' are float32",
            fps={
                "AGX Xavier at 15 W, 1.97 images/s/W": {416: 26.9},
                "AGX Xavier at 30 W, 1.61 images/s/W": {416: 48.2},
            },
        ),
    ),
)  # fmt: skip
