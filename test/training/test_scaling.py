# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from argparse import Namespace

import pytest
import torch
from torch import nn

from training.detectors.complexity import macs
from training.detectors.variant import Variant
from training.detectors.yolov4_tiny import CspOsa, YoloV4TinyConfig
from training.studies.compound import DIRECTIONS, Cost, Scale, cost, fit, scaled
from training.studies.member import Result
from training.studies.scaling import main, members, report
from training.studies.stage_costs import savings, stages

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


def test_csp_saves_what_the_paper_says():
    """Section 3.2: b channels, of which a CSP stage has half in its block."""
    # 17/16, 137/128 and 5 b^2 plain; 13/16, 73/128 and 5/2 b^2 inside: the paper's table
    plain = {"ResNet": 17 / 16, "ResNeXt": 137 / 128, "DarkNet": 5}
    inside = {"ResNet": 13 / 16, "ResNeXt": 73 / 128, "DarkNet": 5 / 2}
    for name, before, after, published in savings(256):
        assert before == plain[name] * 256**2 and after == inside[name] * 256**2
        assert 100 * (1 - after / before) == pytest.approx(published, abs=0.05)


def test_costs_of_aggregated_stages():
    """Section 3.3: with k 3x3 of g channels on b, in multiples of 9."""
    b, g, k = 256, 128, 3
    assert dict((name, macs) for name, macs, _ in stages(b, k)) == {
        "dense": 9 * (g * b * k + g * g * k * (k - 1) // 2),
        "OSA": 9 * (b * g + g * g * (k - 1)),
        "CSP-OSA": 9 * k * g * g,
    }
    convs = nn.Sequential(*(nn.Conv2d(i, g, 3, padding=1, bias=False) for i in (b // 2, g, g)))
    found = cost(nn.Sequential(nn.Conv2d(3, b // 2, 1), convs), 8, 8)
    first = cost(nn.Conv2d(3, b // 2, 1), 8, 8)
    *_, (_, macs_, moved) = stages(b, k)
    assert found.flops - first.flops == 2 * 64 * macs_
    assert found.convolutional_io - first.convolutional_io == 64 * moved


def test_flops_are_twice_the_multiply_accumulates():
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 4, 3, groups=1), nn.Conv2d(4, 4, 3, groups=4))
    assert cost(network, 32, 32).flops == 2 * macs(network, 32, 32)


def test_the_study_prints_a_row_for_each_budget_and_direction(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["--gflops", "3.5"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in {*DIRECTIONS} - {"depth only"})
    assert "416x416" in printed, "growing in width alone keeps the input"
    assert "depth only" not in printed, "YOLOv4-tiny has one block a stage, which cannot shrink"
    assert main(["--gflops", "0.6", "--detector", "{name: yolov4_tiny, width: 0.5}", "--size",
                 "160"]) == 0  # fmt: skip
    printed = capsys.readouterr().out
    assert "160x160" in printed and "{name: yolov4_tiny, width: 0.5, depth: 2}" in printed
    assert main(["--detector", "yolo_nano"]) == 1
    assert "only a yolov4_tiny can be scaled" in capsys.readouterr().err
    assert main(["--gflops", "0.000001"]) == 1
    assert "costs 1,000 FLOPs or less" in capsys.readouterr().err


def test_what_is_found_can_be_trained(monkeypatch):
    monkeypatch.setattr("training.studies.scaling.DIRECTIONS", {"input only": Scale(alpha=2)})
    (member,) = members([1.1], TINY)
    size = int(member.changes[0].rpartition("=")[2])
    assert member.name == "1.1_input_only" and member.changes[1] == f"evaluation.size={size}"
    network = Variant.parse(str(member.detector)).build()
    assert 2 * macs(network, size, size) == member.facts["flops"] <= 1.1e9
    with pytest.raises(ValueError, match="0.3: input only, the input would be 64 pixels, and 160"):
        list(members([0.3], TINY))


def test_the_best_way_to_grow_is_named_for_each_budget():
    results = [
        Result(f"{b}{way}", "d", 0, 1, 1.0, 1, 1, 1.0, {"AP50": ap, "AP": ap}, [], {},
               facts={"budget": b, "way": way, "size": 320, "flops": 10**9})
        for b, way, ap in ((1.0, "a", 0.2), (1.0, "b", 0.3), (2.0, "a", 0.4))
    ]  # fmt: skip
    shown = report(results, Namespace(ratios=dict.fromkeys(("1.0a", "1.0b", "2.0a"), 0.5)))
    assert [row[5] for row in shown.rows] == ["0.50"] * 3
    lines = shown.conclusion[0].splitlines()
    assert ["grows: b (30.0 %)" in lines[0], "grows: a (40.0 %)" in lines[1]] == [True, True]


@pytest.mark.parametrize("given", [["--data=no.yaml"], ["--data", "no.yaml"], ["--dat", "no.yaml"]])
def test_a_data_set_is_trained_on_however_the_option_is_written(given, tmp_path, capsys):
    assert main([*given, "--out", str(tmp_path), "--gflops", "1.5"]) == 1
    assert "no.yaml" in capsys.readouterr().err, "it was not read"


def test_help_has_the_options_of_trainings(capsys):
    with pytest.raises(SystemExit):
        main(["-h"])
    assert "--seeds" in capsys.readouterr().out
