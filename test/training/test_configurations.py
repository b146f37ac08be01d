# SPDX-License-Identifier: Apache-2.0
"""Rows of the papers' tables: their counts, by formulas of their own."""

from __future__ import annotations

import math
import sys

import pytest
import torch

from training.detectors.complexity import macs, parameters
from training.detectors.registry import DETECTORS, build
from training.detectors.variant import Variant
from training.studies import configurations
from training.studies.configurations import ROWS

SIDE = 64


class Tally:
    """Adds up parameters and multiply-accumulates."""

    def __init__(self) -> None:
        self.values = self.macs = 0

    def conv(self, i: int, o: int, side: int, k: int = 1, groups: int = 1, extra: int = 2) -> int:
        """Add a convolution with batch norm (two values a channel); return its channels."""
        self.values += i // groups * o * k * k + extra * o
        self.macs += i // groups * o * k * k * side * side
        return o

    def depthwise(self, c: int, side: int, k: int) -> None:
        self.conv(c, c, side, k, groups=c)

    def attention(self, c: int, hidden: int) -> None:
        """Add squeeze-and-excitation with biases."""
        self.values += 2 * c * hidden + hidden + c
        self.macs += 2 * c * hidden


def divisible(c: float) -> int:
    rounded = max(8, int(c + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * c else rounded


def inverted(t: Tally, i: int, o: int, side: int, k: int, stride: int, expand: int, se: int) -> int:
    hidden = i * expand
    if expand > 1:
        t.conv(i, hidden, side)
    side //= stride
    t.depthwise(hidden, side, k)
    if se:
        t.attention(hidden, se)
    return t.conv(hidden, o, side)


MOBILENET = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
             (6, 160, 3, 2), (6, 320, 1, 1)]  # fmt: skip
EFFICIENTNET = [(1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
                (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)]  # fmt: skip
SCALES = {"b0": (1, 1), "b1": (1, 1.1), "b2": (1.1, 1.2), "b3": (1.2, 1.4)}


def backbone(t: Tally, options, truncated: bool) -> list[int]:
    """Add a backbone; return the channels of strides 4, 8, 16 and 32."""
    mobile = options.name == "mobilenet_v2"
    width, depth = (
        (options.width, 1) if mobile else SCALES[options.name.removeprefix("efficientnet_")]
    )
    stages = [(*row, 3) for row in MOBILENET] if mobile else EFFICIENTNET
    side = SIDE // 2
    c = t.conv(3, divisible(32 * width), side, 3)
    found = {}
    for e, o, repeats, s, k in stages[:6] if truncated else stages:
        for repeat in range(math.ceil(repeats * depth)):
            stride = 1 if repeat else s
            se = 0 if mobile else c // 4
            c = inverted(t, c, divisible(o * width), side, k, stride, e, se)
            side //= stride
        found[side] = c
    if not truncated:
        wide = 1280 * (max(1, width) if mobile else width)
        found[side] = t.conv(c, divisible(wide), side)
    return [found[SIDE // stride] for stride in (4, 8, 16, 32)]


def rfcr(t: Tally, channels: list[int]) -> None:
    for c, stride in zip(channels, (4, 8, 16, 32)[-len(channels) :], strict=True):
        # stride 4 is reduced to 16 before its 1x1, stride 8 after it
        side = {4: SIDE // 16, 8: SIDE // 8, 16: SIDE // 16, 32: SIDE // 32}[stride]
        t.conv(c, 48, side, extra=0)
    t.values += len(channels)
    t.depthwise(48, SIDE // 16, 5)
    t.conv(48, 96, SIDE // 16)


def head(t: Tally, i: int, hidden: int, o: int, side: int) -> int:
    t.conv(i, hidden, side)
    t.depthwise(hidden, side, 3)
    t.attention(hidden, hidden // 4)
    return t.conv(hidden, o, side)


def neck(t: Tally, name: str, channels: list[int], o: int) -> None:
    s8, s16, s32 = SIDE // 8, SIDE // 16, SIDE // 32
    c8, c16, c32 = channels
    if name == "none":
        for c, hidden, side in ((c8, 128, s8), (c16, 256, s16), (c32, 512, s32)):
            head(t, c, hidden, o, side)
    elif name.startswith("bifpn"):
        for c, side in zip(channels, (s8, s16, s32), strict=True):
            t.conv(c, 64, side)
        for _ in range(int(name[-1])):
            for inputs, side in ((2, s16), (2, s8), (3, s16), (2, s32)):
                t.values += inputs
                t.depthwise(64, side, 3)
                t.conv(64, 64, side)
        neck(t, "none", [64, 64, 64], o)
    else:
        head(t, c32, 512, o, s32)
        head(t, c16 + t.conv(o, 256, s32), 256, o, s16)
        head(t, c8 + t.conv(o, 128, s16), 128, o, s8)
        if name == "panet":
            head(t, o, 128, o, s8)
            head(t, o + t.conv(o, 128, s8), 256, o, s16)
            head(t, o + t.conv(o, 256, s16), 512, o, s32)


def yolo_ret(config) -> Tally:
    t, o = Tally(), 3 * (5 + config.num_classes)
    channels = backbone(t, config.backbone, config.truncated)
    if config.rfcr:
        rfcr(t, channels if config.shortcut else channels[1:])
    neck(t, config.neck, [c + 96 * config.rfcr for c in channels[1:]], o)
    for stride in (8, 16, 32):
        t.conv(o, o, SIDE // stride, extra=0)
    return t


def layer(t: Tally, kind: str, i: int, o: int, side: int, k: int) -> int:
    if kind == "conv":
        return t.conv(i, o, side, k)
    if kind == "dsconv":
        t.depthwise(i, side, k)
        return t.conv(i, o, side)
    return inverted(t, i, o, side, k, 1, 2, max(1, i // 16))


def micro_yolo(config) -> Tally:
    t, side, c, o = Tally(), SIDE, 3, 3 * (5 + config.num_classes)
    widths = []
    for row in config.trunk:
        c = layer(t, row.kind, c, row.outputs, side, row.kernel)
        widths.append(c)
        side = max(side // 2, SIDE // 32)
    for row in config.deep:
        c = layer(t, row.kind, c, row.outputs, side, row.kernel)
    t.conv(
        layer(t, config.s32.kind, c, config.s32.outputs, side, config.s32.kernel), o, side, extra=1
    )
    up = t.conv(c, 128, side)
    c = layer(t, config.s16.kind, up + widths[4], config.s16.outputs, 2 * side, config.s16.kernel)
    t.conv(c, o, 2 * side, extra=1)
    return t


@pytest.mark.parametrize("name", ROWS)
def test_the_counts_of_a_row_are_those_of_the_formulas(name):
    variant = ROWS[name]
    with torch.device("meta"):
        network = variant.build()
    expected = (micro_yolo if variant.name == "micro_yolo" else yolo_ret)(variant.config)
    assert parameters(network) == expected.values
    assert macs(network, SIDE, SIDE) == expected.macs


def test_every_row_can_be_given_to_a_command(monkeypatch):
    # that each can be built is tested above, and takes its time
    monkeypatch.setattr("training.detectors.variant._check", lambda *_: None)
    for name, variant in ROWS.items():
        assert Variant.parse(str(variant)) == variant, name
    assert len(set(map(str, ROWS.values()))) > len(ROWS) - 8, "few rows are in two tables"


def test_the_tables_begin_and_end_where_the_papers_do():
    for name in ("m075", "m14", "eb3"):
        assert str(ROWS[f"yolo_ret_table4_{name}_shortcut"]) == f"yolo_ret_{name}"
    assert str(ROWS["micro_yolo_table2_from_3"]) == "micro_yolo"
    with torch.device("meta"):
        first, tiny = ROWS["micro_yolo_table1_conv"].build(), build("tiny_yolov3", num_classes=80)
    assert parameters(first) == parameters(tiny) == 8_852_366
    assert macs(first, 416, 416) == macs(tiny, 416, 416)
    assert DETECTORS["micro_yolo"].config == ROWS["micro_yolo_table2_from_3"].config


def test_the_command_prints_rows_by_the_begin_of_their_names(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["configurations", "yolo_ret_table3_fpn"])
    monkeypatch.setenv("COLUMNS", "250")
    configurations.main()
    printed = capsys.readouterr().out
    assert "{name: yolo_ret_m075, rfcr: false, neck: fpn}" in printed
    monkeypatch.setattr(sys, "argv", ["configurations", "yolo_ret_table9"])
    with pytest.raises(SystemExit):
        configurations.main()
    assert "no row begins with 'yolo_ret_table9'" in capsys.readouterr().err
