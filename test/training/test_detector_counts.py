# SPDX-License-Identifier: Apache-2.0
"""Every detector is what its paper describes: exact counts, on modules without weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from training.detectors.complexity import (
    deployed_values,
    kernel_values,
    macs,
    parameters,
    stored_values,
)
from training.detectors.registry import DETECTORS, build
from training.detectors.yolo_nano import Ep, Pep, Stage, YoloNano, YoloNanoConfig
from training.detectors.yolo_ret import BACKBONES
from training.studies.backbone_costs import NETWORKS, TABLE

MIB = 2**20


def on_meta(make: Callable[..., nn.Module], *args: Any, **changes: Any) -> nn.Module:
    with torch.device("meta"):
        return make(*args, **changes)


# detector, changes, parameters, stored values, {size: exact or rounded GMAC}
ROWS = [
    ("yolo_ret_m075", {}, 1_857_075, 1_887_687, {224: 0.310, 320: 0.633, 416: 1.069}),
    ("yolo_ret_m075", {"num_classes": 80}, 2_659_515, 2_692_287, {}),
    ("yolo_ret_m14", {}, 3_750_595, 3_798_567, {224: 0.637, 320: 1.299, 416: 2.196}),
    ("yolo_ret_m14", {"num_classes": 80}, 4_553_035, 4_603_167, {}),
    ("yolo_ret_eb3", {}, 7_986_353, 8_064_149, {224: 0.942, 320: 1.921, 416: 3.246}),
    ("yolo_ret_eb3", {"num_classes": 80}, 8_788_793, 8_868_749, {}),
    ("yolo_nano", {}, 4_236_750, 4_279_462, {416: 2.301}),
    ("micro_yolo", {}, 2_548_565, 2_565_045, {416: 1.055}),
    ("micro_yolo_pruned", {}, 1_850_577, 1_864_613, {416: 0.806}),
    ("yolo_fastest_v1_0", {}, 302_270, 315_726, {320: 0.1186}),
    ("yolo_fastest_v1_0", {"num_classes": 80}, 342_950, 356_406, {}),
    ("yolo_fastest_xl_v1_0", {}, 847_206, 872_006, {320: 0.3507}),
    ("yolo_fastest_xl_v1_0", {"num_classes": 80}, 887_886, 912_686, {}),
    ("yolo_fastest", {}, 332_798, 346_062, {320: 0.1254}),
    ("yolo_fastest_xl", {}, 898_686, 923_486, {320: 0.3617}),
    ("tiny_yolov2", {}, 15_861_773, 15_867_885, {416: 3.4855}),
    ("tiny_yolov3", {}, 8_713_766, 8_720_134, {416: 2.736}),
    ("tiny_yolov3", {"num_classes": 80}, 8_852_366, 8_858_734, {416: 2.7825}),
    ("tinier_yolo", {}, 2_202_854, 2_211_398, {416: 1.277}),
    ("tinier_yolo", {"num_classes": 80, "squeeze_norm": True}, 2_595_342, 2_604_782, {416: 1.425}),
    ("yolov4_tiny", {}, 6_056_606, 6_062_814, {416: 3.454}),
    ("yolov4_tiny_rfcr", {}, 6_357_618, 6_364_114, {416: 3.645}),
    ("yolov4_tiny_3l", {}, 6_327_453, 6_334_045, {608: 8.868}),
    ("yolov4_tiny_3l_rfcr", {}, 6_739_057, 6_745_937, {608: 9.914}),
]


@pytest.mark.parametrize("name, changes, trained, stored, gmacs", ROWS)
def test_counts(name, changes, trained, stored, gmacs):
    detector = on_meta(build, name, **changes)
    assert parameters(detector) == trained
    assert stored_values(detector) == stored
    for size, expected in gmacs.items():
        assert macs(detector, size, size) / 1e9 == pytest.approx(expected, abs=5e-4)


def test_every_published_detector_is_counted():
    assert {row[0] for row in ROWS} == {n for n, spec in DETECTORS.items() if spec.published}


# What the papers print, with 2 operations for a multiply-accumulate: billions @ size
@pytest.mark.parametrize(
    "name, changes, size, billions",
    [
        ("tiny_yolov2", {}, 416, "6.971"),
        ("tiny_yolov3", {}, 416, "5.472"),
        ("tiny_yolov3", {"num_classes": 80}, 416, "5.565"),
        ("yolo_fastest_v1_0", {}, 320, "0.237"),
        ("yolo_fastest_xl_v1_0", {}, 320, "0.701"),
        ("yolo_fastest", {}, 320, "0.251"),
        ("yolo_fastest_xl", {}, 320, "0.723"),
        ("yolov4_tiny", {}, 416, "6.908"),
        ("yolo_nano", {}, 416, "4.603"),
    ],
)
def test_operations(name, changes, size, billions):
    operations = 2 * macs(on_meta(build, name, **changes), size, size)
    assert f"{operations / 1e9:.3f}" == billions


# Sizes as printed: published (float32 of all stored values or of the parameters)
@pytest.mark.parametrize(
    "name, changes, count, unit, printed",
    [
        ("tiny_yolov2", {}, parameters, MIB, "60.5"),
        ("tiny_yolov3", {}, stored_values, 1e6, "34.88"),
        ("tiny_yolov3", {"num_classes": 80}, stored_values, 1e6, "35.4"),
        ("tinier_yolo", {}, stored_values, 1e6, "8.85"),
        ("tinier_yolo", {"num_classes": 80, "squeeze_norm": True}, stored_values, 1e6, "10.42"),
        ("yolo_fastest_v1_0", {}, stored_values, 1e6, "1.26"),
        ("yolo_fastest_xl_v1_0", {}, stored_values, 1e6, "3.49"),
        ("yolov4_tiny", {}, parameters, MIB, "23.1"),
        ("yolo_ret_m075", {}, parameters, MIB, "7.08"),
        ("yolo_ret_m14", {}, parameters, MIB, "14.31"),
        ("yolo_ret_eb3", {}, parameters, MIB, "30.47"),
        ("yolo_ret_m075", {"neck": "fpn"}, stored_values, MIB, "5.23"),
        ("yolo_ret_m14", {"neck": "fpn"}, stored_values, MIB, "12.51"),
        ("yolo_ret_eb3", {"neck": "fpn"}, stored_values, MIB, "28.79"),
    ],
)
def test_float32_sizes(name, changes, count, unit, printed):
    size = 4 * count(on_meta(build, name, **changes)) / unit
    assert f"{size:.{len(printed.split('.')[1])}f}" == printed


@pytest.mark.parametrize(
    "name, sizes",
    [
        ("yolo_ret_m075", ("7.43", "3.68", "1.82")),
        ("yolo_ret_m14", ("15.00", "7.45", "3.70")),
        ("yolo_ret_eb3", ("31.95", "15.89", "7.89")),
    ],
)
def test_sizes_by_precision(name, sizes):
    detector = on_meta(build, name)
    values = (4 * parameters(detector), 2 * deployed_values(detector), kernel_values(detector))
    assert tuple(f"{v / 1e6:.2f}" for v in values) == sizes


@pytest.mark.parametrize(
    "name, backbone, collection",
    [
        ("yolo_ret_m075", 776_624, 17_620),
        ("yolo_ret_m14", 2_587_840, 27_220),
        ("yolo_ret_eb3", 6_819_118, 27_604),
    ],
)
def test_parts_of_yolo_ret(name, backbone, collection):
    detector = on_meta(build, name)
    assert parameters(detector.backbone) == backbone
    assert parameters(detector.collection) == collection


# The classifiers of 1000 classes that ImageNet weights are published for, less their last layer.
@pytest.mark.parametrize(
    "backbone, classifier, channels",
    [
        ("mobilenet_v2_050", 1_968_680, (16, 16, 48, 1280)),
        ("mobilenet_v2_075", 2_636_424, (24, 24, 72, 1280)),
        ("mobilenet_v2_100", 3_504_872, (24, 32, 96, 1280)),
        ("mobilenet_v2_140", 6_108_776, (32, 48, 136, 1792)),
        ("efficientnet_b0", 5_288_548, (24, 40, 112, 1280)),
        ("efficientnet_b1", 7_794_184, (24, 40, 112, 1280)),
        ("efficientnet_b2", 9_109_994, (24, 48, 120, 1408)),
        ("efficientnet_b3", 12_233_232, (32, 48, 136, 1536)),
        ("efficientnet_lite0", 4_652_008, (24, 40, 112, 1280)),
        ("efficientnet_lite1", 5_416_680, (24, 40, 112, 1280)),
        ("efficientnet_lite2", 6_092_072, (24, 48, 120, 1280)),
    ],
)
def test_complete_backbones(backbone, classifier, channels):
    network = on_meta(BACKBONES[backbone], complete=True)
    assert network.channels == channels
    assert parameters(network) + (channels[-1] + 1) * 1000 == classifier


@pytest.mark.parametrize(
    "backbone, channels",
    [
        ("mobilenet_v2_075", (24, 24, 72, 120)),
        ("mobilenet_v2_140", (32, 48, 136, 224)),
        ("efficientnet_b3", (32, 48, 136, 232)),
        ("efficientnet_lite0", (24, 40, 112, 192)),
    ],
)
def test_taps_of_truncated_backbones(backbone, channels):
    assert on_meta(BACKBONES[backbone]).channels == channels


def expand(stage: Stage, inputs: int, pep: Callable, ep: Callable) -> tuple[Stage, int]:
    """Give the modules of a stage of YOLO Nano another expansion."""
    modules = []
    for module in stage:
        if isinstance(module, Pep):
            module = replace(module, expansion=pep(inputs, module) / module.squeezed)
        elif isinstance(module, Ep):
            module = replace(module, expansion=ep(inputs, module) / inputs)
        modules.append(module)
        inputs = module.outputs or inputs
    return tuple(modules), inputs


def nano_reading(pep: Callable, ep: Callable, projected_skips: bool = False) -> YoloNanoConfig:
    config, inputs, trunk, ends = YoloNanoConfig(), 3, [], []
    for stage in config.trunk:
        stage, inputs = expand(stage, inputs, pep, ep)
        trunk.append(stage)
        ends.append(inputs)
    a, b, c = ends[2:]
    up16, width = expand(config.up16, c, pep, ep)
    neck16, d = expand(config.neck16, width + b, pep, ep)
    up8, width = expand(config.up8, d, pep, ep)
    return replace(
        config, trunk=tuple(trunk), up16=up16, neck16=neck16, up8=up8,
        neck8=expand(config.neck8, width + a, pep, ep)[0],
        head16=expand(config.head16, d, pep, ep)[0],
        head32=expand(config.head32, c, pep, ep)[0],
        projected_skips=projected_skips,
    )  # fmt: skip


# Readings of the figure that leaves the expansions out: kernel values in millions, billions @416
@pytest.mark.parametrize(
    "pep, ep, projected_skips, millions, billions",
    [
        (lambda i, m: m.squeezed, lambda i, m: i, False, "2.86", "4.06"),
        (lambda i, m: 2 * m.squeezed, lambda i, m: i, False, "3.92", "5.60"),
        (lambda i, m: m.outputs, lambda i, m: i, False, "4.20", "6.13"),
        (lambda i, m: i, lambda i, m: i, False, "4.32", "6.35"),
        (lambda i, m: 2 * m.squeezed, lambda i, m: m.outputs, True, "5.54", "7.38"),
    ],
)
def test_readings_of_yolo_nano(pep, ep, projected_skips, millions, billions):
    network = on_meta(YoloNano, nano_reading(pep, ep, projected_skips))
    assert f"{kernel_values(network) / 1e6:.2f}" == millions
    assert f"{2 * macs(network, 416, 416) / 1e9:.2f}" == billions


def test_yolo_nano_is_4_mebibytes_of_8_bit_weights():
    assert f"{kernel_values(on_meta(build, 'yolo_nano')) / MIB:.2f}" == "4.00"


@pytest.mark.parametrize(
    "name, millions",
    [
        ("ResNet50", 3858),
        ("MobileNetV2 x1.4", 582),
        ("DarkNet19", 2791),
        ("DarkNet53", 7109),
        ("CSPDarkNet53", 5003),
        ("EfficientNet-B0", 386),
        ("EfficientNet-B3", 963),
    ],
)
def test_backbone_table(name, millions):
    counted = macs(on_meta(NETWORKS[name]), 224, 224)
    assert round(counted / 1e6) == millions
    # the published counter is not named: its figures differ by up to 5 %
    assert counted / 1e6 == pytest.approx(TABLE[name][0], rel=0.05)


def test_backbone_table_has_the_known_numbers_of_parameters():
    assert parameters(on_meta(NETWORKS["ResNet50"])) == 25_557_032
    assert parameters(on_meta(NETWORKS["EfficientNet-B3"])) == 12_233_232
    assert parameters(on_meta(NETWORKS["MobileNetV2 x1.4"])) == 6_108_776


def test_counting_leaves_the_model_as_it_was():
    detector = build("yolo_fastest")
    detector.backbone.eval()
    macs(detector, 64, 64)
    assert detector.training and not detector.backbone.stem.training
    assert not any(module._forward_hooks for module in detector.modules())
