# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from drawn import CLASSES
from small_detector import SMALLEST_YOLO_RET

from training.data.batch import collate
from training.detectors.anchor_grid import AnchorGrid
from training.detectors.loss_settings import LossSettings
from training.loop.recipe import Phase, Recipe
from training.loop.self_adversarial import hide_objects
from training.loop.trainer import Trainer
from training.losses.criterion import criterion

STEP = 8 / 255


def trainer(shapes, **phase) -> Trainer:
    values = {"phases": [{"epochs": 1, "sizes": 64, **phase}], "adversarial_step": STEP}
    values |= {"detector": SMALLEST_YOLO_RET, "batch_size": 4, "optimizer": {"name": "sgd"}}
    return Trainer(Recipe.from_dict(values), CLASSES, shapes[:8], workers=0)


def test_altered_images_show_less_and_stay_images():
    grid = AnchorGrid(anchors=(((30, 30),),), strides=(32,))
    layer = torch.nn.Conv2d(3, 7, 32, 32)  # two classes; linear, so that the gradient is exact
    loss = criterion(LossSettings(), grid)
    images = torch.randint(9, 247, (4, 64, 64, 3), dtype=torch.uint8)
    altered = hide_objects(lambda pixels: [layer(pixels)], loss, images, STEP)
    assert altered.dtype == torch.uint8 and altered.shape == images.shape
    assert ((altered.int() - images.int()).abs() == 8).float().mean() > 0.99

    def objectness(pixels):
        return layer(pixels.permute(0, 3, 1, 2).float() / 255)[:, 4].sigmoid()

    assert (objectness(altered) < objectness(images)).all()
    assert layer.weight.grad is None, "no weight is altered"


def test_black_and_white_stay_in_range(shapes):
    model = trainer(shapes).model.eval()
    images = torch.cat((torch.zeros(1, 64, 64, 3), torch.full((1, 64, 64, 3), 255))).byte()
    altered = hide_objects(model, criterion(LossSettings(), model.grid), images, STEP)
    assert altered[0].max() <= 8 and altered[1].min() >= 247


def test_some_steps_of_a_phase_train_on_altered_images(shapes, monkeypatch):
    calls = []

    def counted(network, criterion, images, step):
        calls.append((step, network.training))
        return hide_objects(network, criterion, images, step)

    monkeypatch.setattr("training.loop.trainer.hide_objects", counted)
    for probability, expected in ((0.0, 0), (1.0, 2)):
        calls.clear()
        run = trainer(shapes, self_adversarial=probability)
        run.train_epoch(lambda loss: False)
        assert calls == [(STEP, False)] * expected
        assert run.model.training, "the model is as it was"


def test_self_adversarial_steps_change_no_statistics(shapes):
    plain, attacked = trainer(shapes), trainer(shapes, self_adversarial=1.0)
    images = collate(shapes[:4]).images
    before = {k: v.clone() for k, v in attacked.model.state_dict().items()}
    attacked._attacked(images)
    assert all(v.equal(before[k]) for k, v in attacked.model.state_dict().items())
    for run in (plain, attacked):
        run.train_epoch(lambda loss: False)
    assert plain.sums.loss != attacked.sums.loss


def test_the_loss_of_altered_images_is_added_with_its_weight(shapes):
    """One step of plain SGD moves by the gradient of loss + weight * loss of altered images."""
    weight, rate = 0.2, 0.01
    settings = {"adversarial_weight": weight}
    run = trainer(shapes, **settings)
    run.recipe = replace(
        run.recipe, optimizer=replace(run.recipe.optimizer, rate=rate, momentum=0.0)
    )
    run.model.eval()
    for module in run.model.modules():
        module.train = lambda mode=True, module=module: module  # norms and dropout stay fixed
    seen = []
    attack = run._attacked
    run._attacked = lambda images: seen.append((images, attack(images))) or seen[-1][1]
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    reference = copy.deepcopy(run.model)
    targets = []
    loss = run.criterion
    run.criterion = lambda maps, truth, done=0: targets.append(truth) or loss(maps, truth, done)
    run.train_epoch(lambda loss: True)

    images, altered = seen[0]
    assert ((altered.int() - images.int()).abs() <= 8).all() and not altered.equal(images)
    total = sum(
        share * loss(reference(view.permute(0, 3, 1, 2).float() / 255), targets[0], 0).total
        for share, view in ((1.0, images), (weight, altered))
    )
    total.backward()
    step = run.learning_rate
    for name, p in reference.named_parameters():
        moved = dict(run.model.named_parameters())[name].detach() - before[name]
        torch.testing.assert_close(moved, -step * p.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_images_are_altered_in_one_way_only():
    with pytest.raises(ValueError, match="adversarial_weight must be from 0 to 10, without self"):
        Phase(1, (64,), self_adversarial=0.5, adversarial_weight=0.2)
