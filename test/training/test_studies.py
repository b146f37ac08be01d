# SPDX-License-Identifier: Apache-2.0
"""The frame of studies, with a study of two small trainings."""

from __future__ import annotations

import json
import os
import re
import signal
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from drawn import write_set
from rich.console import Console

from training.data.dataset import open_split
from training.data.sample import Sample
from training.detectors.variant import Variant
from training.loop.checkpoint import load_checkpoint, save_checkpoint
from training.loop.trainer import Trainer
from training.studies.command import Command
from training.studies.member import Member, Result, rows_of
from training.studies.report import INK, Report, drawn, write_report
from training.studies.study import STOPPED, Cost, Effort, Study

EFFORT = Effort(
    "cpu_small",
    (
        "phases=[{epochs: 2, sizes: 32}]",
        "batch_size=4",
        "evaluation.size=160",
        "evaluation.every=1",
        "schedule.warmup_steps=1",
        "precision=32-true",
    ),
    images=8,
)
DETECTOR = Variant.parse("{name: yolov4_tiny, width: 0.1}")


def report(results: Sequence[Result], _: Namespace) -> Report:
    rows = [[row.first.name, row.ap50_text] for row in rows_of(results)]
    return Report("Two", ["name", "AP50"], rows, ["One."], lambda axes: axes.plot([0, 1]))


class Signal:
    """Sends SIGTERM after the first epoch, once."""

    def __init__(self) -> None:
        self.sent = False

    def __call__(self, trainer: Trainer) -> bool:
        if not self.sent:
            self.sent = True
            os.kill(os.getpid(), signal.SIGTERM)
        return False


def command(members: Sequence[Member], effort: Effort = EFFORT) -> Command:
    def work(study: Study, options: Namespace) -> None:
        study.run(members, options.plan)

    return Command("two", "Two trainings.", report, work, effort)


