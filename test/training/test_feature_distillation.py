# SPDX-License-Identifier: Apache-2.0
"""A teacher's feature maps beside the labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import CLASSES
from resumed import check_resume
from small_detector import SMALLEST_YOLO_RET

from training.detectors.anchor_grid import AnchorGrid
from training.detectors.registry import DETECTORS
from training.detectors.variant import Variant
from training.distillation.feature_distillation import (
    FeatureDistillation,
    dissimilarity,
    output_layers,
)
from training.loop.recipe import Recipe
from training.loop.trainer import Trainer

TEACHER = "yolo_fastest"
RUN = {
    "detector": SMALLEST_YOLO_RET,
    "phases": [{"epochs": 4, "sizes": 64}],
    "batch_size": 4,
    "optimizer": {"rate": 3e-3},
    "distillation": {"teacher": TEACHER},
}


def teacher(name=TEACHER):
    """One whose maps differ from place to place, although its weights are random."""
    torch.manual_seed(5)
    network = Variant.parse(name).build(len(CLASSES)).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    network(torch.rand(16, 3, 64, 64))
    return network.eval()


def trainer(shapes, network=TEACHER, **changes) -> Trainer:
    recipe = Recipe.from_dict({**RUN, **changes})
    return Trainer(recipe, CLASSES, shapes[:8], workers=0, teacher=teacher(network))


def test_the_loss_is_one_minus_pearsons_correlation_of_each_channel():
    generator = np.random.default_rng(0)
    first = generator.normal(2, 3, (4, 5, 6, 7)).astype(np.float32)
    second = (first + generator.normal(0, 2, first.shape)).astype(np.float32)
    expected = np.mean(
        [1 - np.corrcoef(first[:, c].ravel(), second[:, c].ravel())[0, 1] for c in range(5)]
    )
    found = dissimilarity(torch.from_numpy(first), torch.from_numpy(second))
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_only_the_pattern_of_a_channel_counts():
    maps = torch.randn(2, 3, 8, 8)
    factors = torch.tensor([0.5, 3.0, 40.0])[:, None, None]
    assert float(dissimilarity(maps, maps * factors - 7)) == pytest.approx(0, abs=1e-5)
    assert float(dissimilarity(maps, -maps)) == pytest.approx(2, abs=1e-4)
    assert torch.isfinite(dissimilarity(maps, torch.ones_like(maps))), "a channel without pattern"


@pytest.mark.parametrize("name", DETECTORS)
def test_output_layers_make_the_raw_maps(name):
    network = Variant.parse(name).build(3).eval()
    outputs = []
    for layer in output_layers(network):
        layer.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    maps = network(torch.rand(1, 3, 64, 64))
    assert len(outputs) == len(maps)
    assert all(any(map_ is output for output in outputs) for map_ in maps)


def test_of_the_strides_those_that_both_have_are_compared():
    student = Variant.parse("yolo_ret_m075").build(2)
    distillation = FeatureDistillation(student, Variant.parse(TEACHER).build(2))
    images = torch.rand(2, 3, 64, 64)
    student(images)
    names = [name for name, _ in distillation.adapters.named_parameters() if "weight" in name]
    assert [name.split(".")[1] for name in names] == ["16", "32"]
    assert 0 < distillation.loss(images).item() < 4


class OneLayer(torch.nn.Module):
    """A network of one map of stride 8."""

    grid = AnchorGrid(anchors=(((30, 30),),), strides=(8,))

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 7, 8, 8)

    def forward(self, images):
        return [self.layer(images)]


def test_a_teacher_without_a_stride_in_common_is_refused():
    student = Variant.parse(TEACHER).build(2)
    with pytest.raises(ValueError, match="strides 8, the detector of 16, 32"):
        FeatureDistillation(student, OneLayer())


def test_a_student_becomes_more_like_its_teacher_and_the_teacher_stays(shapes):
    longer = [{"epochs": 15, "sizes": 64}]
    run = trainer(shapes, phases=longer, distillation={"teacher": TEACHER, "weight": 300.0})
    before = {name: value.clone() for name, value in run.distillation.teacher.state_dict().items()}
    parts = []
    while run.step < run.total_steps:
        run.train_epoch(lambda loss: bool(parts.append(float(loss.distillation))))
    assert parts[-1] < 0.7 * parts[0]
    for name, value in run.distillation.teacher.state_dict().items():
        assert value.equal(before[name]), name


def test_the_trained_detector_has_nothing_of_the_teacher(shapes):
    run = trainer(shapes)
    run.train_epoch(lambda _: False)
    plain = Variant.from_settings(SMALLEST_YOLO_RET).build(len(CLASSES)).state_dict()
    assert run.state()["average"].keys() == plain.keys()
    assert run.parts == ("box", "objectness", "classes", "distillation")


def test_an_interrupted_run_ends_like_an_uninterrupted_one(shapes, tmp_path):
    check_resume(lambda: trainer(shapes), 1, tmp_path)


def test_a_run_goes_on_with_another_teacher_or_without_one(shapes):
    first = trainer(shapes)
    first.train_epoch(lambda _: False)
    state = first.state()
    other = Trainer(Recipe.from_dict({**RUN, "distillation": {}}), CLASSES, shapes[:8], workers=0)
    with pytest.raises(ValueError, match="another recipe"):
        other.restore(state)
    other.restore(state, replan=True)
    other.train_epoch(lambda _: False)
    assert other.parts == ("box", "objectness", "classes")
    third = trainer(shapes, distillation={"teacher": "another"})
    third.restore(other.state(), replan=True)
    third.train_epoch(lambda _: False)
    assert third.step == 6


def test_a_teacher_of_the_same_name_and_other_widths_is_another_one(shapes):
    """Its file may have been written anew while the run was stopped."""
    first = trainer(shapes)
    first.train_epoch(lambda _: False)
    changed = trainer(shapes, "yolo_fastest_xl")
    with pytest.raises(ValueError, match="the teacher yolo_fastest is another network .*--replan"):
        changed.restore(first.state())
    assert changed.step == 0
    changed.restore(first.state(), replan=True)
    changed.train_epoch(lambda _: False)
    assert changed.step == 4
