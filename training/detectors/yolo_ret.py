# SPDX-License-Identifier: Apache-2.0
"""YOLO-ReT (Ganesh et al., 2021): truncated backbone, RFCR, PANet neck, YOLOv3 head.

The graph follows the authors' released code where it and the paper differ; its float32 size is
larger than the paper's table (7.08 MiB for M0.75 with 20 classes against the published 5.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from compact_yolo_ros.model.published import Published
from training.detectors.anchor_grid import RARE_OBJECT_LOGIT, AnchorGrid
from training.detectors.efficientnet import SCALES, EfficientNet
from training.detectors.mobilenet_v2 import MobileNetV2
from training.detectors.necks import build_neck
from training.detectors.publications import AGX, NANO, NX, YOLO_RET
from training.detectors.rfcr import REDISTRIBUTED, RawFeatureCollection
from training.detectors.spec import DetectorSpec

BACKBONES: dict[str, Callable[..., MobileNetV2 | EfficientNet]] = {
    f"mobilenet_v2_{round(100 * width):03}": partial(MobileNetV2, width)
    for width in (0.5, 0.75, 1.0, 1.4)
} | {f"efficientnet_{variant}": partial(EfficientNet, variant) for variant in SCALES}


@dataclass(frozen=True)
class YoloRetConfig:
    """What one YOLO-ReT variant is made of.

    Attributes:
        backbone: a name in BACKBONES.
        truncated: leave out the backbone's last stage and final 1x1 convolution.
        rfcr: with raw feature collection and redistribution.
        shortcut: RFCR collects the stride-4 map too.
        neck: a name that ``build_neck`` knows.
        uneven: the backbone pads as TensorFlow does, for weights that come from there.
    """

    num_classes: int = 20
    backbone: str = "mobilenet_v2_075"
    truncated: bool = True
    rfcr: bool = True
    shortcut: bool = True
    neck: str = "panet"
    uneven: bool = False
    grid: AnchorGrid = AnchorGrid()


class YoloRet(nn.Module):
    """Images (N, 3, H, W), RGB in 0..1, to raw maps (N, A*(5+C), H/s, W/s) of strides 8, 16, 32."""

    def __init__(self, config: YoloRetConfig) -> None:
        super().__init__()
        if config.backbone not in BACKBONES:
            raise ValueError(
                f"unknown backbone {config.backbone!r}: choose one of {', '.join(BACKBONES)}"
            )
        self.grid = config.grid
        self.num_classes = config.num_classes
        self.first_tap = 0 if config.rfcr and config.shortcut else 1
        outputs = self.grid.per_cell * (5 + config.num_classes)
        make_backbone = BACKBONES[config.backbone]
        self.backbone = make_backbone(complete=not config.truncated, uneven=config.uneven)
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
        ),
    ),
    # Its backbone has as many blocks as its smaller sister's, which the recipe counts.
    DetectorSpec(
        "yolo_ret_m14",
        YoloRet,
        YoloRetConfig(backbone="mobilenet_v2_140"),
        recipe="yolo_ret_m075_paper",
        published=Published(
            YOLO_RET, "VOC 2007", 320, {416: 73.32, 320: 70.35, 224: 62.91}, 12.3,
            remark=REMARK.format("12.51"),
            fps={NANO: {416: 13.17, 320: 23.01, 224: 43.16}, NX: {320: 65.37}, AGX: {320: 93.49}},
        ),
    ),
    DetectorSpec(
        "yolo_ret_eb3",
        YoloRet,
        YoloRetConfig(backbone="efficientnet_b3"),
        recipe="yolo_ret_eb3_paper",
        published=Published(
            YOLO_RET, "VOC 2007", 320, {416: 76.49, 320: 72.96, 224: 65.52}, 28.3,
            remark=REMARK.format("28.79"),
            fps={NANO: {416: 6.35, 320: 10.96, 224: 18.57}, NX: {320: 44.59}, AGX: {320: 75.61}},
        ),
    ),
)  # fmt: skip
