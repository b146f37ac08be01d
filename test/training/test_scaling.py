# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.detectors.complexity import kernel_values, macs
from training.detectors.yolov4_tiny import CspOsa, YoloV4TinyConfig
from training.studies.scaling import DIRECTIONS, Cost, Scale, cost, fit, main, scaled

TINY = YoloV4TinyConfig()


def test_costs_of_one_convolution():
    conv = nn.Conv2d(3, 8, 3, 2, padding=1, bias=False)
    inputs, outputs = 3 * 10 * 12, 8 * 5 * 6
    assert cost(conv, 10, 12) == Cost(
        flops=2 * 27 * outputs,
        memory_access=inputs + outputs + 27 * 8,
        convolutional_io=inputs + outputs,
    )


def test_the_base_is_yolov4_tiny():
    base = scaled(TINY, 416, Scale())
    assert base.config == TINY and base.size == 416
    assert f"{base.cost.flops / 1e9:.3f}" == "6.908"


def test_a_block_of_three_steps_has_the_papers_growth():
    block = CspOsa(64, 64)
    growths = [step.conv.out_channels for step in block.steps]
    assert growths == [32, 32]
    whole, inner = block(torch.zeros(1, 64, 8, 8))
    assert whole.shape == (1, 128, 8, 8) and inner.shape == (1, 64, 8, 8)
    # the paper's condition b/2 + k g = 2 b, with the first convolution's passed half as one of k
    assert 64 // 2 + 3 * growths[0] == 2 * 64


@pytest.mark.parametrize(
    "scale, size, flops",
    [(Scale(alpha=2), 256, 4), (Scale(gamma=2), 256, 4), (Scale(alpha=0.5), 256, 0.25)],
)
def test_promised_costs_are_kept(scale, size, flops):
    base = scaled(TINY, size, Scale()).cost.flops
    assert scale.cost == flops
    assert scaled(TINY, size, scale).cost.flops / base == pytest.approx(flops, rel=0.05)


def test_depth_adds_blocks():
    deep = scaled(TINY, 256, Scale(beta=2))
    assert deep.config.depth == 2
    assert deep.cost.flops > 1.3 * scaled(TINY, 256, Scale()).cost.flops


def test_budget_is_used_but_never_exceeded():
    direction = Scale(1.15, 1.1, 1.1)
    small = fit(TINY, 416, direction, 1_500_000_000)
    assert 0.6 * 1.5e9 < small.cost.flops <= 1.5e9
    assert small.size < 416 and small.config.width < 1 and small.size % 32 == 0


def test_an_impossible_budget_is_refused():
    with pytest.raises(ValueError, match="larger"):
        fit(TINY, 416, Scale(0.9, 1, 1), 10**9)
    with pytest.raises(ValueError, match="1,000 FLOPs"):
        fit(TINY, 416, Scale(1.1, 1, 1.1), 1000)


# Section 3.2: FLOPs of a computational block on b channels, and of its CSP form on half of them.
@pytest.mark.parametrize(
    "full, half, saved",
    [
        # bottleneck of ResNet: 1x1 to b/4, 3x3, 1x1 to b
        ([(64, 16, 1, 1), (16, 16, 3, 1), (16, 64, 1, 1)],
         [(32, 16, 1, 1), (16, 16, 3, 1), (16, 32, 1, 1)], 23.5),
        # of ResNeXt: 1x1 to b/2, grouped 3x3 (32 groups), 1x1 to b
        ([(256, 128, 1, 1), (128, 128, 3, 32), (128, 256, 1, 1)],
         [(128, 128, 1, 1), (128, 128, 3, 32), (128, 128, 1, 1)], 46.7),
        # of DarkNet: 1x1 to b/2, 3x3 to b
        ([(64, 32, 1, 1), (32, 64, 3, 1)], [(32, 32, 1, 1), (32, 32, 3, 1)], 50.0),
    ],
    ids=["resnet", "resnext", "darknet"],
)  # fmt: skip
def test_csp_saves_what_the_paper_says(full, half, saved):
    def values(layers):
        return kernel_values(
            nn.ModuleList(nn.Conv2d(i, o, k, groups=g, bias=False) for i, o, k, g in layers)
        )

    assert 100 * (1 - values(half) / values(full)) == pytest.approx(saved, abs=0.05)


def test_flops_are_twice_the_multiply_accumulates():
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 4, 3, groups=1), nn.Conv2d(4, 4, 3, groups=4))
    assert cost(network, 32, 32).flops == 2 * macs(network, 32, 32)


def test_the_study_prints_a_row_for_each_budget_and_direction(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["--gflops", "3.5"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in DIRECTIONS)
    assert "416x416" in printed, "growing in width alone keeps the input"
    assert main(["--gflops", "0.000001"]) == 1
    assert "costs 1,000 FLOPs or less" in capsys.readouterr().err
