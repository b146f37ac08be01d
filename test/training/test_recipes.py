# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from drawn import CLASSES
from kinds import KINDS

from compact_yolo_ros.model.sizes import Size
from training.detectors.loss_settings import LossSettings
from training.detectors.registry import DETECTORS
from training.loop.recipe import DEFAULT_RECIPE, PAPER, RECIPES, Phase, Recipe, find_recipe
from training.loop.schedule import rate_factor
from training.loop.trainer import Trainer

# The slowest to build are left to the thorough suite.
QUICK = {"yolo_ret_m075", "yolo_fastest", "micro_yolo"}


def read(kind: str, detector: str) -> Recipe:
    return Recipe.read(find_recipe(kind, detector), detector=detector)


@pytest.mark.parametrize("name", [n for n, spec in DETECTORS.items() if spec.recipe])
def test_the_recipe_of_the_paper_has_the_loss_of_the_row(name):
    recipe = read(PAPER, name)
    assert recipe.detector.name == name
    assert recipe.loss == DETECTORS[name].loss


def test_a_recipe_is_a_file_or_a_name(tmp_path):
    assert find_recipe("street") == RECIPES / "street.yaml"
    assert find_recipe("my/own.yaml") == Path("my/own.yaml")
    assert find_recipe(PAPER, "yolo_nano") == RECIPES / "yolo_nano_paper.yaml"
    with pytest.raises(
        ValueError, match="no recipe 'stret': give a file, paper, or one of .*street"
    ):
        find_recipe("stret")
    with pytest.raises(ValueError, match="name it with --detector"):
        find_recipe(PAPER)


def test_a_detector_without_a_publication_trains_by_the_default_recipe(shapes, monkeypatch):
    loss = LossSettings(also_above=0.3)
    own = replace(DETECTORS["yolo_fastest"], name="own", loss=loss, recipe="", published=None)
    monkeypatch.setitem(DETECTORS, "own", own)
    assert read(DEFAULT_RECIPE, "own").detector.name == "own"
    with pytest.raises(
        ValueError, match="no training of own was published: give --recipe cpu_small"
    ):
        find_recipe(PAPER, "own")


