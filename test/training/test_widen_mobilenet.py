# SPDX-License-Identifier: Apache-2.0
"""MobileNetV2 is made wider without a change of what it computes."""

from __future__ import annotations

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from lively_mobilenet import images, lively_mobilenet
from torch import nn

from training.detectors.blocks import inverted_residuals
from training.detectors.mobilenet_v2 import MobileNetV2
from training.detectors.variant import Variant
from training.weights import widen_mobilenet
from training.weights.backbone_file import fill_backbone, read_backbone
from training.weights.widen_mobilenet import widen


@pytest.fixture(scope="module")
def source() -> MobileNetV2:
    return lively_mobilenet()


@pytest.fixture(scope="module")
def wide(source) -> MobileNetV2:
    model = MobileNetV2(1.4, uneven=True)
    widen(source, model, images())
    return model.eval()


def test_the_first_channels_are_those_of_the_source(source, wide):
    for ours, theirs in zip(wide(images()), source(images()), strict=True):
        assert ours.shape[1] > theirs.shape[1]
        error = ours[:, : theirs.shape[1]] - theirs
        assert error.std() < 1e-3 * theirs.std()


def test_copies_learn_differently(wide):
    """Else the wide network would have no more features than its source."""
    wide.zero_grad()
    sum(map_.square().mean() for map_ in wide(images())).backward()
    for block in inverted_residuals(wide.blocks)[1:-1]:
        kernels = block.depthwise.conv.weight.flatten(1)
        gradients = nn.functional.normalize(block.depthwise.conv.weight.grad.flatten(1))
        _, sources, counts = kernels.unique(dim=0, return_inverse=True, return_counts=True)
        pairs = [torch.nonzero(sources == index)[:, 0] for index in torch.nonzero(counts > 1)[:, 0]]
        alike = torch.stack([gradients[a] @ gradients[b] for a, b in pairs])
        assert len(alike) == block.depthwise.conv.out_channels - len(counts)
        assert alike.median() < 0.999


def test_channels_without_effect_are_not_copied(source):
    changed = copy.deepcopy(source)
    useless = torch.arange(0, 192, 3)
    inverted_residuals(changed.blocks)[4].project.conv.weight[:, useless] = 0
    wide = MobileNetV2(1.4, uneven=True)
    widen(changed, wide, images())
    theirs, ours = (
        nn.functional.normalize(
            inverted_residuals(model.blocks)[4].depthwise.conv.weight.flatten(1)
        )
        for model in (changed, wide)
    )
    similarity = ours[192:] @ theirs.T
    copied = similarity.argmax(1)
    assert similarity.max(1).values.min() > 0.999
    assert not set(copied.tolist()) & set(useless.tolist())


@pytest.mark.parametrize("width", [0.75, 2.0])
def test_a_width_that_copies_cannot_reach_gives_one_sentence(source, width):
    with pytest.raises(ValueError, match=r"give a width from 1\.0 to 1\.5"):
        widen(source, MobileNetV2(width, uneven=True), images())


def test_the_command_writes_the_backbone_of_yolo_ret_m14(tmp_path, monkeypatch, source):
    cv2.imwrite(str(tmp_path / "a.jpg"), np.full((64, 64, 3), 90, np.uint8))
    monkeypatch.setattr("training.weights.mobilenet_width.read_mobilenet", lambda path: source)
    out = run(tmp_path, monkeypatch, "--samples", "1", "--size", "64")
    weights = read_backbone(out)
    assert (weights.name, weights.uneven, weights.folded) == ("mobilenet_v2_140", True, False)
    fill_backbone(
        Variant.parse("{name: yolo_ret_m14, uneven: true}").build(5).backbone, weights, out
    )


def test_a_source_that_is_none_gives_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=r"training\.weights\.widen_mobilenet: .*gone\.npz"):
        run(tmp_path, monkeypatch)


def run(folder: Path, monkeypatch, *options: str) -> Path:
    """Run the command with the pictures of a folder; return what it is to write."""
    words = ["--source", folder / "gone.npz", "--images", folder, "--out", folder / "b.pt"]
    monkeypatch.setattr("sys.argv", ["widen", *map(str, words), *options])
    widen_mobilenet.main()
    return folder / "b.pt"
