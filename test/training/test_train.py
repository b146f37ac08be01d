# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import csv
import io
import json
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from drawn import CLASSES, write_set
from resumed import check_resume, go_on
from rich.console import Console
from small_detector import SMALLEST_YOLO_RET
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from compact_yolo_ros.support.folder_lock import locked
from training.data.findings import open_for_training
from training.data.listing import BadFile
from training.data.loading import epoch_batches
from training.loop import progress
from training.loop.averaging import AveragedModel
from training.loop.checkpoint import load_checkpoint, load_detector, save_checkpoint
from training.loop.freezing import set_phase
from training.loop.memory import MemoryShortageError, memory_shortage_told
from training.loop.optimizers import parameter_groups
from training.loop.precision import usable_precision
from training.loop.progress import progress_bar, time_left
from training.loop.recipe import OptimizerSettings, Phase, Recipe
from training.loop.run import best_epoch, out_of_patience, run
from training.loop.run_folder import RunFolder
from training.loop.schedule import rate_factor
from training.loop.trainer import DEPLOYED, DivergedError, EpochSums, Stopwatch, Trainer
from training.quantisation.quantisation_aware import is_prepared
from training.train import main

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "detector": SMALLEST_YOLO_RET,
    "phases": [{"epochs": 1, "sizes": [64, 96], "mosaic": 0.5}, {"epochs": 1, "sizes": 96}],
    "batch_size": 4,
    "schedule": {"warmup_steps": 2},
    "evaluation": {"size": 160},
}
ONE_PHASE = [{"epochs": 2, "sizes": 64}]


def trainer(shapes, **changes) -> Trainer:
    return Trainer(Recipe.from_dict({**TINY, **changes}), CLASSES, shapes, workers=0)


# Dropout, self-adversarial steps and accumulation: each with randomness or state of its own.
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "detector": "yolo_fastest",
            "accumulate": 2,
            "optimizer": {"name": "sgd", "clip": 1.0},
            "phases": [{"epochs": 2, "sizes": 64, "self_adversarial": 0.5}],
        },
        {"optimizer": {"name": "muon"}},
    ],
)
def test_an_interrupted_run_ends_like_an_uninterrupted_one(shapes, tmp_path, changes):
    check_resume(lambda: trainer(shapes[:8], **changes), 3, tmp_path)


def test_shapes_are_learned_in_a_few_steps(shapes):
    run = trainer(
        shapes,
        phases=[{"epochs": 10, "sizes": 96}],
        batch_size=8,
        optimizer={"rate": 3e-3},
        loss={"also_above": 0.4},
        augmentation={"scale": [0.95, 1.05], "aspect": 0, "hue": 0, "saturation": 0, "value": 0},
    )
    totals = []
    while run.step < run.total_steps:
        run.train_epoch(lambda loss: bool(totals.append(float(loss.total))))
    assert len(totals) == 20
    assert np.mean(totals[-4:]) < 0.6 * np.mean(totals[:4])


@pytest.mark.parametrize(("setting", "expected"), [(None, {0.15}), (0.0, {0.0}), (0.4, {0.4})])
def test_dropout_of_a_recipe_goes_before_the_detectors_own(shapes, setting, expected):
    run = trainer(shapes, detector="yolo_fastest", dropout=setting)
    assert {m.p for m in run.model.modules() if isinstance(m, torch.nn.Dropout)} == expected
    assert run.state()["detector"] == "yolo_fastest"  # for which the weights can start any other


def test_a_step_in_two_parts_is_the_same_step(shapes):
    exact = {"fixed_norm": "all", "optimizer": {"name": "sgd", "rate": 0.01}, "phases": ONE_PHASE}
    whole, parts = trainer(shapes, **exact), trainer(shapes, **exact, accumulate=2)
    for each in (whole, parts):
        go_on(each, stop_at=3)
    states = whole.model.state_dict(), parts.model.state_dict()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert parts.sums.loss == pytest.approx(whole.sums.loss, rel=1e-5)


def clock(run_: Trainer, seconds: float) -> None:
    """Have so many seconds passed in a run."""
    run_.elapsed = Stopwatch(seconds)
    run_.look_at_clock()


def test_a_run_with_minutes_follows_the_clock_where_it_is_faster(shapes, tmp_path):
    phases = [{"epochs": 300, "sizes": 64, "mosaic": 0.5}, {"epochs": 100, "sizes": 64}]
    run_ = trainer(shapes[:8], phases=phases, schedule={"minutes": 2.0})  # two steps an epoch
    go_on(run_, stop_at=1)
    assert run_.learning_rate == pytest.approx(1e-3, rel=1e-3) and not run_.is_over
    clock(run_, 60.0)
    go_on(run_, stop_at=2)
    assert run_.place == pytest.approx(400, abs=20)
    assert run_.learning_rate == pytest.approx(0.5e-3, rel=0.1)
    save_checkpoint(tmp_path / "last.pt", run_.state())
    again = trainer(shapes[:8], phases=phases, schedule={"minutes": 2.0})
    again.restore(load_checkpoint(tmp_path / "last.pt"))
    assert again.elapsed.seconds == pytest.approx(60.0, abs=20)
    assert again.place == pytest.approx(400, abs=80)


