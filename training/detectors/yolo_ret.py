# SPDX-License-Identifier: Apache-2.0
"""YOLO-ReT (Ganesh et al., 2021): truncated backbone, RFCR, PANet neck, YOLOv3 head.

The graph follows the authors' released code where it and the paper differ; its float32 size is
larger than the paper's table (7.08 MiB for M0.75 with 20 classes against the published 5.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from compact_yolo_ros.model.published import Published
from training.detectors.anchor_grid import RARE_OBJECT_LOGIT, AnchorGrid
from training.detectors.efficientnet import SCALES, EfficientNet
from training.detectors.limits import in_range, one_of
from training.detectors.mobilenet_v2 import FEWEST_BLOCKS, MobileNetV2
from training.detectors.necks import NeckName, build_neck
from training.detectors.publications import AGX, NANO, NX, YOLO_RET
from training.detectors.rfcr import REDISTRIBUTED, RawFeatureCollection
from training.detectors.spec import DetectorSpec
from training.settings.yaml_settings import from_plain

MOBILENET = "mobilenet_v2"
NAMES = (MOBILENET, *(f"efficientnet_{variant}" for variant in SCALES))
# The widths that have a text of their own, as mobilenet_v2_075.
WIDTHS = (0.5, 0.75, 1.0, 1.4)
WIDTH_LIMITS = (0.1, 4.0)


@dataclass(frozen=True)
class BackboneOptions:
    """The backbone of a YOLO-ReT: its family and size, and how many blocks of it are kept.

    Attributes:
        name: ``mobilenet_v2``, or an EfficientNet: ``efficientnet_b0``, ``efficientnet_lite1``, ...
        width: factor on the channels of MobileNetV2; an EfficientNet's is a part of its name.
        blocks: kept of a truncated backbone; null: all but those of the last stage.
    """

    name: str = MOBILENET
    width: float = 1.0
    blocks: int | None = None

    def __post_init__(self) -> None:
        one_of("name", self.name, NAMES)
        in_range("width", self.width, *WIDTH_LIMITS)
        if self.name != MOBILENET and self.width != 1:
            raise ValueError(f"width must be 1: that of {self.name} is a part of its name")
        if self.blocks is not None:
            in_range("blocks", self.blocks, FEWEST_BLOCKS, self._all_blocks())

    @classmethod
    def from_settings(cls, value: Any, where: str = "backbone") -> BackboneOptions:
        """Read a mapping of options, or a name in BACKBONES or NAMES.

        Raises:
            ValueError: an option is unknown or impossible.
        """
        if not isinstance(value, str):
            return from_plain(cls, value, where)
        one_of(where, value, (*BACKBONES, MOBILENET))
        family, _, percent = value.rpartition("_")
        return cls(family, int(percent) / 100) if family == MOBILENET else cls(value)

    def build(self, complete: bool = False, uneven: bool = False) -> MobileNetV2 | EfficientNet:
        """Build it with fresh weights; see MobileNetV2 for ``complete`` and ``uneven``."""
        if self.name == MOBILENET:
            return MobileNetV2(self.width, complete, uneven, self.blocks)
        return EfficientNet(self.name.removeprefix("efficientnet_"), complete, uneven, self.blocks)

    def _all_blocks(self) -> int:
        with torch.device("meta"):
            whole = BackboneOptions(self.name, self.width).build(complete=True)
        return len(whole.blocks)


BACKBONES: dict[str, Callable[..., MobileNetV2 | EfficientNet]] = {
    f"{MOBILENET}_{round(100 * width):03}": partial(MobileNetV2, width) for width in WIDTHS
} | {f"efficientnet_{variant}": partial(EfficientNet, variant) for variant in SCALES}


@dataclass(frozen=True)
class YoloRetConfig:
    """What one YOLO-ReT variant is made of.

    Attributes:
        backbone: see ``BackboneOptions``, or a name in BACKBONES.
        truncated: leave out the backbone's last stage and final 1x1 convolution.
        rfcr: with raw feature collection and redistribution.
        shortcut: RFCR collects the stride-4 map too.
        neck: a name that ``build_neck`` knows.
        uneven: the backbone pads as TensorFlow does, for weights that come from there.
    """

    num_classes: int = 20
    backbone: BackboneOptions = BackboneOptions(width=0.75)
    truncated: bool = True
    rfcr: bool = True
    shortcut: bool = True
    neck: NeckName = "panet"
    uneven: bool = False
    grid: AnchorGrid = AnchorGrid()

    def __post_init__(self) -> None:
        if isinstance(self.backbone, str):
            backbone = BackboneOptions.from_settings(self.backbone)
            object.__setattr__(self, "backbone", backbone)
        one_of("neck", self.neck, get_args(NeckName))
        if self.backbone.blocks is not None and not self.truncated:
            raise ValueError("truncated must be true where backbone.blocks says how much is kept")


class YoloRet(nn.Module):
    """Images (N, 3, H, W), RGB in 0..1, to raw maps (N, A*(5+C), H/s, W/s) of strides 8, 16, 32."""

    def __init__(self, config: YoloRetConfig) -> None:
        super().__init__()
        self.grid = config.grid
        self.num_classes = config.num_classes
        self.first_tap = 0 if config.rfcr and config.shortcut else 1
        outputs = self.grid.per_cell * (5 + config.num_classes)
        self.backbone = config.backbone.build(not config.truncated, config.uneven)
        channels = self.backbone.channels
        widened = REDISTRIBUTED if config.rfcr else 0
        self.collection = (
            RawFeatureCollection(channels[self.first_tap :]) if config.rfcr else nn.Identity()
        )
        s8, s16, s32 = (c + widened for c in channels[1:])
        self.neck = build_neck(config.neck, (s8, s16, s32), outputs)
        self.heads = nn.ModuleList(nn.Conv2d(outputs, outputs, 1, bias=False) for _ in range(3))
        self._expect_few_objects()

    def _expect_few_objects(self) -> None:
        """Start with a low objectness. The last layers have no bias: the norms before them have."""
        for head, unit in zip(self.heads, self.neck.last_units, strict=True):
            assert isinstance(head, nn.Conv2d)
            nn.init.eye_(head.weight.data[:, :, 0, 0])
            nn.init.constant_(unit.last_norm.bias[4 :: 5 + self.num_classes], RARE_OBJECT_LOGIT)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.neck(self.collection(self.backbone(images)[self.first_tap :]))
        return [head(m) for head, m in zip(self.heads, maps, strict=True)]


REMARK = (
    "the authors' code, followed here, is larger than their table; without the neck's bottom-up "
    'path (`neck="fpn"`) it is {} MiB with statistics'
)

# The loss of paper and code is that of LossSettings' defaults.
DETECTORS = (
    DetectorSpec(
        "yolo_ret_m075",
        YoloRet,
        YoloRetConfig(),
        recipe="yolo_ret_m075_paper",
        published=Published(
            YOLO_RET, "VOC 2007", 320, {416: 72.39, 320: 68.75, 224: 60.77}, 5.2,
            remark=REMARK.format("5.23"),
            fps={NANO: {416: 19.87, 320: 33.19, 224: 55.16}, NX: {320: 71.64}, AGX: {320: 95.97}},
            also={"COCO 2017": {416: 36.44, 320: 34.91, 224: 30.76}},
        ),
    ),
    # Its backbone has as many blocks as its smaller sister's, which the recipe counts.
    DetectorSpec(
        "yolo_ret_m14",
        YoloRet,
        YoloRetConfig(backbone=BackboneOptions(width=1.4)),
        recipe="yolo_ret_m075_paper",
        published=Published(
            YOLO_RET, "VOC 2007", 320, {416: 73.32, 320: 70.35, 224: 62.91}, 12.3,
            remark=REMARK.format("12.51"),
            fps={NANO: {416: 13.17, 320: 23.01, 224: 43.16}, NX: {320: 65.37}, AGX: {320: 93.49}},
            also={"COCO 2017": {416: 36.52, 320: 35.77, 224: 31.63}},
        ),
    ),
    DetectorSpec(
        "yolo_ret_eb3",
        YoloRet,
        YoloRetConfig(backbone=BackboneOptions("efficientnet_b3")),
        recipe="yolo_ret_eb3_paper",
        published=Published(
            YOLO_RET, "VOC 2007", 320, {416: 76.49, 320: 72.96, 224: 65.52}, 28.3,
            remark=REMARK.format("28.79") + "; another of its tables has 47.07 FPS on Xavier NX",
            fps={NANO: {416: 6.35, 320: 10.96, 224: 18.57}, NX: {320: 44.59}, AGX: {320: 75.61}},
            also={"COCO 2017": {416: 39.12, 320: 36.51, 224: 33.11}},
        ),
    ),
)  # fmt: skip
