# SPDX-License-Identifier: Apache-2.0
"""Progressive channel pruning."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import write_set
from scripted_study import ScriptedStudy

from training.detectors.registry import DETECTORS
from training.detectors.variant import Variant
from training.loop.checkpoint import load_detector, save_checkpoint
from training.studies.prune import (
    COMMAND,
    STEPS,
    layers,
    prune,
    report,
    without,
)
from training.weights.fewer_channels import importance, narrowed
from training.weights.origin import read_origin

PAPER = {"deep.0.1": 6, "s32.project": 0}
"""Sixteenths that the paper takes of layers 13 and 15 of Micro-YOLO; of most others, 2."""
SMALL = "{name: yolov4_tiny, width: 0.1}"


def test_the_published_steps_make_micro_yolo_pruned_of_micro_yolo():
    detector = Variant.from_settings("micro_yolo")
    for layer, width in layers(detector.graph(80)).items():
        detector = without(detector, layer, PAPER.get(layer, 2) * width // 16, 80)
    with torch.device("meta"):
        found, published = detector.build(80), DETECTORS["micro_yolo_pruned"].make()
    shapes = [{k: v.shape for k, v in n.state_dict().items()} for n in (found, published)]
    assert shapes[0] == shapes[1]
    assert Variant.parse(str(detector)) == detector


@pytest.mark.parametrize("name", DETECTORS)
def test_every_layer_of_every_detector_can_lose_a_step_and_the_network_still_runs(name):
    detector = Variant.from_settings(name)
    known = layers(detector.graph(3))
    for layer, width in known.items():
        detector = without(detector, layer, -(-width // STEPS), 3)
    with torch.device("meta"), torch.no_grad():
        network = detector.build(3).eval()
        maps = network(torch.zeros(1, 3, 64, 64))
    assert [map_.shape[2] for map_ in maps] == [64 // stride for stride in network.grid.strides]
    assert len({map_.shape[1] for map_ in maps}) == 1, "boxes and classes stay"
    modules = dict(network.named_modules())
    for layer, width in known.items():
        if f"{layer}/1" in known or "/" in layer:  # a part of what a convolution writes
            continue
        convolution = modules.get(f"{layer}.conv", modules[layer])
        assert convolution.out_channels == width - -(-width // STEPS), layer


def test_the_channels_with_the_smallest_kernels_go_and_the_other_weights_stay():
    torch.manual_seed(0)
    before = Variant.from_settings("tiny_yolov3")
    after = without(without(before, "conv7", 2, 2), "up", 1, 2)
    network = before.build(2)
    kernel = network.conv7.conv.weight.detach().clone()
    kernel[[5, 700]] *= 0.01
    network.conv7.conv.weight.data.copy_(kernel)
    reader = network.squeeze.conv.weight.detach().clone()
    state = narrowed(network, before, after, "l1")
    kept = np.delete(np.arange(1024), [5, 700])
    assert state["conv7.conv.weight"].equal(kernel[kept])
    assert state["squeeze.conv.weight"].equal(reader[:, kept])
    assert state["s16.conv.weight"].shape == (256, 127 + 256, 3, 3)
    after.build(2).load_state_dict(state)


def test_a_narrower_detector_starts_from_the_wide_one_and_another_is_refused(tmp_path):
    torch.manual_seed(0)
    wide = Variant.from_settings("micro_yolo")
    network, path = wide.build(2), tmp_path / "wide.pt"
    kernel = network.deep[1].conv.weight.detach().clone()
    kernel[:32] *= 0.001  # the 32 of 256 channels that micro_yolo_pruned does not have
    network.deep[1].conv.weight.data.copy_(kernel)
    content = {"detector": "micro_yolo", "classes": ["a", "b"], "average": network.state_dict()}
    save_checkpoint(path, content)
    slim = Variant.from_settings("micro_yolo_pruned")
    origin = read_origin(str(path), slim)
    slim.build(2).load_state_dict(dict(origin.state))
    left = origin.state["deep.1.conv.weight"]
    assert left.shape[:2] == (224, 640)
    assert left.abs().amax((1, 2, 3)).min() > kernel[:32].abs().max()
    kernels = Variant.parse("{name: micro_yolo, channels: {deep.1: 8}}")
    assert read_origin(str(path), kernels).state["deep.1.conv.weight"].shape[0] == 8
    with pytest.raises(ValueError, match="not the same with more or fewer channels"):
        read_origin(str(path), Variant.from_settings("tiny_yolov3"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("yolo_ret_m075", "{name: yolo_ret_m075, uneven: true}"),
        ("{name: yolo_ret_m075, uneven: true}", "yolo_ret_m075"),
        ("yolo_ret_m075", "{name: yolo_ret_m075, backbone: {width: 0.5}, uneven: true}"),
    ],
)
def test_weights_for_another_padding_are_refused(tmp_path, before, after):
    """Their shapes are the same, but the maps would be shifted by half a pixel at every stride."""
    path = tmp_path / "start.pt"
    detector = Variant.parse(before)
    content = {"classes": ["a", "b"], "average": detector.build(2).state_dict()}
    save_checkpoint(path, {"detector": detector.to_settings(), **content})
    with pytest.raises(
        ValueError, match="not the same with more or fewer channels: give --detector"
    ):
        read_origin(str(path), Variant.parse(after))


def test_a_sum_is_judged_by_all_that_is_added():
    detector = Variant.from_settings("yolo_fastest")
    network, graph = detector.build(2), detector.graph(2)
    group = graph.groups["backbone.blocks.2.project"]
    for number in (2, 3, 4):  # the sum that runs through three blocks
        network.backbone.blocks[number].project.norm.weight.data = torch.arange(8.0) + number
    found = importance(network, graph, group, "gamma")
    assert found.tolist() == [9 + 3 * n for n in range(8)]


def scripted(*found):
    values = iter(found)
    return ScriptedStudy(lambda _: next(values))


def options(*layers: str, **others):
    defaults = {"detector": "yolo_fastest", "start": "", "drop": 0.5, "most": 0}
    return Namespace(layers=layers, criterion="l1", plan=False, **{**defaults, **others})


def test_a_pruning_with_another_seed_continues_the_original_with_that_seed():
    study = scripted(0.50, 0.50)
    study.seeds = (3,)
    folders = []
    study.folder = lambda name, seed: folders.append((name, seed)) or Path(name)
    prune(study, options("neck", most=1))
    assert study.trained_with == [3, 3] and folders == [("original", 3)]


def test_several_seeds_are_refused():
    study = scripted(0.50)
    study.seeds = (0, 1)
    with pytest.raises(ValueError, match="--seeds: each step begins .*: give one seed"):
        prune(study, options("neck"))
    assert not study.members


def test_a_layer_is_pruned_until_the_ap_is_half_a_point_below_that_before_the_layer():
    study = scripted(0.50, 0.498, 0.496, 0.494, 0.495, 0.49)
    prune(study, options("neck", "s32.0.1", "neck"))  # given twice
    names = ["original", "neck_1", "neck_2", "neck_3", "s32.0.1_1", "s32.0.1_2"]
    assert [result.name for result in study.results] == names
    assert [result.facts.get("channels") for result in study.results] == [None, 90, 84, 78, 90, 84]
    # the third step of the neck was taken back; the next layer begins from the second
    assert "neck: 84" in study.results[4].detector and study.members[4].origin == "neck_2 by l1"
    shown = report(study.results, options())
    assert [row[-1] for row in shown.rows] == ["yes", "yes", "yes", "no", "yes", "no"]
    assert shown.extra["detector"] == "{name: yolo_fastest, channels: {neck: 84, s32.0.1: 90}}"


def test_a_layer_keeps_one_channel_and_has_no_more_steps_than_were_asked_for():
    study = scripted(*[0.5] * 9)
    prune(study, options("backbone.blocks.0.project", "neck", most=2))  # 4 channels, one a step
    assert [r.name for r in study.results][1:] == [
        "backbone.blocks.0.project_1", "backbone.blocks.0.project_2", "neck_1", "neck_2",
    ]  # fmt: skip
    study = scripted(*[0.5] * 9)
    prune(study, options("backbone.blocks.0.project"))
    assert [r.facts["channels"] for r in study.results[1:]] == [3, 2, 1]


def test_what_was_pruned_before_is_pruned_further_from_the_channels_that_it_has():
    study = scripted(*[0.5] * 20)
    given = options("neck", detector="{name: yolo_fastest, channels: {neck: 20}}")
    prune(study, given)
    # 1/16 of 20 is one channel; 15 steps at most
    assert [r.facts["channels"] for r in study.results[1:]] == list(range(19, 4, -1))
    assert [row[1] for row in report(study.results, given).rows[1:3]] == ["19 of 20", "18 of 20"]
    assert "neck: 5" in study.results[-1].detector


def test_an_unknown_layer_is_refused():
    with pytest.raises(ValueError, match="'stem' is no layer of yolo_fastest: give some of backb"):
        prune(scripted(), options("stem"))


def test_what_is_pruned_trains_and_opens_like_any_other(shapes, tmp_path, capsys):
    data = write_set(tmp_path / "set", shapes)
    given = ["--data", str(data), "--out", str(tmp_path / "out"), "--accelerator", "cpu"]
    given += ["--workers", "0", "--detector", SMALL, "--most", "1", "--images", "8", "--seeds", "3"]
    for change in (
        "phases=[{epochs: 1, sizes: 32}]", "batch_size=8", "evaluation.size=160",
        "schedule.warmup_steps=1", "precision=32-true",
    ):  # fmt: skip
        given += ["--set", change]
    assert COMMAND.main([*given, "--layers", "s32", "--drop", "100"]) == 0
    assert "Plan: 2 trainings" in capsys.readouterr().out
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert found["extra"]["detector"] == f"{SMALL[:-1]}, channels: {{s32: 45}}}}"
    assert found["extra"]["checkpoint"] == "s32_1_seed3/last.pt"
    network, content = load_detector(tmp_path / "out" / found["extra"]["checkpoint"])
    assert network.s32.conv.out_channels == 45
    assert str(Variant.from_settings(content["detector"])) == found["extra"]["detector"]
    page = (tmp_path / "out/results.md").read_text()
    assert "| s32 | 45 of 48 |" in page and "in `s32_1_seed3/last.pt`" in page