def test_the_minutes_reach_the_next_phase_within_an_epoch(shapes):
    phases = [{"epochs": 9, "sizes": 64}, {"epochs": 1, "sizes": 96}]
    run_ = trainer(shapes, phases=phases, schedule={"minutes": 1.0})
    assert run_.steps_per_epoch >= 4
    sides = []
    run_.model.register_forward_pre_hook(lambda _, given: sides.append(given[0].shape[-1]))

    def after_step(_):
        # What follows from one look at the clock is the same, however late it is by then.
        run_.elapsed = Stopwatch({1: 55.0, 2: 57.0}.get(run_.step, 61.0))
        return False

    assert run_.train_epoch(after_step) and run_.is_over
    assert sides == [64, 64, 96, 96]


def test_a_run_ends_with_its_minutes_within_an_epoch(shapes, tmp_path):
    run_ = trainer(shapes, schedule={"minutes": 1.0}, phases=[{"epochs": 50, "sizes": 64}])
    run_.elapsed = Stopwatch(59.99)
    console = Console(file=io.StringIO())
    assert run(run_, RunFolder(tmp_path / "run"), lambda _: {"AP": 0.5}, console)
    assert run_.step < run_.steps_per_epoch and run_.is_over
    (row,) = run_.history
    assert row["epoch"] == 1 and row["step"] == run_.step and row["AP"] == 0.5


def test_the_last_epoch_is_measured_though_the_minutes_end_while_it_is_written(
    shapes, tmp_path, monkeypatch
):
    run_ = trainer(shapes, schedule={"minutes": 1.0}, phases=[{"epochs": 50, "sizes": 64}])
    folder = RunFolder(tmp_path / "run")
    save = folder.save_last

    def slow(state):
        run_.elapsed = Stopwatch(60.0)
        save(state)

    monkeypatch.setattr(folder, "save_last", slow)
    assert run(run_, folder, lambda _: {"AP": 0.5}, Console(file=io.StringIO()))
    assert run_.history[-1]["AP"] == 0.5 and run_.history[-1]["step"] == run_.step


def test_a_run_goes_on_where_its_curves_cannot_be_written(shapes, tmp_path, monkeypatch, caplog):
    run_ = trainer(shapes[:8], phases=[{"epochs": 2, "sizes": 64}])
    monkeypatch.setattr(progress, "EVERY", 1)

    def fail(*_):
        raise ValueError("you tried to log 2.0") from OSError("No space left on device")

    monkeypatch.setattr(progress.TensorBoardLogger, "log_metrics", fail)
    console = Console(file=io.StringIO())
    assert run(run_, RunFolder(tmp_path / "run"), lambda _: {"AP": 0.5}, console)
    assert caplog.messages == ["No more curves for TensorBoard: No space left on device"]
    assert (tmp_path / "run" / "best.pt").is_file()


def test_another_recipe_is_refused_without_replan(shapes):
    state = trainer(shapes).state()
    other = trainer(shapes, optimizer={"rate": 0.5})
    with pytest.raises(ValueError, match="--replan"):
        other.restore(state)
    other.restore(state, replan=True)
    go_on(other, stop_at=2)
    assert other.learning_rate == 0.5, "the new recipe's rate, not that of the checkpoint"
    rounding = trainer(shapes, quantisation_aware=True)
    with pytest.raises(ValueError, match="quantisation_aware cannot change .*--start"):
        rounding.restore(state, replan=True)
    for evaluation in ({"size": 192}, {"size": 160, "fit": True}, {"size": 160, "metric": "AP50"}):
        with pytest.raises(ValueError, match="evaluation.size, .* cannot change .*--start"):
            trainer(shapes, evaluation=evaluation).restore(state, replan=True)
    trainer(shapes, evaluation={"size": 160, "every": 3}).restore(state, replan=True)
    with pytest.raises(ValueError, match="other classes"):
        Trainer(Recipe.from_dict(TINY), ("disc", "ball"), shapes).restore(state)
    with pytest.raises(ValueError, match="16 training images, not 15: give --replan"):
        Trainer(Recipe.from_dict(TINY), CLASSES, shapes[1:]).restore(state)


def test_a_replanned_run_may_change_its_optimizer(shapes):
    first = trainer(shapes, phases=ONE_PHASE, optimizer={"name": "sgd"})
    go_on(first, stop_at=1)
    second = trainer(shapes, phases=ONE_PHASE, optimizer={"name": "adam"})
    second.restore(first.state(), replan=True)
    go_on(second, stop_at=2)
    assert second.step == 2


def test_a_resumed_quantisation_aware_run_still_rounds(shapes, tmp_path):
    run_ = trainer(shapes, quantisation_aware=True, phases=ONE_PHASE)
    go_on(run_, stop_at=2)
    save_checkpoint(tmp_path / "last.pt", run_.state())
    model, _ = load_detector(tmp_path / "last.pt")
    assert is_prepared(model)
    image = torch.rand(1, 3, 64, 64)
    for found, expected in zip(model(image), run_.average.model(image), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-3)


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"detector": "a", "classes": [], "average": {}})

    class Unwritable:
        def __reduce__(self):
            raise RuntimeError("disk full")

    with pytest.raises(OSError, match="last.pt cannot be written: disk full"):
        save_checkpoint(path, {"detector": Unwritable()})
    assert load_checkpoint(path)["detector"] == "a"


def die_while_writing(path: Path) -> None:
    """Save a checkpoint in a process that dies half way."""
    write = torch.save

    def half(content, path):
        write(content, path)
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half
    save_checkpoint(path, {"detector": "b", "classes": [], "average": {}})


