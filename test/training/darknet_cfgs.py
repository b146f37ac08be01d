# SPDX-License-Identifier: Apache-2.0
"""The published detectors as darknet cfg files, from the tables of layers in their papers."""

from __future__ import annotations

V3_ANCHORS = "10,14, 23,27, 37,58, 81,82, 135,169, 344,319"
CLASSES = 2


class Cfg:
    """A cfg in the making; every method adds a layer and returns its number."""

    def __init__(self, norm: int = 1) -> None:
        self.text = "[net]\nwidth=320\nheight=320\nchannels=3\n"
        self.layers = 0
        self.norm = norm

    def add(self, kind: str, **options: object) -> int:
        body = "".join(f"{key}={value}\n" for key, value in options.items())
        self.text += f"\n[{kind}]\n{body}"
        self.layers += 1
        return self.layers - 1

    def conv(
        self, filters: int, size: int = 1, stride: int = 1, act: str = "leaky", groups=1
    ) -> int:
        return self.add(
            "convolutional", batch_normalize=1, filters=filters, size=size, stride=stride, pad=1,
            groups=groups, activation=act,
        )  # fmt: skip

    def pool(self, size: int, stride: int) -> int:
        return self.add("maxpool", size=size, stride=stride)

    def route(self, *layers: int, **options: int) -> int:
        return self.add("route", layers=",".join(map(str, layers)), **options)

    def up(self, *joined: int) -> int:
        self.add("upsample", stride=2)
        return self.route(-1, *joined)

    def yolo(self, mask: str, anchors: str = V3_ANCHORS, **options: object) -> int:
        outputs = len(mask.split(",")) * (5 + CLASSES)
        self.add("convolutional", filters=outputs, size=1, stride=1, pad=1, activation="linear")
        number = len(anchors.split(",")) // 2
        return self.add("yolo", mask=mask, anchors=anchors, classes=CLASSES, num=number, **options)


def yolo_fastest(version: str, width: int, anchors: str) -> str:
    cfg = Cfg()

    def block(hidden: int, outputs: int, stride: int, inputs: int) -> int:
        cfg.conv(hidden * width)
        cfg.conv(hidden * width, 3, stride, groups=hidden * width)
        last = cfg.conv(outputs * width, act="linear")
        if stride == 1 and inputs == outputs:
            cfg.add("dropout", probability=0.15)
            last = cfg.add("shortcut", **{"from": -5, "activation": "linear"})
        return last

    def separable(channels: int, outputs: int) -> None:
        cfg.conv(channels, 5, groups=channels)
        cfg.conv(outputs, act="linear")

    inputs = 8
    cfg.conv(8 * width, 3, 2)
    at_16 = expanded = 0
    for hidden, outputs, stride, repeats in (
        *((8, 4, 1, 2), (24, 8, 2, 1), (32, 8, 1, 2), (32, 8, 2, 1), (48, 8, 1, 2), (48, 16, 1, 1)),
        *((96, 16, 1, 4), (96, 24, 2, 1), (136, 24, 1, 4), (136, 48, 2, 1), (224, 48, 1, 5)),
    ):
        if (outputs, stride) == (48, 2):
            at_16, expanded = cfg.layers - 1, cfg.layers
        for _ in range(repeats):
            block(hidden, outputs, stride, inputs)
            inputs = outputs
    if version == "1.1":
        cfg.pool(3, 1)
        cfg.route(-2)
        cfg.pool(5, 1)
        cfg.route(-4)
        cfg.pool(9, 1)
        cfg.route(-1, -3, -5, -6)
    neck = cfg.conv(96)
    deep = 96 if version == "1.1" else 128
    separable(96, deep)
    separable(deep, deep)
    cfg.yolo("3,4,5", anchors)
    cfg.route(neck)
    if version == "1.1":
        cfg.up(at_16)
        joined = 96 + 24 * width
    else:
        cfg.up(expanded)
        joined = 96
        cfg.conv(joined)
    separable(joined, joined)
    separable(joined, joined)
    cfg.yolo("0,1,2", anchors)
    return cfg.text


def tiny_trunk(cfg: Cfg) -> int:
    """Return the layer at stride 16; the last one is its pooled map."""
    layer = 0
    for filters in (16, 32, 64, 128, 256):
        layer = cfg.conv(filters, 3)
        cfg.pool(2, 2)
    return layer


