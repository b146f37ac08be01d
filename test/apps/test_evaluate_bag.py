# SPDX-License-Identifier: Apache-2.0
"""A recording is evaluated as the node would see it, an interrupted run continues, and every number
of processes gives the same result."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

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
    write_damaged_bag,
)
from rosbags.rosbag2 import Reader
from toy_model import CLASSES

from compact_yolo_ros.apps.evaluate_bag.command import main
from compact_yolo_ros.apps.evaluate_bag.detection_run import Interrupted, run, run_part
from compact_yolo_ros.apps.evaluate_bag.frame_log import (
    ANSWERED,
    DROPPED,
    FrameLog,
    FrameResult,
    read_frame_log,
)
from compact_yolo_ros.apps.evaluate_bag.job import PARTS, Job
from compact_yolo_ros.apps.evaluate_bag.playback import every_frame, prefetch
from compact_yolo_ros.apps.evaluate_bag.results_folder import read_frame_results
from compact_yolo_ros.apps.evaluate_bag.topic_statistics import Flicker
from compact_yolo_ros.backends import BackendError, RunOptions
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.selection import EVERYTHING
from compact_yolo_ros.detection.view import Area, View
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.recordings.image_types import COMPRESSED_IMAGE, IMAGE
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 24
SCENES = [draw_scene(number) for number in range(FRAMES)]
MS = 1_000_000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images whose labels are not all right, and one that is too short."""
    messages = []
    for number, scene in enumerate(SCENES):
        shown = scene if number % 5 else draw_scene(number + 100)
        messages += [image(scene, number), labelled(shown, number, late=3 * MS)]
    header = header_of(START + FRAMES * PERIOD)
    broken = CODEC.store.types[IMAGE](header, 480, 640, "rgb8", 0, 1920, np.zeros(9, np.uint8))
    data = bytes(CODEC.store.serialize_cdr(broken, IMAGE))
    messages.append(Recorded(TOPIC, IMAGE, START + FRAMES * PERIOD, data))
    return write_bag(tmp_path_factory.mktemp("bag") / "drive", messages)


def job_of(path: Path, options: str | RunOptions, **more: object) -> Job:
    options = RunOptions(options) if isinstance(options, str) else options
    return Job((path,), (TOPIC,), options, **more)  # type: ignore[arg-type]


def essence(record: FrameResult) -> tuple[object, ...]:
    """All of a frame's result but what was measured."""
    found = record.detections
    arrays = (found.boxes, found.scores, found.labels)
    return (
        *(record.topic, record.time, record.stamp, record.frame_id, record.outcome, record.size),
        *(array.tobytes() for array in arrays),
    )


def all_of(folder: Path) -> list[tuple[object, ...]]:
    return [essence(record) for record in read_frame_results(folder)]


@pytest.mark.parametrize("trt", ["10.3.0"], indirect=True)
def test_a_gpu_finds_the_same_with_two_frames_under_way(
    done: Path, path: Path, model: str, trt: object, tmp_path: Path
) -> None:
    job = job_of(path, RunOptions(model, backend="tensorrt"))
    with contextlib.closing(replace(job, realtime=True).open_detector()) as detector:
        assert detector.in_flight == 1
    folder = tmp_path / "done"
    run(job, Bag([path]), folder)
    for found, expected in zip(read_frame_results(folder), read_frame_results(done), strict=True):
        assert (found.stamp, found.outcome) == (expected.stamp, expected.outcome)
        scores = found.detections.scores, expected.detections.scores
        np.testing.assert_allclose(*scores, atol=1e-4)