def test_a_process_killed_while_it_writes_loses_nothing(tmp_path):
    folder = RunFolder(tmp_path)
    save_checkpoint(folder.last, {"detector": "a", "classes": [], "average": {}})
    killed = multiprocessing.get_context("fork").Process(
        target=die_while_writing, args=(folder.last,)
    )
    killed.start()
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2, "an incomplete file is left next to the checkpoint"
    assert folder.read_last()["detector"] == "a"
    folder.begin(Recipe.from_dict(TINY), 1, [BadFile(Path("a.jpg"), "is cut off")])
    assert (tmp_path / "bad_files.txt").read_text() == "a.jpg: is cut off\n"
    assert [path.name for path in tmp_path.glob("*.pt")] == ["last.pt"]
    assert not list(tmp_path.glob(".*"))


def test_a_bad_file_whose_name_is_not_utf8_is_listed(tmp_path):
    bad = BadFile(Path(os.fsdecode(b"stra\xdfe.jpg")), "is cut off")
    RunFolder(tmp_path).begin(Recipe.from_dict(TINY), 0, [bad])
    assert (tmp_path / "bad_files.txt").read_bytes() == b"stra\xdfe.jpg: is cut off\n"


@pytest.mark.parametrize("text", ["{}", "[" * 9_999, "[1, "])
def test_a_damaged_list_of_starts_is_named(tmp_path, text):
    (tmp_path / "environment.json").write_text(text)
    with pytest.raises(ValueError, match=r"environment.json is damaged .*: move it away") as caught:
        RunFolder(tmp_path).begin(Recipe.from_dict(TINY), 1)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "environment.json").read_text() == text


def test_every_start_is_recorded_with_the_code_it_ran(tmp_path):
    folder, recipe = RunFolder(tmp_path), Recipe.from_dict(TINY)
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    for step, steps in ((0, [0]), (5, [0, 5]), (0, [0])):
        folder.begin(recipe, step)
        starts = json.loads((tmp_path / "environment.json").read_text())
        assert [start["step"] for start in starts] == steps
        assert all(start["commit"] == head for start in starts)


