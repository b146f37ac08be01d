# SPDX-License-Identifier: Apache-2.0
"""Several ways on one recording side by side, and one job on several processes of a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bag_writer import TOPIC, write_labelled_bag
from hypothesis import given
from hypothesis import strategies as st
from toy_model import CARD, write_toy_model

from compact_yolo_ros.apps.evaluate_bag import cluster
from compact_yolo_ros.apps.evaluate_bag.cluster import run_elsewhere, run_on_cluster
from compact_yolo_ros.apps.evaluate_bag.command import main
from compact_yolo_ros.apps.evaluate_bag.comparison import (
    ACCURACIES,
    Candidate,
    candidates,
    front,
    section,
)
from compact_yolo_ros.apps.evaluate_bag.detection_run import Job, records_of, run
from compact_yolo_ros.apps.evaluate_bag.variants import Way, read_way
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError

FRAMES = 20


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    cards = (replace(CARD, name=name) for name in ("first", "second"))
    paths = [write_toy_model(folder / f"{card.name}.onnx", card) for card in cards]
    return str(paths[0]), str(paths[1])


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_bag(tmp_path_factory.mktemp("bags") / "bag", FRAMES)


def plain(name: str, accuracy: float | None, milliseconds: float, **model: Any) -> dict[str, Any]:
    """What a comparison needs of results.json."""
    given = {"backend": "onnxruntime", "device": "CPU", "precision": "fp32", "threads": 1}
    return {
        "model": {
            "name": name,
            "given": name,
            "input_size": [320, 320],
            "parameters": 1,
            **given,
            **model,
        },
        "recording": {"paths": ["bag"], "start_ns": 0, "end_ns": 9},
        "mode": "offline",
        "fixed_latency_s": None,
        "threshold": 0.3,
        "topics": {TOPIC: {"frames": {"all": 10, "answered": 10}}},
        "speed": {
            "stages_ms": {"total": {"p50": milliseconds, "p95": 9.0, "p99": 9.0}},
            "age_ms": None,
            "frames_per_second": 1.0,
        },
        "power": {"joules_per_frame": None},
        "accuracy": {"against": "truth", "matching": {}, "summary": {"AP": accuracy}},
    }


def test_ways_are_evaluated_side_by_side(
    bag: Path, models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = models
    common = ["--bag", str(bag), "--ground-truth", "/truth", "--out", str(tmp_path)]
    ways = [first, f"{second},640,onnxruntime"]
    assert main([*common, "--compare", *ways]) == 0
    content = json.loads((tmp_path / "comparison.json").read_text())
    names = [candidate["name"] for candidate in content["candidates"]]
    assert names == ["first, 320x320", "second, 640x640"]
    assert content["candidates"][0]["AP50"] == 1.0
    assert set(content["fronts"]["latency"]) <= set(names) and content["fronts"]["energy"] == []
    page = (tmp_path / "comparison.html").read_text()
    assert "second, 640x640" in page and "<svg" in page
    assert (tmp_path / "second_640x640_onnxruntime" / "report.html").is_file()
    # What was evaluated before is compared as it is.
    again = tmp_path / "again"
    finished = [str(tmp_path / "first"), str(tmp_path / "second_640x640_onnxruntime")]
    assert main([*common[:4], "--out", str(again), "--compare", *finished]) == 0
    old, new = content["candidates"][0], json.loads((again / "comparison.json").read_text())
    assert new["candidates"][0]["latency_ms"] == old["latency_ms"]
    assert "comparison.html" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ways", "sentence"),
    [
        (["MODEL"], "--compare needs at least two different ways"),
        (["MODEL", "MODEL"], "--compare needs at least two different ways"),
        (["MODEL", "yolo_what"], "there is no model 'yolo_what'"),
        (["MODEL", "MODEL,fast"], "'fast' of"),
        (["MODEL", "MODEL,onnxruntime"], "is compared with itself"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    bag: Path,
    models: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    ways: list[str],
    sentence: str,
) -> None:
    given = [way.replace("MODEL", models[0]) for way in ways]
    assert main(["--bag", str(bag), "--out", str(tmp_path), "--compare", *given]) == 1
    assert sentence in capsys.readouterr().err


def test_a_way_is_read_in_any_order() -> None:
    assert read_way("m,320,openvino") == Way("m", (320, 320), "openvino")
    assert read_way("a/m.onnx,int8,384x640") == Way("a/m.onnx", (384, 640), None, "int8")


def test_only_what_was_run_alike_is_compared() -> None:
    results: list[Mapping[str, Any]] = [plain("a", 0.5, 1), {**plain("b", 0.5, 1), "threshold": 1}]
    with pytest.raises(BagError, match="differ in their score threshold"):
        candidates(results)


POINT = st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.4]), st.sampled_from([1.0, 2.0, 3.0, 4.0]))


@given(st.lists(POINT, min_size=1, max_size=8))
def test_nobody_beats_what_is_on_the_front(points: list[tuple[float, float]]) -> None:
    found = [Candidate(str(n), plain("m", *point)) for n, point in enumerate(points)]
    kept = {candidate.name for candidate in front(found, "latency_ms")}
    on_front = {points[int(name)] for name in kept}
    for ap, cost in points:
        better = [p for p in points if p[0] >= ap and p[1] <= cost and p != (ap, cost)]
        assert ((ap, cost) in on_front) == (not better)


def test_what_is_not_known_is_on_no_front() -> None:
    found = [Candidate("a", plain("a", None, 1.0)), Candidate("b", plain("b", 0.1, 2.0))]
    assert [c.name for c in front(found, "latency_ms")] == ["b"]
    assert front(found, "joules") == []


def untimed(folder: Path) -> list[bytes]:
    from compact_yolo_ros.apps.evaluate_bag.frame_results import Times

    return [replace(record, times=Times()).to_line() for record in records_of(folder)]


def test_other_labels_and_other_classes_are_told() -> None:
    results = [plain("a", 0.5, 1), plain("b", 0.4, 2)]
    for result, left_out in zip(results, ("", "Not evaluated: bus."), strict=True):
        result["accuracy"] |= {"left_out": left_out, "summary": dict.fromkeys(ACCURACIES, 0.5)}
    text = section(candidates(results)).text
    assert "not evaluated on the same classes" in text and "b: Not evaluated: bus." in text
    for result, source in zip(results, ("old.json", "new.json"), strict=True):
        found = {"labels_from": source, "labels": 9, "tolerance_ms": 50.0}
        result["accuracy"]["matching"] = {TOPIC: found}
    with pytest.raises(BagError, match="differ in their labels"):
        candidates(results)


def test_a_cluster_gives_what_one_process_gives(
    bag: Path, models: tuple[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("distributed")
    job = Job((bag,), (TOPIC,), models[0], threads=1)
    run(job, Bag([bag]), tmp_path / "one")
    told: list[int] = []
    run_on_cluster(job, Bag([bag]), tmp_path / "many", "local", workers=2, tell=told.append)
    assert untimed(tmp_path / "many") == untimed(tmp_path / "one")
    assert told[0] == 0 and told == sorted(told) and told[-1] == FRAMES
    # Nothing is left to do, so nobody is asked.
    run_on_cluster(job, Bag([bag]), tmp_path / "many", "tcp://127.0.0.1:1")


def test_the_command_gives_the_same_results_on_a_cluster(
    bag: Path, models: tuple[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("distributed")
    common = ["--bag", str(bag), "--ground-truth", "/truth", "--model", models[0]]
    assert main([*common, "--out", str(tmp_path / "one")]) == 0
    cluster = ["--cluster", "local", "--workers", "2"]
    assert main([*common, *cluster, "--out", str(tmp_path / "many")]) == 0
    one, many = (
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "many")
    )
    assert many["accuracy"] == one["accuracy"]
    assert many["topics"] == one["topics"]
    files = [(tmp_path / name / "detections.json").read_bytes() for name in ("one", "many")]
    assert files[0] == files[1]


def test_a_worker_with_another_model_is_not_trusted(bag: Path, models: tuple[str, str]) -> None:
    job = Job((bag,), (TOPIC,), models[0])
    with pytest.raises(BagError, match="a worker of the cluster sees another model"):
        run_elsewhere(job, 0, {"model": "0"})


def test_a_scheduler_that_is_not_there_is_one_sentence(
    bag: Path, models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("compact_yolo_ros.apps.evaluate_bag.cluster.CONNECTING", 0.5)
    job = Job((bag,), (TOPIC,), models[0])
    with pytest.raises(BagError, match="there is no Dask scheduler at tcp://127.0.0.1:1"):
        run_on_cluster(job, Bag([bag]), tmp_path, "tcp://127.0.0.1:1")


def test_a_cluster_of_another_environment_is_one_sentence(
    bag: Path, models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")

    def fail(*_: object) -> None:
        raise RuntimeError("Error during deserialization of the task graph. And more.")

    @contextmanager
    def here(*_: object) -> Iterator[Any]:
        options = {"processes": False, "n_workers": 1, "dashboard_address": None}
        with distributed.Client(**options) as client:
            yield client

    monkeypatch.setattr(cluster, "run_elsewhere", fail)
    monkeypatch.setattr(cluster, "_client", here)
    job = Job((bag,), (TOPIC,), models[0])
    with pytest.raises(BagError, match="deserialization of the task graph; .* same versions"):
        run_on_cluster(job, Bag([bag]), tmp_path, "local")