@pytest.fixture(scope="module")
def done(path: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of one process in one go."""
    folder = tmp_path_factory.mktemp("done")
    run(job_of(path, model), Bag([path]), folder)
    return folder


def test_every_frame_is_what_the_detector_finds_in_it(done: Path, model: str) -> None:
    records = list(read_frame_results(done))
    assert [r.outcome for r in records] == [ANSWERED] * FRAMES + ["image truncated"]
    with contextlib.closing(Detector.open(model)) as detector:
        for record, scene in zip(records, SCENES, strict=False):
            expected = detector.detect(scene.pixels, "rgb")
            shown = record.detections.scores >= 0.3
            assert np.array_equal(record.detections.boxes[shown], expected.boxes)
            assert np.array_equal(record.detections.scores[shown], expected.scores)
    assert [r.stamp for r in records[:FRAMES]] == [START + n * PERIOD for n in range(FRAMES)]


def test_turned_and_cut_images_are_answered_in_their_own_pixels(
    path: Path, model: str, done: Path, tmp_path: Path
) -> None:
    def sure(folder: Path) -> list[list[list[float]]]:
        found = [r.detections for r in read_frame_results(folder) if r.outcome == ANSWERED]
        return [sorted(each.boxes[each.scores >= 0.3].round().tolist()) for each in found]

    for name, view in (("cut", View(roi=Area(0, 0, 640, 480))), ("turned", View(180))):
        run(job_of(path, model, view=view), Bag([path]), tmp_path / name)
        assert sure(tmp_path / name) == sure(done), name
    outside = View(roi=Area(640, 0, 8, 8))
    run(job_of(path, model, view=outside), Bag([path]), tmp_path / "outside")
    problems = [(r.outcome, r.problem) for r in read_frame_results(tmp_path / "outside")]
    assert all(outcome == "image roi" and "none of them" in why for outcome, why in problems[:-1])


@pytest.mark.parametrize("realtime", [False, True])
def test_large_jpegs_are_answered_in_their_own_pixels(
    model: str, tmp_path: Path, realtime: bool
) -> None:
    """Scenes four times as large: the network sees a quarter of each side."""
    large = [replace(scene, pixels=scene.pixels.repeat(4, 0).repeat(4, 1)) for scene in SCENES[:4]]
    path = write_bag(tmp_path / "jpegs", [jpeg(scene, n) for n, scene in enumerate(large)])
    job = Job((path,), (TOPIC,), RunOptions(model), realtime=realtime, latency=0.01)
    run(job, Bag([path]), tmp_path / "out")
    records = list(read_frame_results(tmp_path / "out"))
    assert [record.size for record in records] == [(1280, 1280)] * 4
    for record, scene in zip(records, large, strict=True):
        shown = record.detections.boxes[record.detections.scores >= 0.3]
        assert sorted(map(tuple, shown)) == sorted(map(tuple, scene.boxes * 4))


def jpeg(scene: Scene, number: int) -> Recorded:
    pixels = np.ascontiguousarray(scene.pixels[..., ::-1])
    content = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, 100))[1].reshape(-1)
    stamp = START + number * PERIOD
    message = CODEC.store.types[COMPRESSED_IMAGE](header_of(stamp), "jpeg", content)
    data = bytes(CODEC.store.serialize_cdr(message, COMPRESSED_IMAGE))
    return Recorded(TOPIC, COMPRESSED_IMAGE, stamp, data)


def test_two_processes_give_what_one_does(
    path: Path, model: str, done: Path, tmp_path: Path
) -> None:
    done_frames: list[int] = []
    run(job_of(path, model), Bag([path]), tmp_path, workers=2, progress=done_frames.append)
    assert all_of(tmp_path) == all_of(done)
    assert done_frames[-1] == FRAMES + 1


def test_parts_that_were_run_one_by_one_are_the_same(
    path: Path, model: str, done: Path, tmp_path: Path
) -> None:
    job = job_of(path, model)
    for part in (0, 7):
        run_part(job, tmp_path, part)
    run(job, Bag([path]), tmp_path)
    assert all_of(tmp_path) == all_of(done)


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(("storage", "lost"), [("mcap", 12), ("sqlite3", 3)])
def test_what_several_processes_could_not_read_is_added_up(
    model: str, tmp_path: Path, storage: str, lost: int
) -> None:
    """Each reads all of a damaged chunk in which its part begins or ends."""
    bag = write_damaged_bag(tmp_path / "bag", storage, [6, 13, 30])
    out = tmp_path / "out"
    for number in range(PARTS):
        run_part(job_of(bag, model), out, number)
    assert len(list(read_frame_results(out))) == 40 - lost
    for _ in range(2):  # also where nothing is left to do
        assert main(["--bag", str(bag), "--model", model, "--out", str(out)]) == 0
        results = json.loads((out / "results.json").read_text())
        how = "lost in damaged chunks" if storage == "mcap" else "damaged and lost"
        assert results["recording"]["lost"] == [
            f"{storage_file(bag).name}: {lost} messages of {TOPIC} are {how}",
            f"{lost} of 40 images of {TOPIC} could not be read",
        ]


@pytest.mark.parametrize("realtime", [False, True])
def test_an_interrupted_run_continues(
    path: Path, model: str, tmp_path: Path, realtime: bool
) -> None:
    job = job_of(path, model, realtime=realtime, latency=0.25 if realtime else None)
    bag, reference = Bag([path]), tmp_path / "reference"
    run(job, bag, reference)

    def interrupt(frames: int) -> None:
        if frames >= 9:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(job, bag, tmp_path / "cut", progress=interrupt)
    (last,) = [p for p in (tmp_path / "cut" / "log").iterdir() if _is_begun(p)][-1:]
    with last.open("ab") as file:
        file.write(b'{"topic": "/cam')  # as if the power had failed
    assert 9 <= len(all_of(tmp_path / "cut")) < len(all_of(reference))
    done_frames: list[int] = []
    run(job, bag, tmp_path / "cut", progress=done_frames.append)
    assert all_of(tmp_path / "cut") == all_of(reference)
    assert done_frames[0] == 9


def _is_begun(path: Path) -> bool:
    return path.stat().st_size > 0 and b'"end"' not in path.read_bytes()


def test_another_job_is_refused_in_the_same_folder(path: Path, model: str, tmp_path: Path) -> None:
    job, bag = job_of(path, model), Bag([path])
    run(job, bag, tmp_path)
    other = job_of(path, RunOptions(model, input_sizes=(Size.square(416),)))
    with pytest.raises(BagError, match="another input sizes.*--restart"):
        run(other, bag, tmp_path)
    run(other, bag, tmp_path, restart=True)
    os.utime(bag.files[0])
    with pytest.raises(BagError, match="another content of the recording"):
        run(other, Bag([path]), tmp_path)


def simulate(
    path: Path, model: str, folder: Path, topics: tuple[str, ...], latency: float
) -> list[FrameResult]:
    job = Job((path,), topics, RunOptions(model), realtime=True, latency=latency)
    run(job, Bag([path]), folder)
    return list(read_frame_results(folder))


def test_in_realtime_the_newest_frame_is_answered(path: Path, model: str, tmp_path: Path) -> None:
    """By hand: images every 100 ms arrive 5 ms after their stamps, and each takes 250 ms."""
    records = simulate(path, model, tmp_path, (TOPIC,), 0.25)
    by_hand = [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]
    answered = [(r.stamp - START) // PERIOD for r in records if r.outcome == ANSWERED]
    assert answered == by_hand
    ages = [round(r.age, 3) for r in records if r.outcome == ANSWERED]
    assert ages[:4] == [0.255, 0.305, 0.255, 0.305]
    numbers = [(r.time - 5 * MS - START) // PERIOD for r in records[:-1]]
    assert numbers == list(range(len(numbers)))
    assert {r.outcome for r in records} == {ANSWERED, DROPPED, "image truncated"}


def test_a_fast_robot_drops_nothing(path: Path, model: str, tmp_path: Path) -> None:
    records = simulate(path, model, tmp_path, (TOPIC,), 0.09)
    assert [r.outcome for r in records[:-1]] == [ANSWERED] * FRAMES
    assert {round(r.age, 4) for r in records[:-1]} == {0.095}


def test_cameras_take_turns(model: str, tmp_path: Path) -> None:
    names = ("/left", "/right")
    messages = [
        image(scene, number, name, 5 * MS + place)
        for number, scene in enumerate(SCENES[:12])
        for place, name in enumerate(names)
    ]
    bag = write_bag(tmp_path / "two", messages)
    records = simulate(bag, model, tmp_path / "out", names, 0.15)
    order = [r.topic for r in records if r.outcome == ANSWERED]
    assert order[:6] == ["/left", "/right"] * 3


def test_realtime_without_a_latency_measures_it(path: Path, model: str, tmp_path: Path) -> None:
    run(job_of(path, model, realtime=True), Bag([path]), tmp_path)
    answered = [r for r in read_frame_results(tmp_path) if r.outcome == ANSWERED]
    for record in answered:
        assert record.finished - record.time >= round(sum(record.stages) * 1e9) > 0


def test_a_full_disk_leaves_whole_records(tmp_path: Path) -> None:
    record = FrameResult(TOPIC, START, START, "camera", ANSWERED, Size.square(SIZE))
    path, line = tmp_path / "log.jsonl", len(record.to_line())
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from compact_yolo_ros.apps.evaluate_bag.frame_log import ANSWERED, FrameLog, FrameResult\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "size = int(sys.argv[2])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
        f"record = FrameResult({TOPIC!r}, {START}, {START}, 'camera', ANSWERED, ({SIZE}, {SIZE}))\n"
        "log = FrameLog(Path(sys.argv[1]))\n"
        "[log.append(record) for _ in range(9)]\n"
    )
    limit = 3 * line + line // 2
    ended = subprocess.run(
        [sys.executable, "-c", script, str(path), str(limit)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "BagError: cannot write" in ended.stderr and "what is done is kept" in ended.stderr
    assert path.stat().st_size == 3 * line
    with contextlib.closing(FrameLog(path)) as log:
        assert log.count == 3
    assert len(list(read_frame_log(path))) == 3


def test_a_full_disk_leaves_no_half_of_a_result(
    path: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_report: None
) -> None:
    arguments = ["--bag", str(path), "--model", model, "--out", str(tmp_path)]
    assert main(arguments) == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
        assert main(arguments) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    said = capsys.readouterr().err
    assert "cannot write" in said and said.strip().count("\n") == 0
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_sigterm_leaves_a_run_that_continues(
    path: Path, model: str, tmp_path: Path, no_report: None
) -> None:
    command = [
        sys.executable,
        "-m",
        "compact_yolo_ros.apps.evaluate_bag.command",
        "--bag",
        str(path),
    ]
    command += ["--model", model, "--out", str(tmp_path), "--realtime", "--latency", "1"]
    slow = "import sys,time; from compact_yolo_ros.detection.detector import Detector as D\n"
    slow += "d = D.answer\n"
    slow += "D.answer = lambda *a: (time.sleep(.5), d(*a))[1]\n"
    slow += (
        "from compact_yolo_ros.apps.evaluate_bag.command import main; sys.exit(main(sys.argv[1:]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", slow, *command[3:]], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        log = tmp_path / "log" / "part_00.jsonl"
        _wait_for(lambda: log.exists() and log.stat().st_size > 0)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait() == 130
    assert "the same command continues from here" in said
    assert b'"end"' not in log.read_bytes()
    assert main(command[3:]) == 0
    assert b'"end"' in log.read_bytes()


def _wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)


def pycocotools(truth: dict, found: list[dict]) -> float:
    """AP by the reference program."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        labelled_ = COCO()
        labelled_.dataset = truth
        labelled_.createIndex()
        judge = COCOeval(labelled_, labelled_.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0])