@pytest.mark.parametrize(
    "changes",
    [{"classes": 5}, {"classes": [1]}, {"average": [1]}, {"average": {"a": 1}}, {"recipe": None}],
)
def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path, changes):
    torch.save({"weights": torch.zeros(1)}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_detector(tmp_path / "x.pt")
    content = {"detector": "yolo_fastest", "classes": ["a"], "average": {}}
    torch.save(content | changes, tmp_path / "y.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        load_detector(tmp_path / "y.pt")


def test_a_run_cannot_go_on_from_weights_alone(shapes, folder, tmp_path, monkeypatch):
    """The best epoch, or the mean of several trainings, in the place of last.pt."""
    out = tmp_path / "run"
    out.mkdir()
    state = trainer(shapes[:4], phases=ONE_PHASE).state()
    save_checkpoint(out / "last.pt", {name: state[name] for name in DEPLOYED})
    monkeypatch.setattr("sys.argv", command(folder, out)[2:])
    with pytest.raises(SystemExit, match="the checkpoint has weights alone.*--start"):
        main()


def rates(epochs=(10,), steps_per_epoch=10, phase_rates=(1.0, 1.0), **schedule) -> list[float]:
    phases = [
        {"epochs": e, "sizes": 64, "rate": r} for e, r in zip(epochs, phase_rates, strict=False)
    ]
    recipe = Recipe.from_dict({"phases": phases, "schedule": schedule})
    return [rate_factor(step, steps_per_epoch, recipe) for step in range(sum(epochs) * 10)]


def test_learning_rate_warms_up_and_ends_low():
    found = rates(warmup_steps=10, final=0.1)
    assert found[:10] == pytest.approx(np.linspace(0.1, 1, 10))
    assert found[10] == 1
    assert all(a >= b for a, b in zip(found[10:], found[11:], strict=False))
    assert found[55] == pytest.approx(0.55, abs=0.01), "half way down in the middle"
    assert found[-1] == pytest.approx(0.1, abs=0.01)


def test_darknets_burn_in_and_steps():
    found = rates(
        name="steps", steps=[0.8, 0.9], scales=[0.1, 0.1], warmup_steps=10, warmup_power=4.0
    )
    assert found[4] == pytest.approx(0.5**4)
    assert found[10:80] == [1.0] * 70
    assert found[80:90] == pytest.approx([0.1] * 10)
    assert found[90:] == pytest.approx([0.01] * 10)


def test_a_restarted_schedule_begins_again_at_the_rate_of_its_phase():
    found = rates(epochs=(4, 6), phase_rates=(1.0, 0.1), restart=True)
    assert (found[0], found[40]) == (1.0, 0.1)
    assert found[20] == pytest.approx(0.5) and found[70] == pytest.approx(0.05)
    assert found[39] < 0.01 and found[99] < 0.001


def test_frozen_parts_stay_as_they_are(shapes):
    run = trainer(
        shapes, phases=[{"epochs": 1, "sizes": 64, "frozen_blocks": 3}], fixed_norm="backbone"
    )
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


def test_the_last_block_freezes_the_whole_backbone(shapes):
    model = trainer(shapes, detector="yolov4_tiny").model
    set_phase(model, Phase(1, (64,), frozen_blocks=3), "none")
    assert not any(p.requires_grad for p in model.backbone.parameters())
    set_phase(model, Phase(1, (64,), frozen_blocks=1), "none")
    trained = {n.split(".")[0] for n, p in model.backbone.named_parameters() if p.requires_grad}
    assert trained == {"blocks", "last"}, "what lies before the blocks is frozen with them"


def test_the_next_phase_unfreezes(shapes):
    model = trainer(shapes).model
    set_phase(model, Phase(1, (64,), frozen_blocks=16), "all")
    set_phase(model, Phase(1, (64,)), "none")
    assert all(p.requires_grad for p in model.parameters())
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize("name", ["sgd", "adam", "muon"])
def test_a_part_of_the_backbone_trains_before_the_rest(shapes, name):
    phases = [{"epochs": 1, "sizes": 32, "frozen_blocks": 2}, {"epochs": 1, "sizes": 32}]
    run_ = trainer(shapes[:4], phases=phases, optimizer={"name": name})
    before = [p.detach().clone() for p in run_.model.parameters()]
    go_on(run_)
    assert not any(p.equal(old) for p, old in zip(run_.model.parameters(), before, strict=True))


def test_only_kernels_decay_and_the_backbone_has_its_own_rate(shapes):
    model = trainer(shapes).model
    groups = parameter_groups(model, OptimizerSettings(weight_decay=0.1, backbone_rate=0.5))
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
    average.update(model, step=10_000, phase_steps=10_000)
    assert average.model.weight.item() == pytest.approx(start + 0.1)


@pytest.mark.parametrize("steps", [1, 3, 60, 470, 10_000])
def test_at_the_end_of_a_phase_little_of_the_average_is_from_before(steps):
    """A run ends with a phase without mosaics, which may be short."""
    model = torch.nn.Linear(1, 1)
    average = AveragedModel(model, decay=0.998)
    start = model.weight.item()
    with torch.no_grad():
        model.weight += 1
    for step in range(steps):
        average.update(model, 10_000 + step, phase_steps=steps)
    assert average.model.weight.item() == pytest.approx(start + 1, abs=0.02)


def test_a_trainer_averages_what_it_trains(shapes):
    run_ = trainer(shapes, ema_decay=0.5, phases=[{"epochs": 100, "sizes": 64}])
    mine, theirs = (next(m.parameters()) for m in (run_.average.model, run_.model))
    begun, passed = theirs.detach().clone(), []
    run_.train_epoch(lambda loss: bool(passed.append(theirs.detach().clone())) or len(passed) == 2)
    first = begun.lerp(passed[0], 1 - 2 / 11)  # early steps count more
    torch.testing.assert_close(mine, first.lerp(passed[1], 1 - 3 / 12))
    assert not mine.equal(begun) and not mine.equal(theirs)


def scripted_run(shapes, folder, values, **evaluation) -> Trainer:
    """Run one short epoch for each of ``values``, which the evaluations give in turn."""
    found = iter(values)
    run_ = trainer(
        shapes[:4],
        phases=[{"epochs": len(values), "sizes": 32}],
        evaluation={"size": 160, **evaluation},
    )
    run(run_, folder, lambda model: {"AP": next(found)}, Console(quiet=True))
    return run_


def test_the_best_epoch_is_kept_and_the_run_stops_when_none_is_better(shapes, tmp_path):
    folder = RunFolder(tmp_path)
    done = scripted_run(shapes, folder, [0.1, 0.3, 0.2, 0.3, 0.9], patience=2)
    assert done.epoch == 4 and best_epoch(done) == 2 and out_of_patience(done)
    assert load_checkpoint(folder.best)["step"] == 2 * done.steps_per_epoch
    assert load_checkpoint(folder.last)["step"] == 4 * done.steps_per_epoch
    model, content = load_detector(folder.best)
    assert content["classes"] == list(CLASSES) and "optimizer" not in content
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [row["AP"] for row in rows] == ["0.1", "0.3", "0.2", "0.3"]
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_a_run_stops_for_lack_of_patience_only_where_it_has_looked(shapes, tmp_path):
    """Else it would stop between two evaluations, with epochs that nobody has measured."""
    done = scripted_run(shapes, RunFolder(tmp_path), [0.1, 0.3, 0.2, 0.9, 0.9], patience=1, every=2)
    # Evaluated after epochs 2, 4 and 5, which get the first three values.
    assert [row.get("AP") for row in done.history] == [None, 0.1, None, 0.3, 0.2]


def test_a_finished_run_prints_where_its_best_weights_are(shapes, tmp_path):
    folder, shown = RunFolder(tmp_path), io.StringIO()
    done = scripted_run(shapes, folder, [0.1, 0.3, 0.2])
    run(done, folder, lambda model: {}, Console(file=shown, width=80))
    assert f"The run has ended; {folder.best} is epoch 2, the best in AP.\n" in shown.getvalue()


@pytest.mark.parametrize("better", [False, True])
def test_a_run_that_goes_on_with_more_images_is_measured_as_before(shapes, tmp_path, better):
    """Its epochs have more steps, so that it is in an early one again."""
    folder = RunFolder(tmp_path)
    before = scripted_run(shapes, folder, [0.1, 0.5, 0.2])
    more = trainer(shapes, phases=[{"epochs": 3, "sizes": 32}], evaluation={"size": 160})
    more.restore(folder.read_last(), replan=True)
    assert more.step == 3 * before.steps_per_epoch and more.epoch == 0
    found = iter([0.3, 0.6 if better else 0.4, 0.35])
    assert run(more, folder, lambda model: {"AP": next(found)}, Console(quiet=True))
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [row["AP"] for row in rows[3:]] == ["0.3", "0.6" if better else "0.4", "0.35"]
    assert int(rows[-1]["step"]) == more.total_steps
    best = 2 * (more if better else before).steps_per_epoch
    assert load_checkpoint(folder.best)["step"] == best


@pytest.mark.parametrize("nothing", [0.0, math.nan])
def test_epochs_without_a_result_do_not_stop_the_run(shapes, tmp_path, nothing):
    folder = RunFolder(tmp_path)
    done = scripted_run(shapes, folder, [nothing, nothing, nothing, 1e-4, nothing], patience=2)
    assert done.epoch == 5 and best_epoch(done) == 4
    assert load_checkpoint(folder.best)["step"] == 4 * done.steps_per_epoch


def test_a_run_without_a_result_says_so_and_keeps_its_last_weights(shapes, tmp_path):
    folder, shown = RunFolder(tmp_path), io.StringIO()
    done = scripted_run(shapes, folder, [0.0, 0.0, 0.0], patience=1)
    assert done.epoch == 3 and best_epoch(done) == 0 and not out_of_patience(done)
    assert load_checkpoint(folder.best)["step"] == 3 * done.steps_per_epoch
    run(done, folder, lambda model: {}, Console(file=shown, width=80))
    assert "no epoch reached AP above 0: check the data" in shown.getvalue()


def test_a_class_without_objects_never_gives_the_best_epoch(shapes, tmp_path, caplog, capsys):
    done = scripted_run(shapes, RunFolder(tmp_path), [math.nan, 0.1, math.nan])
    assert best_epoch(done) == 2
    assert "NaN" not in caplog.text + "".join(capsys.readouterr()), "no curve has such a point"


@pytest.mark.parametrize(
    "batch_size, accumulate, expected", [(4, 1, 4), (16, 4, 16), (64, 1, 16), (24, 2, 12)]
)
def test_the_speed_counts_the_images_there_are(
    shapes, monkeypatch, batch_size, accumulate, expected
):
    run_ = trainer(
        shapes,
        batch_size=batch_size,
        accumulate=accumulate,
        phases=[{"epochs": 1, "sizes": 32}],
    )
    seen, step = [], run_._train_step
    monkeypatch.setattr(
        run_, "_train_step", lambda net, parts, phase: seen.append(parts) or step(net, parts, phase)
    )
    run_.train_epoch(lambda loss: True)
    assert sum(len(part.images) for part in seen[0]) == run_.images_per_step == expected


def test_an_epoch_that_was_saved_but_not_evaluated_is_evaluated_first(shapes, tmp_path):
    folder, recipe = RunFolder(tmp_path), {"phases": ONE_PHASE}
    first = trainer(shapes[:4], **recipe)

    def killed(model):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(first, folder, killed, Console(quiet=True))
    second = trainer(shapes[:4], **recipe)
    second.restore(folder.read_last())
    assert second.epoch == 1 and not second.history
    seen = []

    def evaluate(model):
        seen.append(second.epoch)
        return {"AP": 0.0}

    run(second, folder, evaluate, Console(quiet=True))
    assert seen == [1, 2]
    assert second.history[0]["loss"] == pytest.approx(sum(first.sums.loss) / first.sums.steps)


def test_a_diverged_run_keeps_its_last_good_checkpoint(shapes, tmp_path):
    folder = RunFolder(tmp_path)
    diverging = trainer(
        shapes,
        phases=[{"epochs": 1, "sizes": 32}, {"epochs": 1, "sizes": 32, "rate": 1e30}],
        optimizer={"name": "sgd"},
        schedule={"name": "constant"},
    )
    with pytest.raises(DivergedError, match=r"epoch 2.*optimizer.rate"):
        run(diverging, folder, lambda model: {"AP": 0.0}, Console(quiet=True))
    state = load_checkpoint(folder.last)
    assert state["step"] == diverging.steps_per_epoch
    assert all(value.isfinite().all() for value in state["model"].values())


@pytest.mark.parametrize("every_step", [False, True])
def test_weights_that_are_no_numbers_are_not_saved(shapes, tmp_path, monkeypatch, every_step):
    """The loss is that of the weights before the step, and can still be finite."""
    monkeypatch.setattr("training.loop.run.SAVE_SECONDS", 0.0 if every_step else 1e9)
    folder = RunFolder(tmp_path)
    diverging = trainer(
        shapes[:8] if every_step else shapes[:4],
        phases=[{"epochs": 1, "sizes": 32}, {"epochs": 1, "sizes": 32, "rate": 1e45}],
        optimizer={"name": "sgd"},
        schedule={"name": "constant"},
    )
    with pytest.raises(DivergedError, match="optimizer.rate"):
        run(diverging, folder, lambda model: {"AP": 0.0}, Console(quiet=True))
    state = load_checkpoint(folder.last)
    assert state["step"] == diverging.steps_per_epoch
    assert all(value.isfinite().all() for value in state["model"].values())


def test_a_signal_does_not_save_a_diverged_run(shapes, tmp_path):
    folder, diverging = RunFolder(tmp_path), trainer(shapes[:4])

    def interrupted(after_step):
        os.kill(os.getpid(), signal.SIGTERM)
        raise DivergedError("no number")

    diverging.train_epoch = interrupted
    with pytest.raises(DivergedError):
        run(diverging, folder, lambda model: {"AP": 0.0}, Console(quiet=True))
    assert folder.read_last() is None


def test_the_progress_of_a_run_fits_a_terminal_of_80_columns():
    shown = io.StringIO()
    text = "loss 101.38: 3.09 box, 93.99 objectness, 4.30 classes; rate 7.5e-04; 86 images/s"
    with progress_bar(Console(file=shown, width=80)) as progress:
        progress.add_task("", total=12345, completed=100, epoch=12, text=text)
    bar, *rest = shown.getvalue().splitlines()
    assert "epoch 12" in bar and "100/12345" in bar and "-:--:--" in bar
    assert " ".join(rest).split() == text.split()


def test_steps_are_trained_at_inputs_that_fit_their_images(shapes):
    """Also of a resumed epoch; half of a drawn picture has the shape 2:1."""
    wide = [replace(s, image=s.image[:48]) for s in shapes[:4]]
    run_ = trainer(wide, phases=[{"epochs": 1, "sizes": 320, "fit": 1}], batch_size=2)
    seen = []
    run_.model.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    go_on(run_, 1)
    go_on(run_)
    assert seen == [(160, 320)] * 2


def test_a_log_gets_a_line_now_and_then(shapes, tmp_path, monkeypatch):
    shown = io.StringIO()
    run_ = trainer(shapes[:8], phases=[{"epochs": 3, "sizes": 32}])
    monkeypatch.setattr("training.loop.progress.now", lambda: 25.0 * run_.step)
    run(run_, RunFolder(tmp_path), lambda model: {"AP": 0.1}, Console(file=shown, width=40))
    lines = [line for line in shown.getvalue().splitlines() if "step" in line]
    assert [line.split(":")[0] for line in lines] == [
        "epoch 1, step 1/6",
        "epoch 2, step 4/6",
    ], "the first step, then every minute: each step takes 25 seconds here"
    assert re.search(r"loss \d.*classes; rate .*; \d+ images/s; about 0:00:\d\d left$", lines[0])


def test_the_time_left_is_that_of_the_steps_to_come(shapes):
    run_ = trainer(shapes, phases=[{"epochs": 1000, "sizes": 32}])
    run_.step, run_.sums = 1000, EpochSums(steps=10, seconds=25.0)
    assert run_.total_steps == 4000 and time_left(run_) == "2:05:00"  # 3000 steps of 2.5 s


def test_a_killed_run_loses_minutes_at_most(shapes, tmp_path, monkeypatch):
    folder, saved = RunFolder(tmp_path), []
    monkeypatch.setattr("training.loop.run.SAVE_SECONDS", 0.0)
    monkeypatch.setattr(folder, "save_last", lambda state: saved.append(state["step"]))
    recipe = {"phases": [{"epochs": 1, "sizes": 32}]}
    run(trainer(shapes, **recipe), folder, lambda model: {"AP": 0.1}, Console(quiet=True))
    assert saved == [1, 2, 3, 4, 4, 4], "every step, at the end of the epoch, after its evaluation"
    saved.clear()
    monkeypatch.setattr("training.loop.run.SAVE_SECONDS", 3600.0)
    run(trainer(shapes, **recipe), folder, lambda model: {"AP": 0.1}, Console(quiet=True))
    assert saved == [4, 4]


@pytest.mark.parametrize(
    "features, device, emulated",
    [
        ({"avx2", "fma"}, "cpu", True),
        ({"avx2", "avx512_bf16"}, "cpu", False),
        ({"avx2", "amx_bf16"}, "cpu", False),
        ({"asimd", "bf16"}, "cpu", False),
        ({"avx2", "fma"}, "cuda", False),
        (None, "cpu", False),
    ],
)
def test_bfloat16_is_only_emulated_where_it_is_asked_for(monkeypatch, features, device, emulated):
    monkeypatch.setattr("training.loop.precision.processor_features", lambda: features)
    precision, sentence = usable_precision("bf16-mixed", device)
    assert precision == ("32-true" if emulated else "bf16-mixed")
    assert ("no bfloat16 instructions" in sentence) == emulated
    assert usable_precision("16-mixed", device) == ("16-mixed", "")


@pytest.fixture
def folder(shapes, tmp_path):
    write_set(tmp_path, shapes)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**TINY, "phases": ONE_PHASE}))
    return tmp_path