def test_a_recipe_that_says_nothing_of_the_loss_takes_the_detectors(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("phases: [{epochs: 1, sizes: 64}]")
    region = DETECTORS["tiny_yolov2"].loss
    assert Recipe.read(path, detector="tiny_yolov2").loss == region
    changed = Recipe.read(path, ["detector=tiny_yolov2", "loss.rescore=false"]).loss
    assert changed == replace(region, rescore=False)
    assert Recipe.read(path).loss == LossSettings()
    with pytest.raises(ValueError, match="loss must be a mapping"):
        Recipe.read(path, ["loss=3"])
    with pytest.raises(ValueError, match="detector must be one of"):
        Recipe.read(path, detector="yolo")


def test_sizes_are_squares_or_rectangles_and_may_fit_the_images():
    phase = {"epochs": 2, "sizes": [224, "320x256"], "fit": 0.5}
    recipe = Recipe.from_dict({"phases": [phase], "evaluation": {"fit": True}})
    assert recipe.phases[0].sizes == (Size(224, 224), Size(320, 256))
    written = recipe.to_dict()
    assert written["phases"][0]["sizes"] == [224, "320x256"]
    assert Recipe.from_dict(written) == recipe
    for change, message in (
        ({"sizes": "320x250"}, r"phases.0.sizes must be multiples of 32, not \['320x250'\]"),
        ({"sizes": "wide"}, "phases.0.sizes.0: 'wide' is not of the form 320 or WIDTHxHEIGHT"),
        ({"sizes": True}, "phases.0.sizes.0 must be a number or WIDTHxHEIGHT, not True"),
        ({"fit": 1.5}, "phases.0.fit must be from 0 to 1"),
        ({"sizes": 128}, "phases.0.sizes must be squares of at least 160 for fit"),
        ({"sizes": "320x256"}, "phases.0.sizes must be squares of at least 160 for fit"),
    ):
        with pytest.raises(ValueError, match=message):
            Recipe.from_dict({"phases": [phase | change]})


@pytest.mark.parametrize(
    "phases, augmentation, pixels",
    [
        ([(64, 0), (128, 0)], {"scale": [0.5, 3.0], "aspect": 0.21}, (423, 423)),
        ([("320x192", 0), (224, 0)], {"scale": [1, 2], "aspect": 0}, (640, 448)),
        ([(320, 0.5)], {"aspect": 0, "mosaic_scale": [1, 3]}, (960, 960)),
        ([(320, 0)], {"aspect": 0, "mosaic_scale": [1, 3]}, (640, 640)),
        ([(320, 0)], {"geometry": "darknet", "scale": [0.25, 3]}, (960, 960)),
        ([(320, 0)], {"scale": [0.5, 1.0]}, (640, 640)),
    ],
)
def test_views_need_the_pixels_of_their_largest_zoom(phases, augmentation, pixels):
    listed = [{"epochs": 1, "sizes": size, "mosaic": mosaic} for size, mosaic in phases]
    recipe = Recipe.from_dict({"phases": listed, "augmentation": augmentation})
    assert recipe.view_pixels == pixels


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_recipe_survives_being_written(path):
    recipe = Recipe.read(path)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.phase(recipe.epochs - 1) == recipe.phases[-1]
    with pytest.raises(IndexError):
        recipe.phase(recipe.epochs)


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in KINDS],
)
@pytest.mark.parametrize("kind", [PAPER, DEFAULT_RECIPE])
def test_a_shipped_recipe_trains_its_detector(shapes, name, kind):
    if kind == PAPER and not DETECTORS[name].recipe:
        pytest.skip("no training of it was published")
    recipe = read(kind, name)
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
    recipe = read(PAPER, name)
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
    found = factors("tinier_yolo", voc // 64, 499, 1500, 19_500, 20_500, 29_500, 30_500)
    assert found == pytest.approx([0.5**4, 1, 1, 0.1, 0.1, 0.01])
    found = factors("yolo_nano", voc // 64, 1500, 39_500, 40_500, 44_500, 45_500)
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    found = factors("yolo_ret_m075", 2000, 0, 199_999, 200_000)
    assert found == pytest.approx([1, 0, 0.1], abs=1e-6)


def test_the_runs_are_as_long_as_published():
    # batches of 64 images of PASCAL VOC 2007 + 2012, of COCO 2017
    for recipe, images, batches, rate in (
        ("tinier_yolo_voc_paper", 16_551, 300_200, 5e-4),
        ("tinier_yolo_coco_paper", 118_287, 800_200, 5e-3),
        ("yolo_nano_paper", 16_551, 50_200, 1e-3),
        ("tiny_yolov3_paper", 118_287, 500_200, 1e-3),
    ):
        read_ = Recipe.read(find_recipe(recipe))
        assert read_.epochs * (images // 64) == pytest.approx(batches, rel=0.003), recipe
        assert (read_.optimizer.rate, read_.batch_size) == (rate, 64)
    coco = Recipe.read(find_recipe("tinier_yolo_coco_paper"))
    assert str(coco.detector) == "{name: tinier_yolo, squeeze_norm: true}"
    steps = [rate_factor(step, 118_287 // 64, coco) for step in (399_500, 400_500, 450_500)]
    assert steps == pytest.approx([1, 0.1, 0.01])


def test_the_frozen_phase_freezes_the_whole_backbone():
    for name in ("yolo_ret_m075", "yolo_ret_m14", "yolo_ret_eb3"):
        recipe = read(PAPER, name)
        first, second = recipe.phases
        blocks = {"yolo_ret_eb3": 24}.get(name, 16)
        assert first == Phase(100, (320,), frozen_blocks=blocks)
        assert second == Phase(150, (320,), rate=0.1)
        assert recipe.adversarial_step == 0.2, "the paper's, for whoever turns it on"
