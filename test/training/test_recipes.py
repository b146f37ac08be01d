# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from drawn import CLASSES

from training.detectors.loss_settings import PUBLISHED
from training.detectors.registry import DETECTORS
from training.loop.recipe import Phase, Recipe
from training.loop.schedule import rate_factor
from training.loop.trainer import Trainer

RECIPES = Path(__file__).resolve().parents[2] / "training" / "recipes"
# The slowest to build are left to the thorough suite.
QUICK = {"yolo_ret_m075", "yolo_fastest", "micro_yolo"}


def test_every_detector_has_a_published_and_a_small_recipe():
    for name in DETECTORS:
        published = Recipe.read(RECIPES / f"{name}_paper.yaml")
        assert published.detector == name
        assert published.loss == PUBLISHED[name]
        assert Recipe.read(RECIPES / f"{name}_cpu.yaml").detector == name


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_recipe_survives_being_written(path):
    recipe = Recipe.read(path)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.phase(recipe.epochs - 1) == recipe.phases[-1]
    with pytest.raises(IndexError):
        recipe.phase(recipe.epochs)


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in DETECTORS],
)
@pytest.mark.parametrize("kind", ["paper", "cpu"])
def test_a_shipped_recipe_trains_its_detector(shapes, name, kind):
    recipe = Recipe.read(RECIPES / f"{name}_{kind}.yaml")
    tiny = [replace(phase, epochs=1, sizes=(64,)) for phase in recipe.phases[:1]]
    trainer = Trainer(
        replace(recipe, phases=tuple(tiny), batch_size=2, accumulate=1),
        CLASSES,
        shapes[:2],
        workers=0,
    )
    before = [p.clone() for p in trainer.model.parameters()]
    trainer.train_epoch(lambda loss: False)
    assert trainer.step == 1
    pairs = zip(before, trainer.model.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in pairs)


def factors(name: str, steps_per_epoch: int, *steps: int) -> list[float]:
    recipe = Recipe.read(RECIPES / f"{name}_paper.yaml")
    return [rate_factor(step, steps_per_epoch, recipe) for step in steps]


def test_published_schedules_change_where_the_papers_say():
    # Steps in an epoch: images of PASCAL VOC 2007 + 2012, of COCO 2017, by the batch size.
    voc, coco = 16_551, 118_287
    found = factors("tiny_yolov2", voc // 64, 0, 90, 110, 19_500, 20_500, 29_500, 30_500)
    assert found == pytest.approx([0.1, 0.1, 1, 1, 0.1, 0.1, 0.01])
    found = factors("yolo_fastest", coco // 32, 1999, 5000, 399_000, 401_000, 449_000, 451_000)
    assert found == pytest.approx([0.5**4, 1, 1, 0.1, 0.1, 0.01])
    found = factors("yolo_fastest_v1_0", voc // 128, 149_000, 151_000, 179_000, 181_000)
    assert found == pytest.approx([1, 0.1, 0.1, 0.01])
    found = factors("yolov4_tiny", coco // 64, 1_590_000, 1_605_000, 1_805_000)
    assert found == pytest.approx([1, 0.1, 0.01])
    found = factors("yolo_ret_m075", 2000, 0, 199_999, 200_000)
    assert found == pytest.approx([1, 0, 0.1], abs=1e-6)


def test_the_frozen_phase_freezes_the_whole_backbone():
    for name in ("yolo_ret_m075", "yolo_ret_m14", "yolo_ret_eb3"):
        recipe = Recipe.read(RECIPES / f"{name}_paper.yaml")
        first, second = recipe.phases
        blocks = {"yolo_ret_eb3": 24}.get(name, 16)
        assert first == Phase(100, (320,), frozen_blocks=blocks)
        assert second == Phase(150, (320,), rate=0.1)
        assert recipe.adversarial_step == 0.2, "the paper's, for whoever turns it on"