def command(folder: Path, out: Path, *more: str) -> list[str]:
    options = {"--data": folder / "data.yaml", "--recipe": folder / "recipe.yaml", "--out": out}
    pairs = [str(word) for pair in options.items() for word in pair]
    train = [sys.executable, "-m", "training.train", "--accelerator", "cpu", "--threads", "1"]
    return [*train, *pairs, *more]


def metrics(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "metrics.csv").open()))


@pytest.mark.slow
def test_a_stopped_run_continues_with_the_same_command(folder, monkeypatch):
    out = folder / "run"
    first = subprocess.Popen(
        command(folder, out),
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    metrics_file = out / "metrics.csv"
    while not metrics_file.exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGTERM)
    text = first.communicate(timeout=60)[0]
    assert first.returncode == 0 and "Traceback" not in text, text
    step = load_checkpoint(out / "last.pt")["step"]
    assert 4 <= step <= 8

    monkeypatch.setattr("sys.argv", command(folder, out)[2:])
    main()
    checkpoint = load_checkpoint(out / "last.pt")
    assert checkpoint["step"] == 8
    rows = metrics(out)
    assert [row["epoch"] for row in rows] == ["1", "2"] and rows[-1]["AP50 disc"]
    starts = json.loads((out / "environment.json").read_text())
    assert [start["step"] for start in starts] == [0, step]
    assert starts[0]["packages"]["torch"] and starts[0]["command"][-1] == str(out)
    assert Recipe.read(out / "recipe.yaml") == Recipe.from_dict(checkpoint["recipe"])


