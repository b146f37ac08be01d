# SPDX-License-Identifier: Apache-2.0
"""What users get wrong about recordings and labels is an error, or does not change the result."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from bag_writer import (
    CODEC,
    PERIOD,
    SIZE,
    START,
    TOPIC,
    Recorded,
    Scene,
    draw_scene,
    header_of,
    image,
    labelled,
    storage_file,
    write_bag,
    write_file,
    write_labelled_bag,
)
from toy_model import CLASSES, write_toy_model

from compact_yolo_ros.apps.evaluate_bag import comparison_run, recording_evaluation
from compact_yolo_ros.apps.evaluate_bag.command import main
from compact_yolo_ros.apps.evaluate_bag.frame_labels import labels_of_topic, read_frame_labels
from compact_yolo_ros.apps.evaluate_bag.job import Job, parts
from compact_yolo_ros.apps.evaluate_bag.results import MeasuredPower
from compact_yolo_ros.apps.evaluate_bag.video import video_names
from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.evaluation import ClassMapping
from compact_yolo_ros.recordings import compression, reader
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError
from compact_yolo_ros.support.termination import handling

pytestmark = pytest.mark.usefixtures("no_report")

FRAMES = 6
SCENES = [draw_scene(number) for number in range(FRAMES)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_bag(tmp_path_factory.mktemp("a=b") / "drive 1", FRAMES)


def evaluated(path: Path, model: str, out: Path, *options: str) -> dict:
    assert main(["--bag", str(path), "--model", model, "--out", str(out), *options]) == 0
    return json.loads((out / "results.json").read_text())


def refused(path: Path, model: str, out: Path, *options: str) -> None:
    assert main(["--bag", str(path), "--model", model, "--out", str(out), *options]) == 1


def write_yolo(folder: Path, texts: dict[str, str], classes: str = "\n".join(CLASSES)) -> Path:
    folder.mkdir()
    (folder / "classes.txt").write_text(classes, "utf-8")
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def yolo_line(box: np.ndarray, label: int) -> str:
    x1, y1, x2, y2 = (box / SIZE).tolist()
    return f"{label} {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}\n"


def test_frames_are_numbered_from_the_beginning_of_the_recording(
    path: Path, model: str, tmp_path: Path
) -> None:
    lines = {
        str(number): "".join(map(yolo_line, scene.boxes, scene.labels))
        for number, scene in enumerate(SCENES)
    }
    labels = str(write_yolo(tmp_path / "labels", lines))
    options = ("--start", "0.25", "--ground-truth", labels)
    results = evaluated(path, model, tmp_path / "out", *options)
    assert results["topics"][TOPIC]["frames"]["all"] == 3
    assert results["accuracy"]["summary"]["AP50"] == 1.0


@pytest.mark.parametrize("option", ["--start", "--duration", "--latency", "--tolerance"])
@pytest.mark.parametrize("value", ["nan", "inf", "1e300", "soon"])
def test_times_are_numbers(
    path: Path,
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--bag", str(path), "--model", model, "--out", str(tmp_path), option, value])
    assert f"'{value}' is not a number" in capsys.readouterr().err


def test_a_part_without_images_is_an_error(
    path: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = ("--start", "0.02", "--duration", "0.04")
    refused(path, model, tmp_path / "out", *part, "--ground-truth", "/truth")
    assert f"no image of {TOPIC} is in that part" in capsys.readouterr().err


def test_detections_of_two_cameras_are_labels_of_each(model: str, tmp_path: Path) -> None:
    """Cameras that are triggered together give images of one stamp."""
    messages = []
    for number, scene in enumerate(SCENES):
        messages += [image(scene, number, "/left"), image(SCENES[-1 - number], number, "/right")]
    bag = write_bag(tmp_path / "bag", messages)
    both = ("--topic", "/left", "/right")
    evaluated(bag, model, tmp_path / "both", *both)
    labels = tmp_path / "both" / "detections.json"
    options = ("--ground-truth", f"/left={labels}", f"/right={labels}")
    results = evaluated(bag, model, tmp_path / "out", *both, *options)
    assert results["accuracy"]["summary"]["AP"] == 1.0


def coco(path: Path, image_values: dict, annotation: dict) -> Path:
    entry = {"id": 1, "width": SIZE, "height": SIZE, "timestamp_ns": START, "file_name": ""}
    given = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
    content = {
        "images": [entry | image_values],
        "annotations": [given | annotation],
        "categories": [{"id": 1, "name": "red"}],
    }
    path.write_text(json.dumps(content))
    return path


def test_labels_with_a_low_score_are_left_out(path: Path, tmp_path: Path) -> None:
    bag = Bag([path])
    labels = str(coco(tmp_path / "labels.json", {}, {"score": 0.2}))
    counts = [
        len(read_frame_labels(labels, bag, CLASSES, TOPIC, least).truths[0].boxes)
        for least in (0.1, 0.3)
    ]
    assert counts == [1, 0]


@pytest.mark.parametrize(
    ("image_values", "annotation", "sentence"),
    [
        ({"height": 0}, {}, "its height and width are missing"),
        ({"width": None}, {}, "its height and width are missing"),
        ({"width": -320}, {}, "stated to have -320x320 pixels"),
        ({}, {"iscrowd": "perhaps"}, "'iscrowd' of annotation 1 is 'perhaps': give 0 or 1"),
        ({"timestamp_ns": 10**25}, {}, "out of range"),
        ({}, {"bbox": [0, 0, float("nan"), 1]}, "is not four numbers"),
        ({}, {"bbox": [9, 9, -5, 5]}, "is empty or outside the image"),
        ({}, {"bbox": [9, 9, 0, 5]}, "is empty or outside the image"),
        ({}, {"bbox": [SIZE, 9, 5, 5]}, "is empty or outside the image"),
        ({}, {"category_id": 7}, "annotation 1 has the unknown category 7"),
        ({}, {"image_id": 7}, "annotations of image 7, which is not listed"),
        ({}, {"score": "high"}, "the 'score' of annotation 1 is not a number"),
    ],
)
def test_bad_coco_labels_are_refused(
    path: Path, tmp_path: Path, image_values: dict, annotation: dict, sentence: str
) -> None:
    labels = coco(tmp_path / "labels.json", image_values, annotation)
    with pytest.raises(BagError, match=sentence):
        read_frame_labels(str(labels), Bag([path]), CLASSES, threshold=0.1)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("0 .1 .1 .2", "line 1 is not five numbers"),
        ("0 100 100 50 50", "a centre x of 100, which is outside the image"),
        ("0.7 .5 .5 .1 .1", "class 0.7"),
        ("0 .5 .5 -.3 .1", "a width of -0.3"),
        ("0 .5 .5 0 .1", "is empty or outside the image"),
        ("0 .5 .5 .1 .1 2", "confidence 2, which is not in"),
    ],
    ids=["short", "pixels", "class", "negative", "empty", "confidence"],
)
def test_bad_yolo_labels_are_refused(path: Path, tmp_path: Path, line: str, sentence: str) -> None:
    labels = write_yolo(tmp_path / "labels", {"0": line})
    with pytest.raises(BagError, match=sentence):
        read_frame_labels(str(labels), Bag([path]), CLASSES)


def test_a_mark_before_the_first_class_is_not_of_its_name(path: Path, tmp_path: Path) -> None:
    names = "\ufeff" + "\r\n".join(CLASSES)
    labels = write_yolo(tmp_path / "labels", {"0": "0 .5 .5 .1 .1 .9"}, names)
    assert read_frame_labels(str(labels), Bag([path]), CLASSES).classes == CLASSES


def test_the_best_guess_of_a_label_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = CODEC.__class__.read

    def doubtful(codec: object, message: object) -> object:
        array = read(codec, message)  # type: ignore[arg-type]
        for detection in array.detections:
            other = SimpleNamespace(hypothesis=SimpleNamespace(class_id="worse", score=0.1))
            detection.results.insert(0, other)
        return array

    monkeypatch.setattr(CODEC.__class__, "read", doubtful)
    assert set(labels_of_topic(Bag([path]), "/truth", CLASSES).classes) <= set(CLASSES)


def test_an_equals_sign_may_be_in_a_path(path: Path, model: str, tmp_path: Path) -> None:
    assert "=" in str(path)
    results = evaluated(path, model, tmp_path / "out", "--ground-truth", f"{path}:/truth")
    assert results["accuracy"]["summary"]["AP"] == 1.0


def test_classes_that_may_be_meant_are_suggested() -> None:
    with pytest.raises(ValueError, match="perhaps --rename person=Pedestrian ball=balls"):
        ClassMapping.match(["person", "ball"], ["balls", "Pedestrian"])
    mapping = ClassMapping.match(["car", "motorbike"], ["car", "Motorcycle"])
    assert "perhaps --rename motorbike=Motorcycle" in mapping.left_out


def test_videos_have_names_of_their_own() -> None:
    assert video_names(["/cam/left"]) == {"/cam/left": "cam_left.mp4"}
    both = video_names(["/cam/left", "/cam_left"])
    assert both == {"/cam/left": "cam__left.mp4", "/cam_left": "cam_left.mp4"}


def test_a_video_has_the_size_of_most_frames(model: str, tmp_path: Path) -> None:
    tiny = Scene(np.zeros((1, 1, 3), np.uint8), SCENES[0].boxes, SCENES[0].labels)
    bag = write_bag(tmp_path / "bag", [image(s, n) for n, s in enumerate([tiny, *SCENES[1:3]])])
    evaluated(bag, model, tmp_path / "out", "--video", "--latency", "1")
    video = cv2.VideoCapture(str(tmp_path / "out" / "camera_image_raw.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_WIDTH) == SIZE
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3


@pytest.mark.parametrize(("width", "height"), [(33, 17), (1, 1)])
def test_a_video_shows_all_of_frames_with_odd_sides(
    model: str, tmp_path: Path, width: int, height: int
) -> None:
    pixels = np.full((height, width, 3), 100, np.uint8)
    scene = Scene(pixels, np.zeros((0, 4)), np.zeros(0, int))
    bag = write_bag(tmp_path / "bag", [image(scene, 0)])
    evaluated(bag, model, tmp_path / "out", "--video")
    _, frame = cv2.VideoCapture(str(tmp_path / "out" / "camera_image_raw.mp4")).read()
    assert frame.shape[:2] == (height + 1, width + 1)


def test_what_a_crash_left_does_not_stop_a_run(
    path: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = evaluated(path, model, tmp_path)
    sessions, log = tmp_path / "sessions.jsonl", tmp_path / "log" / "part_00.jsonl"
    with sessions.open("a") as file:
        file.write('{"seconds": 1')
    assert evaluated(path, model, tmp_path)["speed"]["seconds"] == before["speed"]["seconds"]
    whole = log.read_bytes()
    log.write_bytes(b"garbage\n" + whole)
    refused(path, model, tmp_path)
    assert "part_00.jsonl is damaged: give --restart to begin again" in capsys.readouterr().err
    log.write_bytes(whole[: whole.rindex(b'{"end"')] + b'{"end": 5}\n')
    refused(path, model, tmp_path)
    assert "part_00.jsonl is damaged: give --restart to begin again" in capsys.readouterr().err
    log.write_bytes(whole)
    sessions.write_text('{"seconds": "long"}\n')
    refused(path, model, tmp_path)
    assert "sessions.jsonl cannot be used (seconds is not a number)" in capsys.readouterr().err
    assert evaluated(path, model, tmp_path, "--restart")["speed"]["sessions"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_restart_removes_earlier_results(
    path: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    evaluated(path, model, tmp_path)

    def interrupt(*_: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(9)

    monkeypatch.setattr(recording_evaluation, "_write", interrupt)
    arguments = ["--bag", str(path), "--model", model, "--out", str(tmp_path), "--restart"]
    # a shell that starts a command in the background lets it ignore SIGINT
    with handling(signal.SIGINT, signal.default_int_handler):
        assert main(arguments) == 130
    assert not (tmp_path / "results.json").exists()


def test_two_evaluations_do_not_write_into_one_folder(
    path: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    refused(path, model, tmp_path)
    os.close(other)
    assert "another evaluation is writing" in capsys.readouterr().err
    evaluated(path, model, tmp_path)


def test_a_recording_at_time_zero_is_read(tmp_path: Path) -> None:
    """Simulated time stands still until /clock moves it."""
    bag = write_bag(tmp_path / "bag", [replace(image(SCENES[0], 0), time=0)])
    assert Bag([bag]).topics[TOPIC].count == 1


def test_times_beyond_the_range_are_an_error(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", [replace(image(SCENES[0], 0), time=2**63 + 5)])
    with pytest.raises(BagError, match="beyond the year 2262"):
        Bag([bag])


@pytest.mark.parametrize("latency", [1, 250])
def test_energy_is_that_of_answered_frames(
    path: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, latency: int
) -> None:
    def close(log: recording_evaluation.PowerLog) -> MeasuredPower:
        log.summary = log._monitor.summary()
        log._monitor.close()
        return MeasuredPower("x", "", 10.0, "", "")

    monkeypatch.setattr(recording_evaluation.PowerLog, "close", close)
    results = evaluated(path, model, tmp_path, "--latency", str(latency))
    (session,) = map(json.loads, (tmp_path / "sessions.jsonl").read_text().split("\n")[1:-1])
    assert session["frames"] == FRAMES - 1
    frames = results["topics"][TOPIC]["frames"]
    assert frames["dropped"] == {1: 0, 250: 3}[latency]
    # The first frame of a session is where its time begins.
    answered = (frames["all"] - 1) * frames["answered"] / frames["all"]
    joules = 10 * results["speed"]["seconds"] / answered
    assert results["power"]["joules_per_frame"] == pytest.approx(joules)


def test_times_are_of_the_machine_that_ran_the_model(
    path: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels may be added elsewhere, where the folders of a robot are mounted."""
    robot = {"processor": "a robot's", "cores": "6", "time": "then"}
    monkeypatch.setattr(recording_evaluation, "describe_machine", lambda _: robot)
    assert evaluated(path, model, tmp_path)["environment"] == robot
    monkeypatch.setattr(recording_evaluation, "describe_machine", lambda _: {"processor": "here"})
    again = evaluated(path, model, tmp_path, "--ground-truth", "/truth")
    assert again["accuracy"] and again["environment"] == robot
    assert evaluated(path, model, tmp_path, "--restart")["environment"] == {"processor": "here"}