def test_the_command_writes_figures_that_are_those_of_pycocotools(
    path: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--ground-truth", "/truth", "--video", "--score", "0.4"]
    assert main(["--bag", str(path), "--model", model, "--out", str(tmp_path), *options]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    content = json.loads((tmp_path / "detections.json").read_text())
    image_of = {entry["timestamp_ns"]: entry["id"] for entry in content["images"]}
    annotations = []
    for number, scene in enumerate(SCENES):
        shown = scene if number % 5 else draw_scene(number + 100)
        for (x1, y1, x2, y2), label in zip(shown.boxes.tolist(), shown.labels, strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_of[START + number * PERIOD],
                    "category_id": int(label) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    truth = {**content, "annotations": annotations}
    expected = pycocotools(truth, content["annotations"])
    assert 0.3 < expected < 0.95
    assert results["accuracy"]["summary"]["AP"] == pytest.approx(expected, abs=1e-9)

    matching = results["accuracy"]["matching"][TOPIC]
    assert (matching["matched"], matching["mean_offset_ms"]) == (FRAMES, 3.0)
    frames = results["topics"][TOPIC]["frames"]
    assert frames == {
        "all": FRAMES + 1,
        "answered": FRAMES,
        "dropped": 0,
        "errors": {"image truncated": 1},
    }
    assert results["accuracy"]["worst_images"]
    page = (tmp_path / "report.html").read_text()
    assert "Worst images" in page and "data:image/jpeg;base64" in page and "http-equiv" not in page
    assert "AP50" in capsys.readouterr().out

    video = cv2.VideoCapture(str(tmp_path / "camera_image_raw.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == FRAMES
    assert round(video.get(cv2.CAP_PROP_FPS)) == 10

    with Reader(tmp_path / "detections") as reader:
        (connection,) = reader.connections
        written = [
            CODEC.store.deserialize_cdr(data, connection.msgtype) for *_, data in reader.messages()
        ]
    assert connection.topic == f"{TOPIC}/detections"
    assert len(written) == FRAMES
    scene = SCENES[2]
    assert written[2].header.stamp.nanosec == 200 * MS
    names = sorted(d.results[0].hypothesis.class_id for d in written[2].detections)
    bright = [scene.pixels[int(y1), int(x1)].max() >= 0.4 * 255 for x1, y1, *_ in scene.boxes]
    assert names == sorted(CLASSES[n] for n, b in zip(scene.labels, bright, strict=True) if b)


def test_a_model_agrees_with_itself(
    path: Path, model: str, tmp_path: Path, no_report: None
) -> None:
    arguments = ["--bag", str(path), "--model", model, "--reference", model]
    assert main([*arguments, "--out", str(tmp_path), "--realtime", "--latency", "250"]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["accuracy"]["summary"]["AP"] == 1.0
    assert "agreement with" in results["accuracy"]["against"]
    assert results["accuracy"]["unanswered"] > 0
    assert results["report"] == "a report needs matplotlib"
    assert results["speed"]["age_ms"]["p50"] == pytest.approx(280, abs=30)


def test_topics_with_labels_of_their_own_are_evaluated_together(
    model: str, tmp_path: Path, no_report: None
) -> None:
    """What is not labelled for one camera does not count there, though another has it."""
    messages = []
    for number, scene in enumerate(SCENES[:8]):
        reds = Scene(scene.pixels, scene.boxes[scene.labels == 0], scene.labels[scene.labels == 0])
        messages += [image(scene, number, "/left"), image(scene, number, "/right")]
        messages += [labelled(scene, number, "/all"), labelled(reds, number, "/reds")]
    bag = write_bag(tmp_path / "bag", messages)
    arguments = ["--bag", str(bag), "--model", model, "--topic", "/left", "/right"]
    out = tmp_path / "out"
    labels = ["--ground-truth", "/left=/all", "/right=/reds"]
    assert main([*arguments, "--out", str(out), *labels]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["accuracy"]["images"] == 16
    assert results["accuracy"]["summary"]["AP50"] == 1.0
    assert results["accuracy"]["confusion"]["counts"][-1] == [0, 0, 0, 0]
    assert main([*arguments, "--out", str(tmp_path / "none"), "--ground-truth", "/all"]) == 1


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--topic", "/nowhere"], 1, "its image topics are /camera/image_raw (25 images)"),
        (["--ground-truth", "/nowhere"], 1, "its topics of detections are /truth"),
        (["--model", "none"], 1, "there is no model 'none'"),
        (["--rename", "rde=red", "--ground-truth", "/truth"], 1, "did you mean 'red'"),
        (["--start", "99"], 1, "nothing is left of the recording"),
        (["--input-size", "300"], 2, "input size 300 is not usable"),
        (["--input-size", "many"], 2, "WIDTHxHEIGHT"),
        (["--input-size", "320", "416"], 2, "takes one size here"),
        (["--workers", "2", "--realtime"], 2, "it takes one worker"),
        (["--track-buffer", "3"], 2, "go with --tracking bytetrack"),
        (["--track-low-score", "0.2"], 2, "go with --tracking bytetrack"),
        (["--track-any-class"], 2, "go with --tracking bytetrack"),
        (["--tile-overlap", "0.3"], 2, "--tile-overlap goes with --tiles"),
        (["--rename", "red=rot"], 2, "are about labels: give --ground-truth or --reference"),
        (["--tolerance", "20"], 2, "are about labels: give --ground-truth or --reference"),
        (["--recorded", "node", "--workers", "2"], 2, "give them without --recorded"),
        (["--recorded", "node", "--cluster", "local"], 2, "give them without --recorded"),
    ],
)
def test_mistakes_are_errors_before_anything_is_run(
    path: Path,
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    sentence: str,
) -> None:
    arguments = ["--bag", str(path), "--out", str(tmp_path), "--model", model, *options]
    if code == 2:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
    else:
        assert main(arguments) == 1
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.rglob("*.jsonl"))


def test_labels_of_another_time_are_an_error_before_anything_is_run(
    path: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = [labelled(SCENES[0], 5000)]
    other = write_bag(tmp_path / "late", late)
    arguments = ["--bag", str(path), "--model", model, "--out", str(tmp_path / "out")]
    assert main([*arguments, "--ground-truth", f"{other}:/truth"]) == 1
    assert "no frame has a label" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def boxes(*corners: float) -> Detections:
    table = np.array([(x, 0, x + 10, 10) for x in corners], np.float32).reshape(-1, 4)
    count = len(table)
    return Detections(table, np.ones(count, np.float32), np.zeros(count, np.int32))


@pytest.mark.parametrize(
    ("frames", "flashes", "gaps"),
    [
        ([boxes(0)] * 5, 0, 0),
        ([boxes(n) for n in range(5)], 0, 0),
        ([boxes(0), boxes(), boxes(0), boxes(0)], 0, 1),
        ([boxes(0), boxes(0, 50), boxes(0)], 1, 0),
        ([boxes()] * 4, 0, 0),
    ],
)
def test_flicker(frames: list[Detections], flashes: int, gaps: int) -> None:
    flicker = Flicker()
    for found in frames:
        flicker.add(found)
    assert (flicker.flashes, flicker.gaps) == (flashes, gaps)


def test_an_error_in_the_prefetching_thread_is_raised_where_the_item_is_taken() -> None:
    def numbers():
        yield 1
        raise ValueError("two")

    taken = prefetch(numbers(), 4)
    assert next(taken) == 1
    with pytest.raises(ValueError, match="two"):
        next(taken)


def test_a_thread_makes_so_many_items_in_advance_and_ends_with_its_taker() -> None:
    made, closed = [], []

    def numbers():
        try:
            for number in range(100):
                made.append(number)
                yield number
        finally:
            closed.append(threading.current_thread().name)

    taken = prefetch(numbers(), 3)
    assert [next(taken) for _ in range(5)] == list(range(5))
    # in the queue there is room for three, and the thread holds one more
    _wait_for(lambda: len(made) == 5 + 3 + 1)
    time.sleep(0.1)
    assert len(made) == 5 + 3 + 1
    taken.close()
    assert closed == ["prefetch"]
    assert "prefetch" not in {thread.name for thread in threading.enumerate()}


def test_frames_of_any_size_are_answered_in_order(model: str, tmp_path: Path) -> None:
    """Sizes change from frame to frame, one cannot be read, and many are ready in advance."""
    scenes = [draw_scene(number) for number in range(30)]
    for number in range(0, 30, 7):
        smaller = cv2.resize(scenes[number].pixels, (200 + 4 * number, 160))
        scenes[number] = replace(scenes[number], pixels=smaller)
    messages = [image(scene, number) for number, scene in enumerate(scenes)]
    messages.insert(4, replace(messages[4], data=messages[4].data[:8]))
    bag = Bag([write_bag(tmp_path / "bag", messages)])
    opened = Detector.open(RunOptions(model), selection=EVERYTHING)
    with contextlib.closing(opened) as detector:
        frames = bag.messages([TOPIC], bag.start, bag.end + 1)
        records = list(every_frame(frames, Codec(bag.topics.values()), detector))
        broken = records.pop(4)
        assert broken.outcome == "image malformed" and broken.size == (0, 0)
        for record, scene in zip(records, scenes, strict=True):
            expected = detector.detect(scene.pixels, "rgb")
            assert record.size == scene.pixels.shape[1::-1]
            assert record.detections.boxes.tobytes() == expected.boxes.tobytes()
            assert record.detections.scores.tobytes() == expected.scores.tobytes()


def test_what_was_answered_before_the_network_failed_is_kept(
    path: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, count = Detector.finish, itertools.count()

    def failing(*arguments: object) -> object:
        if next(count) == 5:
            raise BackendError("the device is gone")
        return finish(*arguments)

    monkeypatch.setattr(Detector, "finish", failing)
    with pytest.raises(BackendError, match="the device is gone"):
        run(job_of(path, model), Bag([path]), tmp_path)
    monkeypatch.undo()
    done_frames: list[int] = []
    run(job_of(path, model), Bag([path]), tmp_path, progress=done_frames.append)
    assert done_frames[0] == 5
    assert len(all_of(tmp_path)) == FRAMES + 1