def test_two_trainings_do_not_write_into_one_folder(folder, tmp_path, monkeypatch):
    out = tmp_path / "run"
    monkeypatch.setattr("sys.argv", command(folder, out)[2:])
    mine, told = locked(out, ValueError("it is mine")), "another training is writing into"
    with mine, pytest.raises(SystemExit, match=told):
        main()
    assert not list(out.iterdir())


def test_a_training_that_went_on_elsewhere_meanwhile_is_not_overwritten(tmp_path):
    stale, other = RunFolder(tmp_path), RunFolder(tmp_path)
    assert stale.read_last() is None and other.read_last() is None
    with other.locked():
        other.save_last({"step": 8})
    with pytest.raises(ValueError, match="gone on in .*: give the same command again"):
        stale.locked().__enter__()


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("--set", "optimizer.rat=1", "unknown setting optimizer.rat: known are name, rate"),
        (
            "--set",
            "evaluation.metric=loss",
            "one of AP, AP50, AP75, VOC07, VOC, AP50 disc, AP50 square, not",
        ),
        ("--start", "damaged.pt", "damaged.pt is damaged"),
        ("--start", "text.pt", "text.pt is damaged, or no file of PyTorch"),
        ("--start", "gone.pt", "gone.pt cannot be read: No such file or directory"),
        ("--start", "gone.onnx", "there is no model file gone.onnx"),
        ("--backbone", "damaged.pt", "damaged.pt is damaged"),
        ("--backbone", "foreign.pt", "foreign.pt does not say of which backbone it is"),
        ("--accelerator", "gpu", "--accelerator gpu: "),
    ],
)
def test_a_wrong_option_is_one_sentence(folder, monkeypatch, option, value, message):
    if value == "gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    (folder / "damaged.pt").write_bytes(b"PK\3\4 the rest is lost")
    (folder / "text.pt").write_text("hello\n")  # its bytes are instructions of a pickle
    torch.save({"a": torch.zeros(1)}, folder / "foreign.pt")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", command(folder, folder / "run", option, value)[2:])
    with pytest.raises(SystemExit) as caught:
        main()
    text = str(caught.value)
    assert "\n" not in text and message in text
    assert not (folder / "run").exists()