def test_models_of_one_name_are_compared(path: Path, tmp_path: Path) -> None:
    models = []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        models.append(str(write_toy_model(tmp_path / name / "best.onnx")))
    arguments = ["--bag", str(path), "--out", str(tmp_path / "out"), "--ground-truth", "/truth"]
    assert main([*arguments, "--compare", *models]) == 0
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [candidate["name"] for candidate in content["candidates"]] == models
    assert (tmp_path / "out" / "old_best" / "results.json").is_file()


def test_options_that_cannot_be_run_are_an_error_before_the_others_are_run(
    path: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison_run, "evaluate_recording", lambda *_: pytest.fail("it was run"))
    for entry in (f"{model},100", f"{model},320", f"{model},int8"):
        arguments = ["--bag", str(path), "--out", str(tmp_path), "--compare", model, entry]
        assert main(arguments) == 1


def test_a_precision_that_is_not_run_is_a_warning(
    path: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = evaluated(path, model, tmp_path, "--precision", "int8", "--latency", "1")
    assert results["model"]["precision"] == "fp32"
    assert (
        "Warning: running fp32 on the CPU instead of what was requested" in capsys.readouterr().out
    )


def test_labels_by_number_are_doubted_where_images_are_missing(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    messages = [image(scene, number) for number, scene in enumerate(SCENES)]
    bag = write_bag(tmp_path / "bag", messages, "sqlite3")
    write_file(bag, lambda content: content[: len(content) * 3 // 4])
    labels = write_yolo(tmp_path / "labels", {"0": yolo_line(SCENES[0].boxes[0], 0)})
    evaluated(bag, model, tmp_path / "out", "--ground-truth", str(labels))
    assert "go by the number of the frame" in capsys.readouterr().out


def test_a_compressed_file_is_unpacked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [image(scene, number) for number, scene in enumerate(SCENES)]
    bag = Bag([write_bag(tmp_path / "bag", messages, "sqlite3", "file")])
    unpacked = []
    plain_file = reader.plain_file

    def counted(path: Path, lost: list[str]) -> object:
        unpacked.append(path)
        return plain_file(path, lost)

    monkeypatch.setattr(reader, "plain_file", counted)
    middle = messages[3].time
    parts = [bag.messages([TOPIC], 0, middle), bag.messages([TOPIC], middle)]
    assert [message.time for part in parts for message in part] == [m.time for m in messages]
    assert len(unpacked) == 1


def test_a_full_temporary_folder_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    bag = write_bag(tmp_path / "bag", [image(SCENES[0], 0)], "sqlite3", "file")
    monkeypatch.setattr(compression.shutil, "copyfileobj", fail)
    with pytest.raises(BagError, match="cannot unpack .*No space left on device; .*TMPDIR"):
        Bag([bag])


def test_a_recording_is_read_once(path: Path) -> None:
    with pytest.raises(BagError, match="is given twice"):
        Bag([path, storage_file(path)])


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"format": 1}', "[" * 99_999])
def test_other_results_are_not_compared(
    path: Path,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: str,
) -> None:
    (tmp_path / "results.json").write_text(content)
    arguments = ["--bag", str(path), "--out", str(tmp_path / "out"), "--compare", model]
    monkeypatch.setattr(comparison_run, "evaluate_recording", lambda *_: pytest.fail("it was run"))
    assert main([*arguments, str(tmp_path)]) == 1
    assert "was not written by this version" in capsys.readouterr().err


def test_recordings_of_different_days_are_cut_into_equal_parts(
    path: Path, model: str, tmp_path: Path
) -> None:
    year = 365 * 24 * 3600 * 10**9
    later = [replace(image(s, n), time=START + year + n * PERIOD) for n, s in enumerate(SCENES)]
    other = write_bag(tmp_path / "later", later)
    bag = Bag([path, other])
    spans = parts(Job((path, other), (TOPIC,), RunOptions(model)), bag)
    counts = [len(list(bag.messages([TOPIC], *span))) for span in spans]
    assert sum(counts) == 2 * FRAMES and max(counts) <= 2
    assert all(before[1] == after[0] for before, after in zip(spans, spans[1:], strict=False))
    middle = START + year // 2
    gap = Job((path, other), (TOPIC,), RunOptions(model), start=middle, stop=middle + 9)
    with pytest.raises(BagError, match="nothing is left"):
        parts(gap, bag)


@pytest.mark.parametrize("apart", [PERIOD, 86_400 * 10**9])
def test_the_time_between_recordings_does_not_count(
    model: str, tmp_path: Path, apart: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """But that between the files of one that was split, which follow each other at once."""
    length = (FRAMES - 1) * PERIOD
    paths = []
    for start in (0, length + apart):
        times = (START + start + n * PERIOD for n in range(FRAMES))
        messages = [replace(image(s, 0), time=t) for s, t in zip(SCENES, times, strict=True)]
        paths.append(str(write_bag(tmp_path / f"{start}", messages)))
    out = tmp_path / "out"
    arguments = ["--latency", "10", "--model", model, "--out", str(out)]
    assert main(["--bag", *paths, *arguments]) == 0
    results = json.loads((out / "results.json").read_text())
    seconds = (2 * length + (apart if apart == PERIOD else 0)) * 1e-9
    assert results["recording"]["seconds"] == pytest.approx(seconds)
    rate = results["speed"]["frames_per_second"]
    assert rate == pytest.approx(2 * FRAMES / seconds)
    stream = results["topics"][TOPIC]["stream"]
    assert stream["longest_gap_ms"] == stream["interval_ms"]["p50"] == 100.0
    # Also of a part that begins and ends between images.
    for begin in (0.25, length * 1e-9 + 0.15):
        part = ["--start", str(begin), "--duration", "0.75", "--restart"]
        assert main(["--bag", *paths, *arguments, *part]) == 0
        results = json.loads((out / "results.json").read_text())
        left = min(0.75, seconds - begin)
        assert results["recording"]["seconds"] == pytest.approx(left)
    assert main(["--bag", *paths, *arguments, "--start", "9", "--restart"]) == 1
    assert f"nothing is left of the recording, which is {seconds:.1f} s" in capsys.readouterr().err


def performance(number: int, watts: float) -> Recorded:
    stamp, make = START + number * PERIOD, CODEC.store.types
    values = {"age_ms": "20.0", "inference_ms": "9.0", "power_w": str(watts)}
    pairs = [make["diagnostic_msgs/msg/KeyValue"](*pair) for pair in values.items()]
    status = make["diagnostic_msgs/msg/DiagnosticStatus"](0, "camera", "", "", pairs)
    kind = "diagnostic_msgs/msg/DiagnosticArray"
    data = CODEC.store.serialize_cdr(make[kind](header_of(stamp), [status]), kind)
    return Recorded("/detector/performance", kind, stamp, bytes(data))


def test_power_and_stages_are_those_of_the_live_node(
    path: Path, model: str, tmp_path: Path
) -> None:
    """--restart does not run the model instead of what was recorded."""
    answers = [m for n, s in enumerate(SCENES) for m in (labelled(s, n), performance(n, 5.0 + n))]
    node = write_bag(tmp_path / "node", answers)
    results = evaluated(path, model, tmp_path / "out", "--recorded", str(node), "--restart")
    assert results["power"]["watts"] == 5.0 + (FRAMES - 1) / 2
    assert results["power"]["source"] == "the node"
    assert results["speed"]["stages_ms"]["inference"]["p50"] == pytest.approx(9)
    assert results["speed"]["age_ms"]["p50"] == pytest.approx(20)