def tiny_yolov2() -> str:
    cfg = Cfg()
    tiny_trunk(cfg)
    cfg.conv(512, 3)
    cfg.pool(2, 1)
    cfg.conv(1024, 3)
    cfg.conv(1024, 3)
    cfg.add("convolutional", filters=5 * (5 + CLASSES), size=1, stride=1, activation="linear")
    anchors = "1.08,1.19, 3.42,4.41, 6.63,11.38, 9.42,5.11, 16.62,10.52"
    cfg.add("region", anchors=anchors, classes=CLASSES, num=5, coords=4, softmax=1)
    return cfg.text


def tiny_yolov3() -> str:
    cfg = Cfg()
    at_16 = tiny_trunk(cfg)
    cfg.conv(512, 3)
    cfg.pool(2, 1)
    cfg.conv(1024, 3)
    squeeze = cfg.conv(256)
    cfg.conv(512, 3)
    cfg.yolo("3,4,5")
    cfg.route(squeeze)
    cfg.conv(128)
    cfg.up(at_16)
    cfg.conv(256, 3)
    cfg.yolo("0,1,2")
    return cfg.text


def tinier_yolo(own_kinds: bool) -> str:
    """Its authors' darknet has a kind of layer for each of its routes."""
    cfg = Cfg()

    def fire(squeezed: int, expanded: int) -> int:
        squeeze = cfg.add(
            "convolutional", filters=squeezed, size=1, stride=1, pad=1, activation="leaky"
        )
        one = cfg.conv(expanded)
        joined(squeeze, kind="get_squeeze")
        three = cfg.conv(expanded, 3)
        return joined(three, one, kind="merge_expand")

    def joined(*layers: int, kind: str) -> int:
        return cfg.add(kind) if own_kinds else cfg.route(*layers)

    at_16 = tiny_trunk(cfg)
    x = cfg.layers - 1
    for number in range(5):
        out = fire(64, 256)
        if number < 4:
            x = joined(out, x, kind="dense")
    joined(at_16, kind="pass_through0")
    cfg.conv(64)
    folded = cfg.add("reorg", stride=2)
    x = joined(folded, out, kind="pass_through1")
    six = fire(64, 256)
    joined(six, x, kind="dense")
    cfg.yolo("3,4,5")
    joined(six, kind="pass_through2")
    cfg.conv(128)
    up = cfg.add("upsample", stride=2)
    y = joined(up, at_16, kind="pass_through3")
    y = joined(fire(32, 128), y, kind="dense")
    joined(fire(32, 128), y, kind="dense")
    cfg.yolo("1,2,3")
    return cfg.text


def yolov4_tiny(levels: int) -> str:
    cfg = Cfg()
    cfg.conv(32, 3, 2)
    cfg.conv(64, 3, 2)
    inner = []
    for channels in (64, 128, 256):
        whole = cfg.conv(channels, 3)
        cfg.route(whole, groups=2, group_id=1)
        first = cfg.conv(channels // 2, 3)
        second = cfg.conv(channels // 2, 3)
        cfg.route(second, first)
        inner.append(cfg.conv(channels))
        cfg.route(whole, inner[-1])
        cfg.pool(2, 2)
    cfg.conv(512, 3)
    anchors = V3_ANCHORS
    masks = ["3,4,5", "1,2,3"]
    if levels == 3:
        anchors = "12,16, 19,36, 40,28, 36,75, 76,55, 72,146, 142,110, 192,243, 459,401"
        masks = ["6,7,8", "3,4,5", "0,1,2"]
    last = cfg.conv(256)
    cfg.conv(512, 3)
    cfg.yolo(masks[0], anchors, scale_x_y=1.05)
    for mask, channels, joined in zip(masks[1:], (128, 64), (inner[2], inner[1]), strict=False):
        cfg.route(last)
        cfg.conv(channels)
        cfg.up(joined)
        last = cfg.conv(2 * channels, 3)
        cfg.yolo(mask, anchors, scale_x_y=1.05)
    return cfg.text


COCO_ANCHORS = "12,18, 37,49, 52,132, 115,73, 119,199, 242,238"
VOC_ANCHORS = "26,48, 67,84, 72,175, 189,126, 137,236, 265,259"
CFGS = {
    "yolo_fastest": yolo_fastest("1.1", 1, COCO_ANCHORS),
    "yolo_fastest_xl": yolo_fastest("1.1", 2, COCO_ANCHORS),
    "yolo_fastest_v1_0": yolo_fastest("1.0", 1, VOC_ANCHORS),
    "yolo_fastest_xl_v1_0": yolo_fastest("1.0", 2, VOC_ANCHORS),
    "tiny_yolov2": tiny_yolov2(),
    "tiny_yolov3": tiny_yolov3(),
    "tinier_yolo": tinier_yolo(own_kinds=True),
    "yolov4_tiny": yolov4_tiny(2),
    "yolov4_tiny_3l": yolov4_tiny(3),
}