def test_a_loader_process_that_was_killed_is_told_in_one_sentence(shapes):
    others = set(multiprocessing.active_children())
    augmentation = Recipe.from_dict(TINY).augmentation
    batches = epoch_batches([*shapes] * 20, [96], 2, augmentation, 0.0, (0, 0))
    died = pytest.raises(MemoryShortageError, match=r"died.*--workers 0")
    with died as caught, memory_shortage_told():
        next(batches)
        for loader in set(multiprocessing.active_children()) - others:
            loader.kill()
        list(batches)
    # PyTorch's handler would raise the error again, anywhere, for each process that ends.
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has ..."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: not enough memory"
        ),
    ],
)
def test_a_step_without_memory_is_one_sentence(folder, monkeypatch, error):
    def step(*_: object) -> None:
        raise error

    monkeypatch.setattr("training.train.run", step)
    monkeypatch.setattr("sys.argv", command(folder, folder / "run", "--workers", "0")[2:])
    with pytest.raises(SystemExit, match=r"not enough memory.*raise accumulate") as caught:
        main()
    assert "\n" not in str(caught.value)


def test_a_start_has_a_backbone_of_its_own(folder, monkeypatch):
    """What --backbone has would be overwritten, though the run says that it was loaded."""
    options = ["--start", "micro_yolo", "--backbone", "backbone.pt"]
    monkeypatch.setattr("sys.argv", command(folder, folder / "run", *options)[2:])
    with pytest.raises(SystemExit, match="--start has a backbone, too: give --backbone or --start"):
        main()
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    "changes", [["phases=[{epochs: 1, sizes: 64, frozen_blocks: 3}]"], ["fixed_norm=backbone"]]
)
def test_what_is_not_trained_must_have_been_trained_before(folder, monkeypatch, changes):
    """Random blocks that are frozen pass next to nothing on, and a run would learn nothing."""
    options = ["--set", *changes]
    monkeypatch.setattr("sys.argv", command(folder, folder / "run", *options)[2:])
    with pytest.raises(SystemExit, match="not been trained: give --backbone or --start"):
        main()
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    "options", [["--start", "gone.pt"], ["--set", "evaluation.metric=AP49"], ["--backbone", "x.pt"]]
)
def test_mistakes_are_reported_before_the_images_are_read(folder, monkeypatch, options):
    monkeypatch.setattr(
        "training.train.open_for_training", lambda *_, **__: pytest.fail("it took minutes")
    )
    monkeypatch.setattr("sys.argv", command(folder, folder / "run", *options)[2:])
    with pytest.raises(SystemExit):
        main()


def test_only_the_pictures_of_the_views_are_halved(folder, monkeypatch):
    """The split val is seen as the node sees it, which halves the whole picture itself."""
    asked = {}

    def note(data, split, cache, least=None):
        asked[split] = least
        return open_for_training(data, split, cache, least=least)

    monkeypatch.setattr("training.train.open_for_training", note)
    monkeypatch.setattr("training.train.run", lambda *_: None)
    options = ["--set", "augmentation.scale=[0.5, 3.0]", "--set", "augmentation.aspect=0"]
    monkeypatch.setattr("sys.argv", command(folder, folder / "run", *options)[2:])
    main()
    recipe = Recipe.read(folder / "run" / "recipe.yaml")
    assert asked == {"train": recipe.view_pixels, "val": None}
    assert recipe.view_pixels.width == 3 * max(size.width for size in recipe.phases[0].sizes)


