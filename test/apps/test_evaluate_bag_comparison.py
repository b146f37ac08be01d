# SPDX-License-Identifier: Apache-2.0
"""Several models on one recording side by side, and one job on several processes of a cluster."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from bag_writer import PERIOD, SIZE, START, TOPIC, draw_scene, write_labelled_bag
from hypothesis import given
from hypothesis import strategies as st
from toy_model import CARD, CELL, CLASSES, write_toy_model

from compact_yolo_ros.apps.evaluate_bag import cluster
from compact_yolo_ros.apps.evaluate_bag.cluster import run_elsewhere, run_on_cluster
from compact_yolo_ros.apps.evaluate_bag.command import main
from compact_yolo_ros.apps.evaluate_bag.comparison import (
    COSTS,
    Candidate,
    candidates,
    front,
    fronts,
    section,
    write_comparison,
)
from compact_yolo_ros.apps.evaluate_bag.comparison_run import read_options
from compact_yolo_ros.apps.evaluate_bag.detection_run import run
from compact_yolo_ros.apps.evaluate_bag.frame_log import FrameStages
from compact_yolo_ros.apps.evaluate_bag.job import Job
from compact_yolo_ros.apps.evaluate_bag.results import (
    AccuracyResults,
    DetectionCounts,
    Energy,
    FlickerCounts,
    FrameCounts,
    LabelCounts,
    ModelFacts,
    RecordingFacts,
    Results,
    Speed,
    StagePercentiles,
    TimeCourse,
    TopicResults,
    read_results,
    write_results,
)
from compact_yolo_ros.apps.evaluate_bag.results_folder import claim, read_frame_results
from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.detection.view import PLAIN, Area, View
from compact_yolo_ros.evaluation.result import Confusion, Summary
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError
from compact_yolo_ros.support.percentiles import Percentiles
from compact_yolo_ros.support.plain_values import to_plain

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


NAN = math.nan


def results_of(name: str, average_precision: float, milliseconds: float, **more: Any) -> Results:
    """What a comparison needs of the results of an evaluation."""
    figures = dict.fromkeys((f.name for f in fields(Summary)), NAN)
    accuracy = AccuracyResults(
        images=10,
        objects=1,
        score_threshold=0.3,
        iou_threshold=0.5,
        best_threshold=NAN,
        summary=Summary(**figures | {"ap": average_precision}),
        classes={},
        confusion=Confusion((), ()),
        worst_images=(),
        against="ground truth",
        matching={},
        unanswered=0,
        left_out="",
    )
    results = Results(
        model=ModelFacts(
            name, name, "onnxruntime", "CPU", "", "fp32", Size.square(320), 1, 1, ("a",)
        ),
        recording=RecordingFacts(("bag",), 0, 9, 1.0, ()),
        mode="offline",
        fixed_latency_s=None,
        threshold=0.3,
        topics={
            TOPIC: TopicResults(
                FrameCounts(10, 10, 0, {}),
                {},
                DetectionCounts(0, {}, FlickerCounts(0, 0, None)),
                TimeCourse((), (), (), (), ()),
            )
        },
        speed=Speed(
            frames_per_second=1.0,
            seconds=1.0,
            sessions=1,
            workers=1,
            network_share=None,
            stages_ms=StagePercentiles(None, None, None, None, Percentiles(milliseconds, 9.0, 9.0)),
            age_ms=None,
        ),
        power=Energy("", None, None, "", "", None, None),
        accuracy=accuracy,
        environment={},
    )
    return replace(results, **more)


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    written = results_of("a", 0.5, 1.0)
    write_results(tmp_path, written)
    read = read_results(tmp_path)
    assert to_plain(read) == to_plain(written)
    assert read.model == written.model and read.speed == written.speed
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["model"]["input_size"] == {"width": 320, "height": 320}
    assert content["accuracy"]["summary"]["AP"] == 0.5
    assert content["accuracy"]["summary"]["AP small"] is None


def test_models_are_evaluated_side_by_side(
    bag: Path, models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = models
    common = ["--bag", str(bag), "--ground-truth", "/truth", "--out", str(tmp_path)]
    assert main([*common, "--compare", first, f"{second},640,onnxruntime"]) == 0
    content = json.loads((tmp_path / "comparison.json").read_text())
    names = [candidate["name"] for candidate in content["candidates"]]
    assert names == ["first, 320x320", "second, 640x640"]
    assert content["candidates"][0]["AP50"] == 1.0
    assert set(content["fronts"]["latency"]) <= set(names) and content["fronts"]["energy"] == []
    page = (tmp_path / "comparison.html").read_text()
    assert "second, 640x640" in page and "<svg" in page
    assert (tmp_path / "second_640_onnxruntime" / "report.html").is_file()
    # What was evaluated before is compared as it is.
    again = tmp_path / "again"
    finished = [str(tmp_path / "first"), str(tmp_path / "second_640_onnxruntime")]
    assert main([*common[:4], "--out", str(again), "--compare", *finished]) == 0
    old, new = content["candidates"][0], json.loads((again / "comparison.json").read_text())
    assert new["candidates"][0]["latency_ms"] == old["latency_ms"]
    assert "comparison.html" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (["MODEL"], "--compare needs at least two entries that differ"),
        (["MODEL", "MODEL"], "--compare needs at least two entries that differ"),
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
    entries: list[str],
    sentence: str,
) -> None:
    given = [entry.replace("MODEL", models[0]) for entry in entries]
    assert main(["--bag", str(bag), "--out", str(tmp_path), "--compare", *given]) == 1
    assert sentence in capsys.readouterr().err


def test_options_are_read_in_any_order() -> None:
    common = RunOptions(threads=2, backend="onnxruntime")
    square, wide = (Size.square(320),), (Size(640, 384),)
    expected = RunOptions("m", threads=2, backend="openvino", input_sizes=square)
    assert read_options("m,320x320,openvino", common) == expected
    assert read_options("m,320,openvino", common) == expected.change(input_sizes=(320,))
    expected = common.change(model="a/m.onnx", precision="int8", input_sizes=wide)
    assert read_options("a/m.onnx,int8,640x384", common) == expected


@pytest.mark.parametrize("text", ["m,224,320", "m,fp16,320,int8", "m,onnxruntime,openvino"])
def test_an_entry_is_one_way_to_run_a_model(text: str) -> None:
    last = text.rpartition(",")[2]
    with pytest.raises(ValueError, match=f"'{text}' is run in one way only: .* for '{last}'"):
        read_options(text, RunOptions())
    assert read_options("m,auto,auto", RunOptions()) == RunOptions("m")


def test_only_what_was_run_alike_is_compared() -> None:
    results = [results_of("a", 0.5, 1), results_of("b", 0.5, 1, threshold=1.0)]
    with pytest.raises(BagError, match="differ in their score threshold"):
        candidates(results)


POINT = st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.4]), st.sampled_from([1.0, 2.0, 3.0, 4.0]))


@given(st.lists(POINT, min_size=1, max_size=8))
def test_nobody_beats_what_is_on_the_front(points: list[tuple[float, float]]) -> None:
    found = [Candidate(str(n), results_of("m", *point)) for n, point in enumerate(points)]
    kept = {candidate.name for candidate in front(found, COSTS["latency"])}
    on_front = {points[int(name)] for name in kept}
    for ap, cost in points:
        better = [p for p in points if p[0] >= ap and p[1] <= cost and p != (ap, cost)]
        assert ((ap, cost) in on_front) == (not better)


def test_what_is_not_known_is_on_no_front() -> None:
    found = [Candidate("a", results_of("a", NAN, 1.0)), Candidate("b", results_of("b", 0.1, 2.0))]
    assert [c.name for c in front(found, COSTS["latency"])] == ["b"]
    assert front(found, COSTS["energy"]) == []


WORKSTATION = {"processor": "Xeon", "cores": "32", "system": "Linux 6.8, x86_64", "time": "now"}
ROBOT = {"processor": "Cortex-A78", "cores": "6", "system": "Linux 5.15, aarch64", "time": "now"}


def measured(name: str, ap: float, ms: float, on: dict[str, str], source: str) -> Results:
    power = Energy(source, None, 5.0, "", "", ms / 100, 1.0)
    return results_of(name, ap, ms, environment=on, power=power)


def test_costs_of_different_machines_are_on_no_front_together(tmp_path: Path) -> None:
    """A slow model of the workstation does not beat the fast one of the robot."""
    results = [
        measured("large", 0.6, 5.0, WORKSTATION, "RAPL"),
        measured("slow", 0.5, 9.0, WORKSTATION, "RAPL"),
        measured("small", 0.4, 30.0, ROBOT, "battery"),
        measured("large", 0.6, 90.0, ROBOT, "battery"),
    ]
    names = ["large, Xeon, 32 cores", "slow, Xeon, 32 cores", "small, Cortex-A78, 6 cores",
             "large, Cortex-A78, 6 cores"]  # fmt: skip
    write_comparison(tmp_path, results)
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert [found["name"] for found in content["candidates"]] == names
    on_front = [names[0], names[2], names[3]]
    assert content["fronts"] == {"latency": on_front, "energy": on_front}
    assert content["candidates"][2]["machine"] == "Cortex-A78, 6 cores"
    assert content["candidates"][2]["meter"] == "battery"
    assert content["environment"] == {"time": "now"}, "that of one machine was given for all"
    page = (tmp_path / "comparison.html").read_text()
    for text in ("Xeon, 32 cores, Linux 6.8", "Cortex-A78, 6 cores, Linux 5.15", "power read by"):
        assert text in page


def test_energies_of_different_meters_are_on_no_front_together() -> None:
    """A battery gives the whole machine, RAPL the processor alone."""
    sources = ("RAPL", "battery", "battery")
    found = candidates(
        [
            measured(name, ap, ms, ROBOT, source)
            for name, ap, ms, source in zip(
                "abc", (0.6, 0.5, 0.4), (5.0, 9.0, 30.0), sources, strict=True
            )
        ]
    )
    assert [[c.name for c in kept] for kept in fronts(found, COSTS["latency"])] == [["a"]]
    assert [[c.name for c in kept] for kept in fronts(found, COSTS["energy"])] == [["a"], ["b"]]
    shown = section(found)
    assert shown.tables[-1].rows[1][1:] == ["Cortex-A78, 6 cores", "battery"]
    assert "different meters" in shown.text
    alike = section(candidates([measured(n, 0.5, 1.0, ROBOT, "battery") for n in "ab"]))
    assert "meter" not in alike.text and len(alike.tables) == 2


def untimed(folder: Path) -> list[bytes]:
    results = read_frame_results(folder)
    return [replace(result, stages=FrameStages()).to_line() for result in results]


def with_accuracy(results: Results, **changes: Any) -> Results:
    assert results.accuracy is not None
    return replace(results, accuracy=replace(results.accuracy, **changes))


def test_a_comparison_says_where_labels_or_classes_differ() -> None:
    results = [results_of("a", 0.5, 1), results_of("b", 0.4, 2)]
    results[1] = with_accuracy(results[1], left_out="Not evaluated: bus.")
    text = section(candidates(results)).text
    assert "not evaluated on the same classes" in text and "b: Not evaluated: bus." in text
    results = [
        with_accuracy(result, matching={TOPIC: LabelCounts(source, 9, 9, 9, 0, 0, 50.0, 0.0, 0.0)})
        for result, source in zip(results, ("old.json", "new.json"), strict=True)
    ]
    with pytest.raises(BagError, match="differ in their labels"):
        candidates(results)


def test_what_was_seen_or_played_otherwise_is_not_compared() -> None:
    first = results_of("a", 0.5, 1, view=PLAIN)
    for view in (View(rotation=90), View(roi=Area(0, 0, 8, 8)), View(tiles=(2, 1))):
        with pytest.raises(BagError, match="differ in their view of the images"):
            candidates([first, results_of("b", 0.4, 2, view=view)])
    # Without tiles there is nothing that overlaps.
    candidates([first, results_of("b", 0.4, 2, view=View(overlap=0.4))])
    candidates([first, results_of("b", 0.4, 2, view=PLAIN, playback_rate=1.0)])
    with pytest.raises(BagError, match="differ in their playback rate"):
        candidates([first, results_of("b", 0.4, 2, view=PLAIN, playback_rate=2.0)])


def write_coco(path: Path, shift: float = 0.0, *, backwards: bool = False) -> None:
    """The labels of the recording, so many pixels to the left."""
    images = [
        {"id": n, "timestamp_ns": START + n * PERIOD, "width": SIZE, "height": SIZE}
        for n in range(FRAMES)
    ]
    boxes = [
        (n, int(label) + 1, [max(0.0, float(box[0]) - shift), float(box[1]), CELL, CELL])
        for n in range(FRAMES)
        for box, label in zip(draw_scene(n).boxes, draw_scene(n).labels, strict=True)
    ]
    annotations = [
        {"id": n, "image_id": image, "category_id": category, "bbox": box}
        for n, (image, category, box) in enumerate(reversed(boxes) if backwards else boxes)
    ]
    classes = [{"id": n, "name": name} for n, name in enumerate(CLASSES, 1)]
    content = {"images": images, "annotations": annotations, "categories": classes}
    path.write_text(json.dumps(content))


@pytest.mark.usefixtures("no_report")
def test_labels_that_were_corrected_in_between_are_others(
    bag: Path, models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, out = tmp_path / "labels.json", tmp_path / "out"
    common = ["--bag", str(bag), "--ground-truth", str(labels)]
    write_coco(labels, shift=8)
    assert main([*common, "--model", models[0], "--out", str(tmp_path / "a")]) == 0
    write_coco(labels)
    assert main([*common, "--model", models[1], "--out", str(tmp_path / "b")]) == 0
    finished = ["--compare", str(tmp_path / "a"), str(tmp_path / "b")]
    assert main([*common, "--out", str(out), *finished]) == 1
    assert "differ in their labels" in capsys.readouterr().err
    # Other labels in the same folder are no other run; their order does not matter.
    write_coco(labels, backwards=True)
    assert main([*common, "--model", models[0], "--out", str(tmp_path / "a")]) == 0
    assert main([*common, "--out", str(out), *finished]) == 0


@pytest.mark.usefixtures("no_report")
def test_a_reference_of_another_content_is_another_one(
    bag: Path, models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = write_toy_model(tmp_path / "reference.onnx", replace(CARD, name="reference"))
    common = ["--bag", str(bag), "--reference", str(reference)]
    for name, model in zip(("a", "b"), models, strict=True):
        assert main([*common, "--model", model, "--out", str(tmp_path / name)]) == 0
    finished = ["--compare", str(tmp_path / "a"), str(tmp_path / "b")]
    assert main([*common, "--out", str(tmp_path / "out"), *finished]) == 0
    write_toy_model(reference, replace(CARD, name="reference", notes="another"))
    again = ["--model", models[1], "--out", str(tmp_path / "b"), "--restart"]
    assert main([*common, *again]) == 0
    assert main([*common, "--out", str(tmp_path / "out"), *finished]) == 1
    assert "differ in their labels" in capsys.readouterr().err


@pytest.mark.usefixtures("no_report")
def test_results_of_another_view_are_refused_and_so_are_those_that_do_not_say(
    bag: Path, models: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--bag", str(bag), "--ground-truth", "/truth"]
    part = ["--roi", "0", "0", "160", "320"]
    assert main([*common, "--model", models[0], "--out", str(tmp_path / "a")]) == 0
    assert main([*common, "--model", models[1], "--out", str(tmp_path / "b"), *part]) == 0
    finished = ["--compare", str(tmp_path / "a"), str(tmp_path / "b")]
    assert main([*common, "--out", str(tmp_path / "out"), *finished]) == 1
    assert "differ in their view of the images" in capsys.readouterr().err
    written = json.loads((tmp_path / "b" / "results.json").read_text())
    assert written["view"]["roi"] == {"x": 0, "y": 0, "width": 160, "height": 320}
    for keys in (["view"], ["accuracy", "labels_sha256"]):
        older = json.loads(json.dumps(written))
        inner = older
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        (tmp_path / "b" / "results.json").write_text(json.dumps(older))
        assert main([*common, "--out", str(tmp_path / "out"), *finished]) == 1
        said = capsys.readouterr().err
        assert f"{tmp_path / 'b'} is of an earlier version of evaluate_bag" in said
        assert said.strip().count("\n") == 0


def test_a_cluster_gives_what_one_process_gives(
    bag: Path, models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "_client", cluster_in_this_process)
    job = Job((bag,), (TOPIC,), RunOptions(models[0], threads=1))
    run(job, Bag([bag]), tmp_path / "one")
    done: list[int] = []
    run_on_cluster(job, Bag([bag]), tmp_path / "many", "local", workers=2, progress=done.append)
    assert untimed(tmp_path / "many") == untimed(tmp_path / "one")
    assert done[0] == 0 and done == sorted(done) and done[-1] == FRAMES
    # Nothing is left to do, so nobody is asked.
    monkeypatch.undo()
    run_on_cluster(job, Bag([bag]), tmp_path / "many", "tcp://127.0.0.1:1")


@pytest.mark.usefixtures("no_report")
def test_the_command_gives_the_same_results_on_a_cluster(
    bag: Path, models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.chdir(bag.parent)
    common = ["--bag", bag.name, "--ground-truth", "/truth", "--model", relative(models[0])]
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


@pytest.mark.usefixtures("no_report")
def test_times_of_a_cluster_are_not_said_to_be_of_this_machine(
    bag: Path, models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "_client", cluster_in_this_process)
    arguments = ["--bag", str(bag), "--model", models[0], "--out", str(tmp_path)]
    assert main([*arguments, "--cluster", "tcp://robots:8786"]) == 0
    environment = read_results(tmp_path).environment
    assert environment["processor"] == "those of tcp://robots:8786"
    assert environment["cores"] == "unknown" and environment["ONNX Runtime"]


def relative(path: str) -> str:
    return os.path.relpath(path)


@contextmanager
def cluster_in_this_process(*_: object) -> Iterator[Any]:
    options = {"processes": False, "n_workers": 1, "dashboard_address": None}
    with pytest.importorskip("distributed").Client(**options) as client:
        yield client


def test_workers_need_not_run_in_the_folder_of_the_command(
    bag: Path, models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(*task: Any) -> Any:
        os.chdir(tmp_path)
        return run_elsewhere(*task)

    monkeypatch.chdir(bag.parent)
    monkeypatch.setattr(cluster, "run_elsewhere", elsewhere)
    monkeypatch.setattr(cluster, "_client", cluster_in_this_process)
    job = Job((Path(bag.name),), (TOPIC,), RunOptions(relative(models[0]), threads=1))
    run_on_cluster(job, Bag([Path(bag.name)]), tmp_path / "many", "local")
    assert len(list(read_frame_results(tmp_path / "many"))) == FRAMES


def test_a_worker_with_another_recording_or_model_is_not_trusted(
    bag: Path, models: tuple[str, str], tmp_path: Path
) -> None:
    job = Job((bag,), (TOPIC,), RunOptions(models[0]))
    with pytest.raises(BagError, match="a worker of the cluster sees another model"):
        run_elsewhere(job, 0, {"model": "0"})
    shorter = write_labelled_bag(tmp_path / bag.name, FRAMES - 1)
    expected = cluster._fingerprint(Job((shorter,), (TOPIC,), job.options), Bag([shorter]))
    with pytest.raises(BagError, match="a worker of the cluster sees another recording"):
        run_elsewhere(job, 0, expected)


def test_however_a_path_is_written_it_is_the_same_run(
    bag: Path, models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run continues, and its results are compared, from whatever folder and by any name."""
    (tmp_path / "link").symlink_to(bag)
    other = write_labelled_bag(tmp_path / "other" / bag.name, 1)
    monkeypatch.chdir(bag.parent)
    spellings = [str(bag), bag.name, f"../{bag.parent.name}/{bag.name}", str(tmp_path / "link")]
    jobs = [
        Job((Path(spelling),), (TOPIC,), RunOptions(model))
        for spelling in spellings
        for model in (models[0], relative(models[0]))
    ]
    for job, spelling in zip(jobs, spellings * 2, strict=True):
        claim(job, Bag([Path(spelling)]), tmp_path / "out", restart=False)
    facts = [RecordingFacts(tuple(map(str, job.bags)), 0, 9, 9.0, ()) for job in jobs]
    first, second = results_of("a", 0.5, 1), results_of("b", 0.4, 2)
    for found in facts:
        candidates([replace(first, recording=facts[0]), replace(second, recording=found)])
    monkeypatch.chdir(other.parent)
    job = Job((Path(bag.name),), (TOPIC,), RunOptions(models[0]))
    with pytest.raises(BagError, match="another bags"):
        claim(job, Bag([other]), tmp_path / "out", restart=False)
    elsewhere = replace(second, recording=replace(facts[0], paths=(str(job.bags[0]),)))
    with pytest.raises(BagError, match="differ in their recording"):
        candidates([replace(first, recording=facts[0]), elsewhere])


def test_a_scheduler_that_is_not_there_is_one_sentence(
    bag: Path, models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("compact_yolo_ros.apps.evaluate_bag.cluster.CONNECTING", 0.5)
    job = Job((bag,), (TOPIC,), RunOptions(models[0]))
    with pytest.raises(BagError, match="there is no Dask scheduler at tcp://127.0.0.1:1"):
        run_on_cluster(job, Bag([bag]), tmp_path, "tcp://127.0.0.1:1")


def test_a_cluster_of_another_environment_is_one_sentence(
    bag: Path, models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Error during deserialization of the task graph. And more.")

    monkeypatch.setattr(cluster, "run_elsewhere", fail)
    monkeypatch.setattr(cluster, "_client", cluster_in_this_process)
    job = Job((bag,), (TOPIC,), RunOptions(models[0]))
    with pytest.raises(BagError, match="deserialization of the task graph; .* same versions"):
        run_on_cluster(job, Bag([bag]), tmp_path, "local")
