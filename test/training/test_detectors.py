# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from training.detectors.anchor_grid import AnchorGrid, cells, decode_boxes, flatten
from training.detectors.blocks import ConvNormAct, SqueezeExcite, make_divisible
from training.detectors.complexity import macs, parameters
from training.detectors.registry import DETECTORS, build, collect
from training.settings.yaml_settings import to_plain

# Counted by hand from the layer tables, and equal to the published M and G to all their digits.
COUNTS = {20: 1_857_075, 80: 2_659_515, 5: 1_686_840}
MACS_VOC = {224: 310_290_477, 320: 632_887_764, 416: 1_069_342_917}


@pytest.fixture(scope="module")
def detector() -> nn.Module:
    return build("yolo_ret_m075").eval()


@pytest.mark.parametrize("classes", COUNTS)
def test_parameters_are_exact(classes):
    assert parameters(build("yolo_ret_m075", num_classes=classes)) == COUNTS[classes]


def test_parts_have_the_parameters_of_the_paper(detector):
    assert parameters(detector.backbone) == 776_624
    assert parameters(detector.collection) == 17_620
    assert detector.backbone.channels == (24, 24, 72, 120)


@pytest.mark.parametrize("size", MACS_VOC)
def test_multiply_accumulates_are_exact(detector, size):
    assert macs(detector, size, size) == MACS_VOC[size]


def test_counting_leaves_the_model_as_it_was(detector):
    detector.train()
    macs(detector, 64, 64)
    assert detector.training
    assert not any(module._forward_hooks for module in detector.modules())
    detector.eval()


def test_a_new_detector_expects_few_objects():
    model = build("yolo_ret_m075", num_classes=3)
    rows = flatten(model(torch.rand(4, 3, 96, 96)), 3)
    assert rows[..., 4].sigmoid().mean() < 0.02


def test_an_unknown_detector_is_refused_by_name():
    with pytest.raises(ValueError, match="yolo_ret_m75.*yolo_ret_m075"):
        build("yolo_ret_m75")
    assert set(DETECTORS) >= {"yolo_ret_m075"}


def test_two_detectors_of_one_name_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="yolo_nano: there is a detector 'yolo_nano' already"):
        collect(["yolo_nano", "yolo_nano"])


def test_every_row_has_a_configuration_of_plain_values():
    for name, spec in DETECTORS.items():
        assert spec.name == name
        json.dumps(to_plain(spec.config))
        hash(spec.config)  # frozen, all the way down


@pytest.mark.parametrize("channels, rounded", [(12, 16), (18, 24), (24, 24), (72, 72), (33.6, 32)])
def test_channels_are_rounded_as_in_mobilenet(channels, rounded):
    assert make_divisible(channels) == rounded


@pytest.mark.parametrize("groups, stride", [(1, 1), (8, 2)])
def test_folded_normalisation_is_the_same_function(groups, stride):
    unit = ConvNormAct(8, 8, 3, stride, groups=groups)
    norm = unit.norm
    with torch.no_grad():
        for tensor in (norm.weight, norm.running_var):
            tensor.uniform_(0.5, 2)
        for tensor in (norm.bias, norm.running_mean):
            tensor.normal_()
    unit.eval()
    x = torch.randn(2, 8, 9, 9)
    torch.testing.assert_close(unit(x), unit.act(norm(unit.conv(x))))


def test_fixed_norms_still_learn_their_scale():
    unit = ConvNormAct(4, 4).eval()
    unit(torch.randn(2, 4, 5, 5)).sum().backward()
    assert unit.norm.weight.grad is not None and unit.norm.bias.grad is not None


def test_squeeze_excite_learns_the_function_that_it_deploys():
    attend = SqueezeExcite(8, 2)
    x = torch.randn(2, 8, 5, 7)
    with torch.no_grad():
        deployed = attend(x)
    torch.testing.assert_close(attend(x.requires_grad_()), deployed)


def test_squeeze_excite_scales_whole_channels():
    ratio = SqueezeExcite(8, 2)(torch.full((1, 8, 3, 3), 2.0)) / 2
    assert torch.allclose(ratio, ratio[..., :1, :1].expand_as(ratio))
    assert (ratio > 0).all() and (ratio < 1).all()


def test_decoding_a_known_row():
    grid = AnchorGrid()
    maps = [torch.zeros(1, 3 * 6, 64 // s, 96 // s) for s in grid.strides]
    maps[1][0, 6 + 2, 1, 2] = 0.5  # stride 16, anchor 1 (62, 45), log of the width, cell (x 2, y 1)
    boxes = decode_boxes(flatten(maps, 3), *cells(maps, grid))[0]
    row = 8 * 12 * 3 + (1 * 6 + 2) * 3 + 1
    width = 62 * torch.tensor(0.5).exp()
    expected = torch.tensor([40 - width / 2, 24 - 22.5, 40 + width / 2, 24 + 22.5])
    torch.testing.assert_close(boxes[row], expected)


def test_huge_outputs_stay_finite():
    grid = AnchorGrid()
    maps = [torch.full((1, 18, 64 // s, 64 // s), 1e4) for s in grid.strides]
    assert decode_boxes(flatten(maps, 3), *cells(maps, grid)).isfinite().all()
