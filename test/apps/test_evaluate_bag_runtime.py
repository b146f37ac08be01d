# SPDX-License-Identifier: Apache-2.0
"""``backend auto`` chooses once for an evaluation: for all its processes, and all its sessions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rosbags", reason="recordings are read with rosbags")
pytest.importorskip("openvino", reason="OpenVINO is optional and not installed here")
from bag_writer import TOPIC, write_labelled_bag

from compact_yolo_ros.apps.evaluate_bag import detection_run
from compact_yolo_ros.apps.evaluate_bag.command import main
from compact_yolo_ros.apps.evaluate_bag.detection_run import Interrupted, PartRunner, run
from compact_yolo_ros.apps.evaluate_bag.job import Job
from compact_yolo_ros.backends import BackendError, RunOptions
from compact_yolo_ros.backends.fastest import Timing
from compact_yolo_ros.backends.remembered import remember
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.recordings.reader import Bag

pytestmark = pytest.mark.usefixtures("no_report")

FRAMES = 20


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_bag(tmp_path_factory.mktemp("bag") / "drive", FRAMES)


@pytest.fixture(autouse=True)
def _nothing_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """What the network is run with in this process, once for each time that it is opened."""
    found = []
    init = PartRunner.__init__

    def spy(self: PartRunner, *given: Any) -> None:
        init(self, *given)
        backend = self.detector.backend
        found.append((backend.name, backend.precision, backend.threads))

    monkeypatch.setattr(PartRunner, "__init__", spy)
    return found


def time_as_fastest(model: str, backend: str, threads: int = 1) -> None:
    """Leave the timings that a node would, of which this backend is the fastest."""
    file = find_model(model)
    slow = {"onnxruntime", "openvino"} - {backend}
    timings = [Timing(backend, "fp32", threads, 0.5, 0.5)]
    timings += [Timing(name, "fp32", 1, 5.0, 5.0) for name in slow]
    remember(file, RunOptions(model).resolved(file.card), timings)


def evaluated(path: Path, model: str, out: Path, *options: str) -> dict[str, Any]:
    given = ["--bag", str(path), "--topic", TOPIC, "--model", model, "--out", str(out)]
    assert main([*given, *options]) == 0
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    return results


def begin_with(out: Path, backend: str) -> None:
    """Change a run to one that was begun where there is another runtime."""
    identity = json.loads((out / "run.json").read_text())
    identity["runtime"]["backend"] = backend
    (out / "run.json").write_text(json.dumps(identity))


def interrupt(frames: int) -> None:
    if frames >= FRAMES // 2:
        raise Interrupted


@pytest.mark.parametrize("fastest", ["openvino", "onnxruntime"])
def test_any_number_of_processes_uses_what_was_timed_to_be_the_fastest(
    path: Path, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fastest: str
) -> None:
    sent = []
    distribute = detection_run._run_in_processes

    def spy(job: Job, *given: Any) -> None:
        sent.append(job)
        distribute(job, *given)

    monkeypatch.setattr(detection_run, "_run_in_processes", spy)
    time_as_fastest(toy, fastest)
    for workers in ("1", "2"):
        results = evaluated(path, toy, tmp_path / workers, "--workers", workers)
        assert (results["model"]["backend"], results["model"]["precision"]) == (fastest, "fp32")
    (job,) = sent
    assert job.runtime is not None and job.runtime.backend == fastest
    found = [(tmp_path / workers / "detections.json").read_bytes() for workers in ("1", "2")]
    assert found[0] == found[1]


def test_a_run_continues_with_what_it_began_with(
    path: Path, toy: str, tmp_path: Path, opened: list[tuple[str, str, int]]
) -> None:
    job, bag = Job((path,), (TOPIC,), RunOptions(toy)), Bag([path])
    with pytest.raises(Interrupted):
        run(job, bag, tmp_path / "out", progress=interrupt)
    time_as_fastest(toy, "openvino")  # a node that is started meanwhile
    run(job, bag, tmp_path / "out")
    assert [name for name, *_ in opened] == ["onnxruntime", "onnxruntime"]
    assert opened[0] == opened[1]
    run(job, bag, tmp_path / "new")
    assert opened[2][0] == "openvino"


def test_results_name_what_the_frames_were_run_with(
    path: Path, toy: str, tmp_path: Path, opened: list[tuple[str, str, int]]
) -> None:
    time_as_fastest(toy, "openvino")
    first = evaluated(path, toy, tmp_path / "out")
    time_as_fastest(toy, "onnxruntime", threads=2)
    again = evaluated(path, toy, tmp_path / "out", "--ground-truth", "/truth")
    assert again["model"] == first["model"]
    assert again["model"]["backend"] == "openvino" and again["model"]["threads"] == 1
    restarted = evaluated(path, toy, tmp_path / "out", "--restart")
    assert restarted["model"]["backend"] == "onnxruntime" and restarted["model"]["threads"] == 2
    assert opened == [("openvino", "fp32", 1), ("onnxruntime", "fp32", 2)]


def test_a_continued_run_warns_as_it_did_when_it_began(
    path: Path, toy: str, tmp_path: Path
) -> None:
    """What is opened again is what was chosen, and no longer what was requested."""
    options = ["--precision", "int8"]
    first = evaluated(path, toy, tmp_path / "out", *options)
    assert "instead of what was requested" in first["model"]["warning"]
    assert evaluated(path, toy, tmp_path / "out", *options)["model"] == first["model"]


def test_a_run_does_not_continue_with_another_runtime(
    path: Path, toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    evaluated(path, toy, out)
    begin_with(out, "tensorrt")
    given = ["--bag", str(path), "--model", toy, "--out", str(out)]
    assert main(given) == 1
    said = capsys.readouterr().err
    assert "it was begun with tensorrt" in said and "--restart" in said
    assert said.strip().count("\n") == 0
    assert main([*given, "--restart"]) == 0


def test_no_session_chooses_another_runtime(path: Path, toy: str, tmp_path: Path) -> None:
    job, bag = Job((path,), (TOPIC,), RunOptions(toy)), Bag([path])
    with pytest.raises(Interrupted):
        run(job, bag, tmp_path, progress=interrupt)
    begin_with(tmp_path, "tensorrt")
    for workers in (1, 2):
        with pytest.raises(BackendError, match="it was begun with tensorrt"):
            run(job, bag, tmp_path, workers=workers)


def test_another_run_is_refused_before_its_runtime_is_opened(
    path: Path, toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(path, toy, tmp_path / "out")
    given = ["--bag", str(path), "--model", toy, "--out", str(tmp_path / "out")]
    assert main([*given, "--backend", "openvino"]) == 1
    assert "holds a run with another backend" in capsys.readouterr().err


def test_a_job_for_other_machines_leaves_the_threads_to_them(path: Path, toy: str) -> None:
    from compact_yolo_ros.apps.evaluate_bag.cluster import _anywhere

    job = Job((path,), (TOPIC,), RunOptions(toy)).settled(workers=2)
    assert job.runtime is not None and job.runtime.threads >= 1
    sent = _anywhere(job, here=False).runtime
    assert sent == replace(job.runtime, threads=0)
    assert _anywhere(job, here=True).runtime == job.runtime