def test_a_run_goes_on_with_other_labels_only_if_it_is_told_to(folder, monkeypatch):
    def stopped(trainer, run_folder, *_):
        run_folder.save_last(trainer.state())

    def train(*more):
        monkeypatch.setattr("sys.argv", command(folder, folder / "run", *more)[2:])
        main()

    monkeypatch.setattr("training.train.run", stopped)
    train()
    train()
    label = next(path for path in folder.rglob("labels/train/*.txt") if path.read_text())
    label.write_text(label.read_text().replace("0.", "0.0", 1))
    with pytest.raises(SystemExit, match="other training images or labels: give --replan or a new"):
        train()
    train("--replan")
    state = load_checkpoint(folder / "run" / "last.pt")
    save_checkpoint(folder / "run" / "last.pt", {k: v for k, v in state.items() if k != "data"})
    train()  # a checkpoint of an earlier version does not say what it is of


def test_a_warm_up_longer_than_the_run_is_reported(folder, monkeypatch, capsys):
    monkeypatch.setattr("training.train.run", lambda *_: None)
    for steps, warned in ((8, True), (7, False)):
        options = ["--set", f"schedule.warmup_steps={steps}"]
        monkeypatch.setattr("sys.argv", command(folder, folder / "run", *options)[2:])
        main()
        printed = capsys.readouterr().out
        assert ("The warm-up of 8 steps is longer than the run of 8: train" in printed) == warned


@pytest.mark.parametrize("insisted", [False, True])
def test_a_processor_without_bfloat16_trains_in_float32(folder, monkeypatch, capsys, insisted):
    monkeypatch.setattr("training.loop.precision.processor_features", lambda: {"avx2"})
    monkeypatch.setattr("training.train.run", lambda *_: None)
    options = ["--set", "precision=bf16-mixed"]
    options += ["--precision", "bf16-mixed"] if insisted else []
    monkeypatch.setattr("sys.argv", command(folder, folder / "run", *options)[2:])
    main()
    said = "training in 32-true instead of the recipe's bf16-mixed" in capsys.readouterr().out
    assert said != insisted
    (start,) = json.loads((folder / "run" / "environment.json").read_text())
    assert start["precision"] == ("bf16-mixed" if insisted else "32-true")
    recipe = Recipe.read(folder / "run" / "recipe.yaml")
    assert recipe.precision == "bf16-mixed", "so the run may go on elsewhere"


@pytest.mark.parametrize("split", ["train", "val"])
def test_labels_in_another_folder_are_reported(folder, monkeypatch, split):
    (folder / "labels" / split).rename(folder / "labels" / "elsewhere")
    monkeypatch.setattr("sys.argv", command(folder, folder / "run")[2:])
    sentence = (
        f"data.yaml: no good image is left in '{split}'; the first: .*/elsewhere/0.txt has its name"
    )
    with pytest.raises(SystemExit, match=sentence):
        main()


@pytest.mark.parametrize("option", ["--devices", "--nodes"])
def test_no_process_at_all_is_refused(folder, monkeypatch, option, capsys):
    monkeypatch.setattr("sys.argv", command(folder, folder / "run", option, "0")[2:])
    with pytest.raises(SystemExit):
        main()
    assert f"argument {option}: '0' is not a whole number, 1 or more" in capsys.readouterr().err


# What `torchrun --standalone --nproc-per-node 2` launches, but for processes that are forked: each
# of them need not load PyTorch.
STANDALONE = LaunchConfig(
    min_nodes=1,
    max_nodes=1,
    nproc_per_node=2,
    rdzv_backend="c10d",
    rdzv_endpoint="localhost:0",
    start_method="fork",
)


@contextmanager
def unchanged_signals() -> Iterator[None]:
    """Give signals their handlers back: torchrun sets its own."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) != handler:
            signal.signal(number, handler)


def test_two_processes_learn_as_one(folder, monkeypatch):
    # Plain SGD: Adam's first steps make much of rounding errors. The frozen phase changes what is
    # trained, and so which gradients the processes exchange.
    recipe = {
        "detector": SMALLEST_YOLO_RET,
        "phases": [
            {"epochs": 1, "sizes": [32, 64], "frozen_blocks": 3},
            {"epochs": 1, "sizes": 64},
        ],
        "batch_size": 8,
        "accumulate": 2,
        "optimizer": {"name": "sgd", "rate": 0.01},
        "schedule": {"minutes": 600},
        "fixed_norm": "all",
        "evaluation": {"size": 160},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    save_checkpoint(folder / "start.pt", trainer([], detector=SMALLEST_YOLO_RET).state())
    one, two = folder / "one", folder / "two"
    options = ("--workers", "0", "--start", str(folder / "start.pt"))
    monkeypatch.setattr("sys.argv", command(folder, one, *options)[2:])
    main()
    monkeypatch.setattr("sys.argv", command(folder, two, *options)[2:])
    with unchanged_signals():
        elastic_launch(STANDALONE, main)()
    for mine, theirs in zip(metrics(one), metrics(two), strict=True):
        for name in ("loss", "box", "objectness", "classes"):
            assert float(theirs[name]) == pytest.approx(float(mine[name]), rel=1e-4), name
    alone, shared = (load_checkpoint(out / "last.pt")["average"] for out in (one, two))
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value, rtol=1e-3, atol=1e-5, msg=name)
