# SPDX-License-Identifier: Apache-2.0
"""Several trainings by a plan; a small program stands in for the training where time is tested."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from threading import Event, Timer

import pytest
from rich.console import Console

from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.support.termination import handling
from training.loop.recipe import RECIPES, Recipe, find_recipe
from training.loop.run import ENDED
from training.run_all import Plan, RunPlan, Shared, chosen, main, read_plan, run_all

WORKER = """
import pathlib, signal, sys, time
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
goal = float(sys.argv[sys.argv.index("--detector") + 1])
done = out / "done"
count = int(done.read_text()) if done.exists() else 0
def stop(*_):
    done.write_text(str(count))
    print(f"Stopped at step {count}", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("begins at", count, *sys.argv[1:], flush=True)
if goal < 0:
    sys.exit("no such detector")
while count < goal:
    time.sleep(0.02)
    count += 1
done.write_text(str(count))
print("ENDED; best.pt is epoch 1", flush=True)
"""
NEVER = "1000000"
PLANS = RECIPES.parent / "plans"
SILENT = Console(quiet=True)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    file = tmp_path / "worker.py"
    file.write_text(WORKER.replace("ENDED", ENDED))
    return [sys.executable, str(file)]


def runs(*goals: str, minutes: float = 0.0) -> dict[str, RunPlan]:
    return {f"run{n}": RunPlan("d.yaml", goal, minutes=minutes) for n, goal in enumerate(goals)}


def test_all_runs_of_a_plan_are_done_in_turn(command: list[str], tmp_path: Path) -> None:
    plan = Plan(runs("3", "3", "3"), Shared(parallel=2, cache="disk"))
    found = run_all(plan, tmp_path / "out", 0, SILENT, Event(), command)
    assert [run.state for run in found.values()] == ["finished"] * 3
    log = (tmp_path / "out/run0/train.log").read_text()
    assert log.startswith("begins at 0 --data d.yaml --detector 3 --workers 1 --cache disk --out")
    again = run_all(plan, tmp_path / "out", 0, SILENT, Event(), command)
    assert [run.state for run in again.values()] == ["finished"] * 3
    assert (tmp_path / "out/run0/train.log").read_text() == log, "it was begun again"


def test_a_finished_run_that_the_plan_changes_is_begun_again(
    command: list[str], tmp_path: Path
) -> None:
    """The training says what has changed, and what to do; the plan cannot know."""
    run_all(Plan(runs("1", "1")), tmp_path, 0, SILENT, Event(), command)
    found = run_all(Plan(runs("1", "-1")), tmp_path, 0, SILENT, Event(), command)
    assert [run.state for run in found.values()] == ["finished", "failed"]
    assert (tmp_path / "run0/train.log").read_text().count("begins") == 1
    again = run_all(Plan(runs("1", "1")), tmp_path, 0, SILENT, Event(), command)
    assert [run.state for run in again.values()] == ["finished"] * 2


def test_when_the_time_is_over_all_save_and_later_continue(
    command: list[str], tmp_path: Path
) -> None:
    out, stop = tmp_path / "out", Event()
    plan = Plan(runs(NEVER, NEVER, "2"), Shared(parallel=2))

    def stop_when_both_work() -> None:
        logs = [out / name / "train.log" for name in ("run0", "run1")]
        while not all(log.exists() and log.stat().st_size for log in logs):
            time.sleep(0.02)
        stop.set()

    Timer(0, stop_when_both_work).start()
    found = run_all(plan, out, 0, SILENT, stop, command)
    assert [run.state for run in found.values()] == ["stopped", "stopped", "waiting"]
    steps = [int((out / name / "done").read_text()) for name in ("run0", "run1")]
    later = run_all(Plan(runs("2", "2", "2")), out, 0, SILENT, Event(), command)
    assert [run.state for run in later.values()] == ["finished"] * 3
    assert f"begins at {steps[0]} " in (out / "run0/train.log").read_text()


def test_a_run_has_a_time_of_its_own_over_all_starts(command: list[str], tmp_path: Path) -> None:
    plan = Plan(runs(NEVER, minutes=0.01))
    found = run_all(plan, tmp_path, 0, SILENT, Event(), command)["run0"]
    assert found.state == "out of time" and found.used >= 0.6
    again = run_all(plan, tmp_path, 0, SILENT, Event(), command)["run0"]
    assert again.state == "out of time" and again.used == pytest.approx(found.used, abs=0.1)
    assert (tmp_path / "run0/train.log").read_text().count("begins") == 1


def test_a_run_that_fails_does_not_hinder_others(command: list[str], tmp_path: Path) -> None:
    found = run_all(Plan(runs("-1", "2")), tmp_path, 0, SILENT, Event(), command)
    assert [run.state for run in found.values()] == ["failed", "finished"]
    assert found["run0"].last_line() == "no such detector"


@pytest.mark.parametrize("shared", ["batch_size=8", "[batch_size=8]"])
@pytest.mark.parametrize("own", ["seed=1", "[seed=1]"])
def test_a_single_change_of_the_recipe_is_joined_too(tmp_path: Path, shared: str, own: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(f"common: {{data: d, set: {shared}}}\nruns: {{a: {{set: {own}}}, b: {{}}}}\n")
    plan = read_plan(file)
    assert plan.runs["a"].set == ("batch_size=8", "seed=1")
    assert plan.runs["b"].set == ("batch_size=8",)


def test_runs_share_options_and_some_can_be_chosen(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(
        "common: {data: s/data.yaml, recipe: street, set: [batch_size=8]}\n"
        "runs:\n"
        "  a: {detector: micro_yolo, start: micro_yolo, set: [seed=1]}\n"
        "  b: {data: /v/data.yaml, start: b/last.pt, backbone: c.pt}\n"
    )
    plan = chosen(read_plan(file), (), ("seed=2",), Path("/root"))
    assert plan.runs["a"] == RunPlan(
        "/root/s/data.yaml",
        "micro_yolo",
        "street",
        "micro_yolo",
        set=("batch_size=8", "seed=1", "seed=2"),
    )
    run = plan.runs["b"]
    assert (run.data, run.start, run.backbone) == (
        "/v/data.yaml", "/root/b/last.pt", "/root/c.pt"
    )  # fmt: skip
    assert list(chosen(plan, ("b",), (), Path()).runs) == ["b"]
    with pytest.raises(ValueError, match="--only c: the plan has no such run, but a, b"):
        chosen(plan, ("c",), (), Path())


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_runs_of_a_shipped_plan_can_be_trained(path: Path) -> None:
    plan = read_plan(path)
    assert plan.shared.cache == "disk" and plan.shared.parallel > 1
    for name, run in plan.runs.items():
        recipe = Recipe.read(find_recipe(run.recipe, run.detector), run.set, run.detector)
        assert recipe.precision == "bf16-mixed" and recipe.evaluation.every <= 12, name
        if run.start:
            assert find_model(run.start).card.detector == recipe.detector.name, name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("runs: {a: {data: d.yaml, recipee: x}}", "unknown setting runs.a.recipee: known are data"),
        ("runs: {a: {recipe: x}}", "runs.a.data is missing"),
        ("runs: {}", "runs must have at least one"),
        ("parallel: 2", "'runs' must be a mapping of names to runs"),
        ("runs: {../a: {data: d.yaml}}", "runs.../a: give letters, digits, '_' and '-'"),
        ("runs: {a: {data: d.yaml}}\nparallel: 0", "parallel must be 1 or more, not 0"),
        ("runs: {a: {data: d.yaml}}\ncache: ram", "cache"),
        ("runs: {a: {data: d.yaml, minutes: -40}}", "runs.a.minutes must be 0 or more, not -40.0"),
    ],
)
def test_a_wrong_plan_is_one_sentence(
    text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    with pytest.raises(ValueError):
        read_plan(file)
    assert main([str(file), "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert sentence in told and told.count("\n") == 1 and str(file) in told


@pytest.mark.parametrize("minutes", ["nan", "-5", "inf"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, minutes: str) -> None:
    """It was over at once, with the exit code of a night that was too short."""
    plan = tmp_path / "plan.yaml"
    plan.write_text("runs: {a: {data: d.yaml}}")
    with pytest.raises(SystemExit, match="2"):
        main([str(plan), "--out", str(tmp_path / "out"), f"--minutes={minutes}"])


@pytest.mark.parametrize(
    ("number", "ignored", "ends"),
    [
        (signal.SIGINT, False, True),
        (signal.SIGTERM, False, True),
        (signal.SIGHUP, False, True),  # the terminal is closed
        (signal.SIGHUP, True, False),  # as nohup starts a command
    ],
)
def test_a_signal_asks_the_runs_to_save(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    ignored: bool,
    ends: bool,
) -> None:
    """They have sessions of their own, and would train on without a limit of their time."""
    (tmp_path / "plan.yaml").write_text("runs: {a: {data: x}}")
    asked = []

    def work(*given: object) -> dict[str, object]:
        os.kill(os.getpid(), number)
        asked.extend(value.is_set() for value in given if isinstance(value, Event))
        return {}

    monkeypatch.setattr("training.run_all.run_all", work)
    with handling(number, signal.SIG_IGN if ignored else lambda *_: None):
        assert main([str(tmp_path / "plan.yaml"), "--out", str(tmp_path)]) == 0
    assert asked == [ends]
