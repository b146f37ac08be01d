# SPDX-License-Identifier: Apache-2.0
"""The frame of studies, with a study of two small trainings."""

from __future__ import annotations

import json
import os
import signal
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from drawn import write_set
from rich.console import Console

from training.data.dataset import open_split
from training.data.sample import Sample
from training.detectors.variant import Variant
from training.loop.checkpoint import load_checkpoint
from training.loop.trainer import Trainer
from training.studies.command import STOPPED, Command
from training.studies.member import Member, Result, rows_of
from training.studies.report import Report, write_report
from training.studies.study import Effort, Study

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
DETECTOR = Variant.parse("yolo_fastest")


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


def test_a_study_stops_continues_and_ends_like_one_that_was_not_stopped(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = [Member("one", DETECTOR), Member("two", DETECTOR, hopeless=Signal())]
    options = ["--data", str(data), "--accelerator", "cpu", "--workers", "0", "--out"]
    out = tmp_path / "study"

    assert command(members).main([*options, str(out), "--plan"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Plan: 2 trainings (0 are finished), 32 views of images, about ")
    assert not out.exists(), "a plan trains nothing"

    assert command(members).main([*options, str(out)]) == STOPPED
    told = capsys.readouterr().out
    assert told.index("Plan: 2 trainings") < told.index("one, seed 0: yolo_fastest")
    assert told.rstrip().endswith("the same command continues.")
    written = json.loads((out / "results.json").read_text())
    assert [result["name"] for result in written["results"]] == ["one"]
    assert load_checkpoint(out / "two/last.pt")["step"] == 3, "it was cut off in its second epoch"
    first = (out / "one/last.pt").stat().st_mtime_ns

    assert command(members).main([*options, str(out)]) == 0
    assert "Plan: 1 trainings (1 are finished), 16 views" in capsys.readouterr().out
    assert (out / "one/last.pt").stat().st_mtime_ns == first, "a finished training was run again"
    found = json.loads((out / "results.json").read_text())["results"]
    assert [result["name"] for result in found] == ["one", "two"]
    assert [result["epochs"] for result in found] == [2, 2]
    weights = [load_checkpoint(out / name / "last.pt")["average"] for name in ("one", "two")]
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())
    page = (out / "results.md").read_text()
    assert "# Two" in page and "| two |" in page and page.endswith("One.\n")
    assert (out / "plot.svg").read_text().startswith("<?xml")
    assert not list(out.glob(".*")), "unfinished files are left"

    changes = ["--set", "optimizer.rate=0.5"]
    assert command(members).main([*options, str(out), *changes]) == 1
    assert "other settings: give another --out" in capsys.readouterr().err
    (out / "one/result.json").write_text("[1")
    assert command(members).main([*options, str(out)]) == 1
    assert "result.json is damaged" in capsys.readouterr().err


def test_a_training_has_its_first_weights_and_is_ended_when_it_is_hopeless(
    data: Path, tmp_path: Path
) -> None:
    seen: list[int] = []

    def begin(trainer: Trainer) -> None:
        for value in trainer.model.parameters():
            torch.nn.init.constant_(value, 0.5)

    def hopeless(trainer: Trainer) -> bool:
        seen.append(trainer.epoch)
        return True

    member = Member("m", DETECTOR, ("optimizer.rate=1e-30",), begin, "halves", hopeless=hopeless)
    silent = Console(quiet=True)
    study = Study(
        "s", data, tmp_path, EFFORT, lambda _: Report("", ["a"], []), silent, (0, 3), "cpu",
        workers=0,
    )  # fmt: skip
    results = study.run([member])
    assert seen == [1, 1] and [result.epochs for result in results] == [1, 1]
    assert [result.recipe["seed"] for result in results] == [0, 3]
    for folder in ("m", "m_seed3"):
        average = load_checkpoint(tmp_path / folder / "last.pt")["average"]
        assert (
            average["head.weight" if "head.weight" in average else next(iter(average))]
            .eq(0.5)
            .all()
        )
    other = Member("m", DETECTOR, ("optimizer.rate=1e-30",), begin, "another origin")
    with pytest.raises(ValueError, match="of a training with other settings"):
        study.train(other)


def result(name: str, seed: int, ap50: float) -> Result:
    return Result(name, "d", seed, 1, 1.0, 1, 1, 1.0, {"AP50": ap50}, [], {})


def test_seeds_of_a_member_become_one_row() -> None:
    rows = rows_of([result("a", 0, 0.2), result("b", 0, 0.5), result("a", 1, 0.3)])
    assert [(row.first.name, row.seeds) for row in rows] == [("a", 2), ("b", 1)]
    assert rows[0].ap50 == pytest.approx(0.25) and rows[0].spread == pytest.approx(0.1)
    assert [row.ap50_text for row in rows] == ["25.0 ± 5.0", "50.0"]


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
