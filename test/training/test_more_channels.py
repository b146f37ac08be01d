# SPDX-License-Identifier: Apache-2.0
"""A detector starts from the same network with fewer channels, and finds what that one finds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.detectors.registry import DETECTORS
from training.detectors.variant import Variant
from training.loop.checkpoint import save_checkpoint
from training.studies.prune import layers, without
from training.weights.more_channels import widened
from training.weights.origin import read_origin

CLASSES = ["a", "b", "c"]


def lively(detector: Variant) -> nn.Module:
    """With norms that differ from channel to channel, as after training."""
    torch.manual_seed(0)
    network = detector.build(len(CLASSES)).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values in (norm.weight.data, norm.running_var):
                values.uniform_(0.5, 1.5)
            for values in (norm.bias.data, norm.running_mean):
                values.normal_(0, 0.3)
    return network


@torch.no_grad()
def assert_same(network: nn.Module, wide: nn.Module) -> None:
    images = torch.rand(2, 3, 64, 96)
    for found, expected in zip(wide.eval()(images), network(images), strict=True):
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
        assert expected.std() > 0


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_with_fewer_channels_becomes_the_published_one(name):
    slim = Variant.from_settings(name)
    for layer, width in layers(slim.graph(3)).items():
        slim = without(slim, layer, width * 2 // 5, 3)
    network, wide = lively(slim), DETECTORS[name].make(num_classes=3)
    assert sum(v.numel() for v in network.parameters()) < sum(v.numel() for v in wide.parameters())
    wide.load_state_dict(widened(network, slim, Variant.from_settings(name)))
    assert_same(network, wide)


def test_a_larger_one_of_a_family_starts_from_the_smaller(tmp_path):
    small, large = Variant.from_settings("yolo_ret_m075"), Variant.from_settings("yolo_ret_m14")
    network, path = lively(small), tmp_path / "small.pt"
    content = {"detector": str(small), "classes": CLASSES, "average": network.state_dict()}
    save_checkpoint(path, content)
    assert_same(network, read_origin(str(path), large).build(str(path)))


def test_copies_learn_differently():
    """Else the wide network would have no more features than the narrow one."""
    narrow, detector = (Variant.parse(f"{{name: yolov4_tiny, width: {w}}}") for w in (0.1, 0.2))
    wide = detector.build(3).eval()
    wide.load_state_dict(widened(lively(narrow), narrow, detector))
    sum(map_.square().mean() for map_ in wide(torch.rand(2, 3, 64, 64))).backward()
    norm = wide.backbone.last.norm
    _, sources = norm.running_var.unique(return_inverse=True)
    pairs = [torch.nonzero(sources == index)[:, 0] for index in range(int(sources.max()) + 1)]
    assert all(len(pair) == 2 for pair in pairs)
    gradients = nn.functional.normalize(wide.backbone.last.conv.weight.grad.flatten(1))
    alike = torch.stack([gradients[one] @ gradients[other] for one, other in pairs])
    assert alike.median() < 0.999


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("yolo_ret_m14", "yolo_ret_m075"),
        ("yolo_ret_m075", "{name: yolo_ret_m14, uneven: true}"),
        ("yolo_ret_m075", "tiny_yolov3"),
        ("yolo_ret_m075", "{name: yolo_ret_m14, shortcut: false}"),
        ("{name: yolo_ret_m075, shortcut: false}", "yolo_ret_m14"),
    ],
)
def test_another_network_is_refused(before, after):
    before, after = Variant.parse(before), Variant.parse(after)
    with pytest.raises(ValueError, match="with more channels"):
        widened(before.build(2), before, after)
