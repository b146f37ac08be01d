# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from training.detectors.anchor_grid import flatten
from training.detectors.blocks import ConvNormAct, SpatialPyramidPooling, steady_pool2
from training.detectors.micro_yolo import MicroYolo, MicroYoloConfig
from training.detectors.registry import DETECTORS, build
from training.detectors.yolo_ret import BACKBONES

SIZES = [(224, 224), (160, 288)]
NECKS = ("none", "fpn", "panet", "bifpn1", "bifpn2", "bifpn3")


def shapes(detector: torch.nn.Module, height: int, width: int, images: int = 1):
    """Those of a run on the CPU, where it is left: on "meta" it would take ten times as long."""
    if next(detector.parameters()).is_meta:
        detector.to_empty(device="cpu")
    with torch.no_grad():
        maps = detector.eval()(torch.zeros(images, 3, height, width))
    return [tuple(m.shape) for m in maps]


def expected_shapes(detector: torch.nn.Module, height: int, width: int, images: int = 1):
    grid = detector.grid
    channels = grid.per_cell * (5 + detector.num_classes)
    return [(images, channels, height // s, width // s) for s in grid.strides]


@pytest.mark.parametrize("name", DETECTORS)
def test_maps_have_the_shapes_of_their_strides(name):
    with torch.device("meta"):
        detector = build(name, num_classes=7)
    for height, width in SIZES:
        assert shapes(detector, height, width) == expected_shapes(detector, height, width)


@pytest.mark.parametrize("name", DETECTORS)
def test_every_parameter_takes_part_and_few_objects_are_expected(name):
    detector = build(name, num_classes=2)
    maps = detector(torch.rand(2, 3, 64, 64))
    sum(m.square().sum() for m in maps).backward()
    unused = [n for n, p in detector.named_parameters() if p.grad is None]
    assert unused == []
    rows = flatten(maps, detector.grid.per_cell)
    assert rows.isfinite().all()
    assert rows[..., 4].sigmoid().mean() < 0.05


@pytest.mark.parametrize("name", DETECTORS)
def test_the_trainer_finds_the_backbone(name):
    with torch.device("meta"):
        backbone = build(name).backbone
    assert isinstance(backbone.stem, ConvNormAct)
    assert len(backbone.blocks) >= 3


@pytest.mark.parametrize("truncated", [True, False], ids=["truncated", "complete"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_yolo_ret_on_every_backbone(backbone, truncated):
    with torch.device("meta"):
        detector = build("yolo_ret_m075", backbone=backbone, truncated=truncated)
    assert shapes(detector, 160, 224) == expected_shapes(detector, 160, 224)


@pytest.mark.parametrize("collection", [(False, False), (True, False), (True, True)], ids=str)
@pytest.mark.parametrize("neck", NECKS)
def test_yolo_ret_with_every_neck(neck, collection):
    rfcr, shortcut = collection
    with torch.device("meta"):
        detector = build("yolo_ret_m075", neck=neck, rfcr=rfcr, shortcut=shortcut)
    assert all(p.device.type == "meta" for p in detector.parameters())
    assert shapes(detector, 160, 224) == expected_shapes(detector, 160, 224)


def test_each_part_of_the_ablation_costs_something():
    def count(**changes):
        with torch.device("meta"):
            return sum(p.numel() for p in build("yolo_ret_m075", **changes).parameters())

    plain, three, four = count(rfcr=False), count(shortcut=False), count()
    # the fourth input: 1x1 of 24 channels to 48, and its weight
    assert plain < three == four - 24 * 48 - 1
    necks = [count(neck=name) for name in ("none", "fpn", "panet")]
    assert necks == sorted(set(necks))
    bifpn = [count(neck=f"bifpn{n}") for n in (1, 2, 3)]
    steps = {b - a for a, b in pairwise(bifpn)}
    assert len(steps) == 1 and steps.pop() > 0


@pytest.mark.parametrize(
    "changes, message",
    [({"backbone": "resnet"}, "mobilenet_v2_075"), ({"neck": "bifpn4"}, "bifpn3")],
)
def test_an_unknown_part_is_refused_with_the_choices(changes, message):
    with pytest.raises(ValueError, match=message):
        build("yolo_ret_m075", **changes)


def test_kernel_search_of_micro_yolo_changes_kernels_only():
    config = MicroYoloConfig()
    assert config.with_kernels(3, 5, 3, 5, 3) == config
    with torch.device("meta"):
        network = MicroYolo(config.with_kernels(5, 5, 5, 5, 5))
    assert {block.depthwise.conv.kernel_size for block in network.backbone.blocks} == {(5, 5)}
    assert shapes(network, 160, 224) == expected_shapes(network, 160, 224)


@torch.no_grad()
def test_steady_pool_is_darknets():
    x = torch.randn(1, 2, 5, 6) - 3
    pooled = steady_pool2(x)
    assert pooled.shape == x.shape
    for y in range(5):
        for column in range(6):
            window = x[..., y : y + 2, column : column + 2].amax((2, 3))
            assert torch.equal(pooled[..., y, column], window)


def test_pyramid_keeps_darknets_order():
    x = torch.zeros(1, 1, 20, 20)
    x[..., 10, 10] = 1
    reached = [int(channel.sum()) for channel in SpatialPyramidPooling()(x)[0]]
    assert reached == [81, 25, 9, 1]


def test_uneven_padding_is_tensorflows():
    unit = ConvNormAct(1, 1, 3, 2, act="linear", uneven=True).eval()
    torch.nn.init.ones_(unit.conv.weight)
    x = torch.ones(1, 1, 4, 4)
    # windows begin at 0 and 2; only the last one reaches out of the map
    expected = torch.tensor([[9.0, 6.0], [6.0, 4.0]]) * (1 + unit.norm.eps) ** -0.5
    torch.testing.assert_close(unit(x)[0, 0], expected)
