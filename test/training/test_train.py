# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import CLASSES

from training.averaging import AveragedModel
from training.checkpoint import load_checkpoint, load_detector, save_checkpoint
from training.evaluate import average_precision, predict
from training.recipe import Phase, Recipe
from training.train import Trainer, parameter_groups, rate_factor, set_phase

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "phases": [{"epochs": 1, "size": 64, "mosaic": 0.5}, {"epochs": 1, "size": 96}],
    "batch_size": 4,
    "warmup_steps": 2,
}


def trainer(shapes, **changes) -> Trainer:
    return Trainer("yolo_ret_m075", CLASSES, Recipe.from_dict({**TINY, **changes}), shapes)


def go_on(run: Trainer, stop_at: int = 10**9) -> None:
    while run.step < min(stop_at, run.total_steps):
        run.train_epoch(lambda loss: run.step >= stop_at, workers=0)


def test_a_run_cut_up_ends_where_an_uninterrupted_one_does(shapes, tmp_path):
    whole = trainer(shapes)
    go_on(whole)
    first = trainer(shapes)
    go_on(first, stop_at=3)
    save_checkpoint(tmp_path / "last.pt", first.state())
    torch.manual_seed(99)
    second = trainer(shapes)
    second.restore(load_checkpoint(tmp_path / "last.pt"))
    assert second.step == 3
    go_on(second)
    for name, value in whole.state()["average"].items():
        assert second.average.model.state_dict()[name].equal(value), name


def test_shapes_are_learned_in_a_few_steps(shapes):
    run = trainer(
        shapes,
        phases=[{"epochs": 10, "size": 96}],
        batch_size=8,
        learning_rate=3e-3,
        also_above=0.4,
        augmentation={"scale": [0.95, 1.05], "aspect": 0, "hue": 0, "saturation": 0, "value": 0},
    )
    totals = []
    while run.step < run.total_steps:
        run.train_epoch(lambda loss: bool(totals.append(float(loss.total))), workers=0)
    assert len(totals) == 20
    assert np.mean(totals[-4:]) < 0.6 * np.mean(totals[:4])


def test_another_recipe_is_refused_unless_asked_for(shapes):
    state = trainer(shapes).state()
    other = trainer(shapes, learning_rate=0.5)
    with pytest.raises(ValueError, match="--replan"):
        other.restore(state)
    other.restore(state, replan=True)
    with pytest.raises(ValueError, match="other classes"):
        Trainer("yolo_ret_m075", ("disc", "ball"), Recipe.from_dict(TINY), shapes).restore(state)


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"detector": "a", "classes": [], "average": {}})

    class Unwritable:
        def __reduce__(self):
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        save_checkpoint(path, {"detector": Unwritable()})
    assert load_checkpoint(path)["detector"] == "a"