@pytest.fixture(scope="module")
def data(shapes: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"), shapes)


def half(trainer: Trainer) -> None:
    for value in trainer.model.parameters():
        torch.nn.init.constant_(value, 0.5)


def test_a_study_stops_continues_and_ends_like_one_that_was_not_stopped(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = ("optimizer.rate=1e-30",)
    members = [
        Member("one", DETECTOR),
        Member("two", DETECTOR, hopeless=Signal()),
        Member("three", DETECTOR, still, half, "halves", hopeless=lambda _: True),
    ]
    out = tmp_path / "study"
    options = ["--data", str(data), "--accelerator", "cpu", "--workers", "0", "--out", str(out)]

    assert command(members).main(options) == STOPPED
    told = capsys.readouterr().out
    assert re.match(
        r"Plan: 3 trainings \(0 are finished\), 48 views of images, "
        r"(about \d+ minutes?|less than one minute) here: ",
        told,
    )
    assert told.index("minute") < told.index(f"one, seed 0: {DETECTOR}")
    assert told.rstrip().endswith("the same command continues.")
    written = json.loads((out / "results.json").read_text())
    assert [result["name"] for result in written["results"]] == ["one"]
    assert load_checkpoint(out / "two/last.pt")["step"] == 3, "it was cut off in its second epoch"
    first = (out / "one/last.pt").stat().st_mtime_ns

    assert command(members).main(options) == 0
    assert "Plan: 2 trainings (1 is finished), 32 views" in capsys.readouterr().out
    assert (out / "one/last.pt").stat().st_mtime_ns == first, "a finished training was run again"
    found = json.loads((out / "results.json").read_text())["results"]
    assert [result["name"] for result in found] == ["one", "two", "three"]
    assert [result["epochs"] for result in found] == [2, 2, 1], "the last was hopeless"
    one, two, three = (load_checkpoint(out / m.name / "last.pt")["average"] for m in members)
    assert all(value.equal(two[name]) for name, value in one.items())
    assert all(value.eq(0.5).all() for name, value in three.items() if "conv" in name)
    page = (out / "results.md").read_text()
    assert "# Two" in page and "| two |" in page and page.endswith("One.\n")
    assert (out / "plot.svg").read_text().startswith("<?xml")
    assert not list(out.glob(".*")), "unfinished files are left"

    assert [result["stopped"] for result in found] == [False, False, True]
    to_the_end = [*members[:2], replace(members[2], hopeless=None)]
    assert command(to_the_end).main(options) == 0
    assert "Plan: 1 training (2 are finished)" in capsys.readouterr().out
    assert load_checkpoint(out / "three/last.pt")["step"] == 4, "it was begun anew"
    three = json.loads((out / "three/result.json").read_text())
    assert (three["epochs"], three["stopped"]) == (2, False)

    changed = [*members[:2], replace(members[2], origin="others")]
    for changes, settings, why in (
        (changed, [], "that began with halves, not with others"),
        (members, ["--set", "optimizer.rate=0.5"], "with other settings"),
    ):
        assert command(changes).main([*options, *settings]) == 1
        assert f"{why}: give another --out" in capsys.readouterr().err
    earlier = json.loads((out / "one/result.json").read_text())
    del earlier["data"]  # an earlier version did not write it
    (out / "one/result.json").write_text(json.dumps(earlier))
    assert command(members).main(options) == 1
    told = "one does not say which weights and images its training began with: give another --out"
    assert told in capsys.readouterr().err
    (out / "one/result.json").write_text("[1")
    assert command(members).main(options) == 1
    assert "result.json is damaged" in capsys.readouterr().err


def test_a_report_keeps_what_was_finished_behind_the_training_that_goes_on(
    data: Path, tmp_path: Path
) -> None:
    """As after an interruption of several trainings at a time."""
    out = tmp_path / "study"
    options = ["--data", str(data), "--accelerator", "cpu", "--workers", "0", "--out", str(out)]
    members = [
        Member("a", DETECTOR),
        Member("b", DETECTOR, hopeless=Signal()),
        Member("c", DETECTOR),
    ]
    assert command(members[2:]).main(options) == 0

    def reported() -> list[str]:
        return [
            result["name"] for result in json.loads((out / "results.json").read_text())["results"]
        ]

    assert command(members).main(options) == STOPPED
    assert reported() == ["a", "c"]
    assert command(members).main(options) == 0
    assert reported() == ["a", "b", "c"]


def test_a_folder_of_another_study_or_of_other_images_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study("s", data, tmp_path, EFFORT, lambda results: report(results, Namespace()),
                  Console(quiet=True), (0,), "cpu", workers=0)  # fmt: skip
    study.check_folder()
    write_report(tmp_path, study.report([]), [], study.facts)
    study.check_folder()
    facts = study.facts
    for content, told in (
        (
            {"facts": facts | {"study": "training.studies.t"}},
            r"of training.studies.t, not of train",
        ),
        ({"facts": facts | {"data": "other"}}, r"of other, not of set\d*, 8 images to train on, 4"),
        ({"AP": 0.5}, "was not written by a study: give another --out"),
    ):
        (tmp_path / "results.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=told):
            study.check_folder()
    assert json.loads((tmp_path / "results.json").read_text()) == {"AP": 0.5}
    begun = study.recipe(Member("a", DETECTOR), 0).to_dict()
    (tmp_path / "a").mkdir()
    for changes, told in (
        ({"batch_size": 5}, "a/last.pt is of a training with other settings: give"),
        ({}, "a does not say which weights and images its training began with: give"),
    ):
        checkpoint = {"recipe": begun | changes}
        rest = {"detector": str(DETECTOR), "classes": [], "average": {}}
        save_checkpoint(tmp_path / "a/last.pt", checkpoint | rest)
        with pytest.raises(ValueError, match=told):
            study.train(Member("a", DETECTOR))
    file = str(tmp_path / "results.json")
    assert command([]).main(["--data", "none", "--out", file]) == 1
    assert f"--out {file}: File exists" in capsys.readouterr().err


def test_a_study_without_memory_ends_in_one_sentence(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def begin(_: Trainer) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    members = [Member("a", DETECTOR, begin=begin)]
    options = ["--data", str(data), "--accelerator", "cpu", "--out", str(tmp_path / "out")]
    assert command(members).main(options) == 1
    assert "raise accumulate" in capsys.readouterr().err


def test_a_plan_trains_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every seed of every member, by the multiply-accumulates of its recipe."""
    monkeypatch.setattr(Study, "_step_seconds", lambda *_: 4.0)
    twice = Member("b", DETECTOR, ("phases.0.epochs=4",))
    options = ["--data", str(data), "--accelerator", "cpu", "--out", str(tmp_path / "out")]
    seeds = ["--plan", "--seeds", "0", "3"]
    assert command([Member("a", DETECTOR), twice]).main([*options, *seeds]) == 0
    # Two seeds of 2 + 4 epochs, each of 8 images and of a third of 4 images: 112 at a second each.
    assert (
        "4 trainings (0 are finished), 96 views of images, about 2 min" in capsys.readouterr().out
    )
    # Each at most a quarter of a minute and its last evaluation, a third of 4 images.
    limit = ["--set", "schedule.minutes=0.25"]
    assert command([Member("a", DETECTOR), twice]).main([*options, *seeds, *limit]) == 0
    told = capsys.readouterr().out
    assert "at most 96 views of images, about 1 minute here" in told
    monkeypatch.setattr(Study, "_step_seconds", lambda *_: 0.1)
    assert command([Member("a", DETECTOR)]).main([*options, "--plan"]) == 0
    assert "less than one minute here" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_search_counts_what_is_left_of_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Study, "_step_seconds", lambda *_: 1.0)
    study = Study("s", data, tmp_path, EFFORT, lambda results: report(results, Namespace()),
                  Console(quiet=True), (5,), "cpu", workers=0)  # fmt: skip
    for name in ("g0_seed5", "g1_seed5", "final_g0_seed5"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").touch()
    (tmp_path / "g2_seed5").mkdir()  # begun, not finished
    longer = Member("b", DETECTOR, ("phases.0.epochs=4",))
    cost = study.cost_of_search([(Member("a", DETECTOR), 4, "g*"), (longer, 2, "final_*")])
    # 2 of 8 images and 2 epochs, one of 4 epochs
    assert (cost.trainings, cost.finished, cost.views) == (3, 3, 2 * 8 * 2 + 8 * 4)
    done = study.cost_of_search([(longer, 1, "final_*")])
    assert str(done) == "Plan: the training is finished."
    assert str(Cost(0, 2, 0, 0.0, 0.0)) == "Plan: all 2 trainings are finished."
    one_left = str(Cost(1, 1, 1, 0.5, 60.0))
    assert one_left.startswith(
        "Plan: 1 training (1 is finished), 1 view of images, about 1 minute "
    )


def test_trainings_see_pictures_of_a_camera_as_those_of_training_train_do(
    shapes: list[Sample], tmp_path: Path
) -> None:
    """Each member those that its views need; what is measured on stays whole."""
    data = write_set(tmp_path / "set", shapes)
    for path in (tmp_path / "set").rglob("*.png"):
        assert cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (960, 960)))
    study = Study("s", data, tmp_path / "out", EFFORT, lambda results: report(results, Namespace()),
                  Console(quiet=True), (0,), "cpu", workers=0)  # fmt: skip
    digest = study.digest
    for size in (32, 128):
        recipe = study.recipe(Member("a", DETECTOR, (f"phases.0.sizes={size}",)), 0)
        own, least = study.samples(recipe), recipe.view_pixels
        wanted = open_split(data, "train", least=least, most=EFFORT.images)
        assert [e.image.reduction for e in own.entries] == [
            e.image.reduction for e in wanted.entries
        ]
        assert study.train_set is own is study.samples(recipe)
        assert own.entries[0].image.reduction > 1 and study.digest == digest
    assert all(entry.image.reduction == 1 for entry in study.held_out.entries)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_objects_is_refused(
    split: str, shapes: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """AP is not known there: a study ranked trainings by it all the same."""
    data = write_set(tmp_path / "set", shapes)
    for path in (tmp_path / "set" / "labels" / split).iterdir():
        path.write_text("")
    options = ["--data", str(data), "--out", str(tmp_path / "out"), "--accelerator", "cpu"]
    assert command([Member("a", DETECTOR)]).main([*options, "--workers", "0"]) == 1
    assert f"no image of '{split}' shows an object" in capsys.readouterr().err


WRONG = {
    "--set evaluation.metric=AP51": "evaluation.metric must be one of AP",
    "--set detector.width=0.2": "--set detector.width is not possible: the study changes it",
    "--set detector.neck=fpn": "unknown option detector.neck: yolov4_tiny has ",
    "--accelerator gpu": "--accelerator gpu: ",
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("options", WRONG)
def test_what_a_study_cannot_do_is_one_sentence(
    options: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(data), "--out", str(tmp_path), "--plan", *options.split()]
    assert command([Member("a", DETECTOR)]).main(given) == 1
    told = capsys.readouterr().err
    assert WRONG[options] in told and told.count("\n") == 1


@pytest.mark.parametrize(
    "options, told",
    [
        ("--seeds -1", "'-1' is not a whole number, 0 or more"),
        ("--images 2.5", "'2.5' is not a whole number, 0 or more"),
        ("--minutes 0", "'0' is not above 0"),
        ("--minutes nan", "'nan' is not a number up to 1e+09"),
    ],
)
def test_numbers_of_a_study_are_checked_before_anything_is_read(
    options: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command([]).main(["--data", "none", "--out", "none", *options.split()])
    assert told in capsys.readouterr().err


def result(name: str, seed: int, ap50: float) -> Result:
    return Result(name, "d", seed, 1, 1.0, 1, 1, 1.0, {"AP50": ap50}, [], {})


def test_seeds_of_a_member_become_one_row() -> None:
    rows = rows_of([result("a", 0, 0.2), result("b", 0, 0.5), result("a", 1, 0.3)])
    assert [(row.first.name, row.seeds) for row in rows] == [("a", 2), ("b", 1)]
    assert rows[0].ap50 == pytest.approx(0.25) and rows[0].spread == pytest.approx(0.1)
    assert [row.ap50_text for row in rows] == ["25.0 ± 5.0", "50.0 (1 of 2 seeds)"]


def test_a_report_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Report("Title", ["name"], [["old"]], (), None)
    write_report(tmp_path, shown, [result("a", 0, float("nan"))], {"data": "x"})
    old = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert json.loads(old["results.json"])["results"][0]["figures"] == {"AP50": None}

    def failing(*_: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("training.studies.report.page", failing)
    with pytest.raises(OSError):
        write_report(tmp_path, shown, [], {})
    assert (tmp_path / "results.md").read_text() == old["results.md"]


def test_a_part_of_a_split_is_the_same_in_every_call(data: Path) -> None:
    parts = [open_split(data, "train", "none", most=5) for _ in range(2)]
    names = [[entry.path.stem for entry in part.entries] for part in parts]
    assert names[0] == names[1] and len(names[0]) == 5
    assert len(open_split(data, "train", "none", most=99)) == 16


def test_notes_in_plots_can_be_read_on_white_and_on_black() -> None:
    def plot(axes: Any) -> None:
        axes.plot([0, 1], [1, 2], label="PANet")
        axes.legend()
        axes.annotate("no neck", (0.5, 1.5))

    pages = Path(__file__).parents[2] / "docs"
    plots = [drawn(plot), *(path.read_text() for path in pages.glob("studies_*.svg"))]
    for svg in plots:
        styles = re.findall(r"<text([^>]*)>", svg)
        assert styles and all(f"fill: {INK}" in style for style in styles)
