# SPDX-License-Identifier: Apache-2.0
"""Channels can be taken out of every detector: what is left computes what the whole computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kinds import KINDS, shorter
from torch import nn

from training.detectors.channel_graph import narrow
from training.detectors.variant import Variant


def half(width: int, seed: int) -> np.ndarray:
    """Every second channel or so, in another place for each group."""
    places = np.random.default_rng(seed).permutation(width)[: max(1, width // 2)]
    return np.sort(places)


def silence(network: nn.Module, graph, kept) -> None:
    """Make the channels that are not kept zero, by the norms and kernels that write them."""
    left = graph.alive(kept)
    modules = dict(network.named_modules())
    for name, written in graph.writes.items():
        gone = torch.from_numpy(~left[written])
        for parameter in modules[name].parameters(recurse=False):
            parameter.data[gone] = 0


@torch.no_grad()
@pytest.mark.parametrize("name", KINDS)
def test_without_channels_that_are_zero_the_outputs_are_the_same(name):
    torch.manual_seed(0)
    whole = shorter(name)
    detector, graph = whole.build(3).eval(), whole.graph(3)
    for norm in detector.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_var.uniform_(0.5, 2)
            norm.weight.uniform_(0.5, 1.5)
    kept = {g: half(width, seed) for seed, (g, width) in enumerate(graph.widths().items())}
    before = sum(p.numel() for p in detector.parameters())
    silence(detector, graph, kept)
    images = torch.rand(1, 3, 64, 64)
    expected = detector(images)
    narrow(detector, graph, kept)
    for found, map_ in zip(detector(images), expected, strict=True):
        torch.testing.assert_close(found, map_, rtol=1e-4, atol=1e-5)
    assert map_.std() > 0
    assert sum(p.numel() for p in detector.parameters()) < 0.5 * before
    with torch.device("meta"):
        rebuilt = Variant.from_settings(
            {"name": name, **whole.options, "channels": {g: len(kept[g]) for g in kept}}
        ).build(3)
    shapes = {key: value.shape for key, value in rebuilt.state_dict().items()}
    assert shapes == {key: value.shape for key, value in detector.state_dict().items()}