def test_a_foreign_file_is_no_checkpoint(tmp_path):
    torch.save({"weights": torch.zeros(1)}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_detector(tmp_path / "x.pt")


def test_learning_rate_warms_up_and_ends_low():
    recipe = Recipe(phases=(Phase(1, 64),), warmup_steps=10, final_rate=0.1)
    rates = [rate_factor(step, 100, recipe) for step in range(100)]
    assert rates[:10] == pytest.approx(np.linspace(0.1, 1, 10))
    assert rates[10] == 1
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert rates[55] == pytest.approx(0.55, abs=0.01), "half way down in the middle"
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_frozen_parts_stay_as_they_are(shapes):
    run = trainer(shapes, phases=[{"epochs": 1, "size": 64, "frozen_blocks": 3}], fixed_norm=True)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    go_on(run, stop_at=2)
    after = run.model.state_dict()
    frozen = ("backbone.stem", "backbone.blocks.0", "backbone.blocks.1.", "backbone.blocks.2")
    assert all(after[k].equal(before[k]) for k in before if k.startswith(frozen))
    assert not after["backbone.blocks.3.project.conv.weight"].equal(
        before["backbone.blocks.3.project.conv.weight"]
    )
    statistics = [k for k in before if k.startswith("backbone") and "running" in k]
    assert all(after[k].equal(before[k]) for k in statistics)
    assert not after["neck.p5.0.norm.running_mean"].equal(before["neck.p5.0.norm.running_mean"])


def test_the_next_phase_unfreezes(shapes):
    model = trainer(shapes).model
    set_phase(model, Phase(1, 64, frozen_blocks=16), fixed_norm=False)
    set_phase(model, Phase(1, 64), fixed_norm=False)
    assert all(p.requires_grad for p in model.parameters())
    assert all(m.training for m in model.modules())


def test_only_kernels_decay_and_the_backbone_has_its_own_rate(shapes):
    recipe = Recipe.from_dict({**TINY, "weight_decay": 0.1, "backbone_rate": 0.5})
    model = trainer(shapes).model
    groups = parameter_groups(model, recipe)
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    for group in groups:
        assert (group["weight_decay"] > 0) == (group["params"][0].ndim > 1)
    assert {g["peak"] for g in groups} == {1e-3, 5e-4}


def test_the_average_follows_slowly():
    model = torch.nn.Linear(1, 1)
    average = AveragedModel(model, decay=0.9)
    start = model.weight.item()
    with torch.no_grad():
        model.weight += 1
    average.update(model, step=10_000)
    assert average.model.weight.item() == pytest.approx(start + 0.1)


@pytest.mark.parametrize(
    "values, message",
    [
        ({}, "phases"),
        ({"phases": [{"epochs": 1}]}, "size"),
        ({**TINY, "learning_rat": 1}, "learning_rat"),
        ({**TINY, "augmentation": {"flop": 1}}, "flop"),
    ],
)
def test_a_wrong_recipe_is_explained(values, message):
    with pytest.raises(ValueError, match=message):
        Recipe.from_dict(values)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "training/recipes").glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_recipes_are_read_and_kept(path):
    recipe = Recipe.read(path)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.phase(recipe.epochs - 1) == recipe.phases[-1]
    with pytest.raises(IndexError):
        recipe.phase(recipe.epochs)


@pytest.fixture
def folder(shapes, tmp_path):
    for split, part in (("train", shapes), ("val", shapes[:4])):
        images, labels = tmp_path / "images" / split, tmp_path / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for number, sample in enumerate(part):
            cv2.imwrite(str(images / f"{number}.png"), sample.image[..., ::-1])
            rows = [
                f"{c} {(a + x) / 192} {(b + y) / 192} {(x - a) / 96} {(y - b) / 96}\n"
                for c, (a, b, x, y) in zip(sample.labels, sample.boxes, strict=True)
            ]
            (labels / f"{number}.txt").write_text("".join(rows))
    (tmp_path / "data.yaml").write_text(
        yaml.safe_dump({"train": "images/train", "val": "images/val", "names": list(CLASSES)})
    )
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump({**TINY, "phases": [{"epochs": 2, "size": 64}]})
    )
    return tmp_path


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_the_same_command(folder):
    out = folder / "run"
    command = [
        sys.executable,
        "-m",
        "training.train",
        "--threads",
        "1",
        "--size",
        "160",
        "--workers",
        "1",
    ]
    command += [
        "--data",
        str(folder / "data.yaml"),
        "--recipe",
        str(folder / "recipe.yaml"),
        "--out",
        str(out),
    ]
    first = subprocess.Popen(
        command,
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (out / "log.jsonl").exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGTERM)
    text = first.communicate(timeout=60)[0]
    assert first.returncode == 0 and "Traceback" not in text, text
    step = load_checkpoint(out / "last.pt")["step"]
    assert 4 <= step <= 8

    subprocess.run(command, cwd=ROOT, check=True, timeout=150, capture_output=True)
    checkpoint = load_checkpoint(out / "last.pt")
    assert checkpoint["step"] == 8
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["epoch"] == 2 and "AP50 disc" in lines[-1]


def test_prediction_and_ap_of_a_detector_that_knows_nothing(shapes):
    model = trainer(shapes).average.model
    found = predict(model, shapes[:3], 160, batch_size=2)
    assert len(found) == 3
    scores = average_precision(shapes[:3], found, CLASSES)
    assert set(scores) == {"AP", "AP50", "AP50 disc", "AP50 square"}
    assert 0 <= scores["AP50"] < 0.5
