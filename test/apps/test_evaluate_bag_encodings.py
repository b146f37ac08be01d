# SPDX-License-Identifier: Apache-2.0
"""Images of every encoding and of odd sizes are evaluated as what they show, also those of two
cameras of different size."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_writer import CODEC, PERIOD, START, Recorded, Scene, labelled, write_bag
from encoded_images import GREY, KINDS, image_of, odd_scene, sized_scene
from encoded_video import encode
from rosbags.rosbag2 import Reader
from toy_model import CLASSES
from video_messages import FFMPEG, ffmpeg_packet

from compact_yolo_ros.apps.evaluate_bag.coco_output import write_coco
from compact_yolo_ros.apps.evaluate_bag.command import main
from compact_yolo_ros.apps.evaluate_bag.detection_run import run
from compact_yolo_ros.apps.evaluate_bag.detections_recording import write_detections_recording
from compact_yolo_ros.apps.evaluate_bag.frame_labels import read_frame_labels
from compact_yolo_ros.apps.evaluate_bag.frame_log import ANSWERED, FrameResult
from compact_yolo_ros.apps.evaluate_bag.job import Job
from compact_yolo_ros.apps.evaluate_bag.results_folder import read_frame_results
from compact_yolo_ros.apps.evaluate_bag.video import read_pixels
from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.pixels.encodings import LAYOUTS
from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.recordings.reader import Bag

pytestmark = pytest.mark.usefixtures("no_report")

EACH = 8
"""Frames of an encoding: more than are decoded ahead of the network."""
SIZES = [(320, 224), (224, 320)]
THRESHOLD = 0.3


def seen(found: Detections) -> set[tuple[int, ...]]:
    """Boxes and labels of what a user sees, in whole pixels."""
    shown = found.scores >= THRESHOLD
    boxes = np.rint(found.boxes[shown]).astype(int).tolist()
    return {(*box, label) for box, label in zip(boxes, found.labels[shown].tolist(), strict=True)}


def drawn(scene: Scene, grey: bool = False) -> set[tuple[int, ...]]:
    labels = scene.labels * (not grey)
    boxes = scene.boxes.astype(int).tolist()
    return {(*box, label) for box, label in zip(boxes, labels.tolist(), strict=True)}


def played(bag: Path, model: str, out: Path, **options: object) -> list[FrameResult]:
    topics = tuple(Bag([bag]).topics)
    job = Job((bag,), topics, RunOptions(model, threads=1), **options)  # type: ignore[arg-type]
    run(job, Bag([bag]), out)
    return list(read_frame_results(out))


@pytest.fixture(scope="module")
def scenes() -> dict[str, list[Scene]]:
    """By encoding: other pictures for each frame, wide and tall in turn."""
    return {
        kind: [sized_scene(*SIZES[place % 2], 100 * place + number) for number in range(EACH)]
        for place, kind in enumerate(KINDS)
    }


@pytest.fixture(scope="module")
def bag(scenes: dict[str, list[Scene]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One encoding after the other, each on a topic of its own; some have bytes behind the rows."""
    messages = [
        image_of(kind, scene, EACH * place + number, f"/{kind}", padding=place % 3 * 13)
        for place, (kind, own) in enumerate(scenes.items())
        for number, scene in enumerate(own)
    ]
    return write_bag(tmp_path_factory.mktemp("encodings") / "all", messages)


def test_every_encoding_is_here() -> None:
    assert set(LAYOUTS) <= {kind.partition(" ")[0] for kind in KINDS}


@pytest.mark.parametrize("realtime", [False, True])
def test_what_is_found_in_a_frame_is_what_it_shows(
    bag: Path, scenes: dict[str, list[Scene]], model: str, tmp_path: Path, realtime: bool
) -> None:
    """Where decoders shared a buffer, a frame would show a later one."""
    latency = 0.001 if realtime else None
    results = played(bag, model, tmp_path, realtime=realtime, latency=latency)
    assert len(results) == EACH * len(KINDS)
    wrong = []
    for place, (kind, own) in enumerate(scenes.items()):
        for number, scene in enumerate(own):
            result = results[EACH * place + number]
            assert (result.topic, result.outcome) == (f"/{kind}", ANSWERED), result.problem
            assert tuple(result.size) == SIZES[place % 2]
            assert result.stamp == START + (EACH * place + number) * PERIOD
            if seen(result.detections) != drawn(scene, kind in GREY):
                wrong.append((kind, number, seen(result.detections), drawn(scene)))
    assert wrong == []


ODD = [(333, 247), (247, 333), (101, 57), (57, 101), (1279, 719), (321, 321)]
ODD_KINDS = ["rgb8", "bgra8", "mono16", "bayer_gbrg8", "jpeg", "png", "foxglove"]


def test_odd_sizes(model: str, tmp_path: Path) -> None:
    """The best box is in the square that was drawn; every box is in the image."""
    cases = [(kind, size) for kind in ODD_KINDS for size in ODD]
    cases += [(kind, (334, 246)) for kind in ("uyvy", "yuyv", "nv12", "nv21")]
    found = [odd_scene(*size, number) for number, (_, size) in enumerate(cases)]
    messages = [
        image_of(kind, found[number], number, "/eye" if kind in ("jpeg", "png") else f"/{kind}")
        for number, (kind, _) in enumerate(cases)
    ]
    results = played(write_bag(tmp_path / "bag", messages), model, tmp_path / "out")
    for result, scene, (kind, size) in zip(results, found, cases, strict=True):
        assert result.outcome == ANSWERED, result.problem
        assert tuple(result.size) == size
        best = result.detections.boxes[int(np.argmax(result.detections.scores))]
        x, y = (best[0] + best[2]) / 2, (best[1] + best[3]) / 2
        (x1, y1, x2, y2) = scene.boxes[0]
        assert x1 <= x <= x2 and y1 <= y <= y2, (kind, size)
        label = 0 if kind in GREY else scene.labels[0]
        assert result.detections.labels[int(np.argmax(result.detections.scores))] == label
        assert (result.detections.boxes[:, 2:] <= np.array(size) + 1e-3).all()


WIDE, TALL = (640, 448), (224, 320)
FRAMES = 6


@pytest.fixture(scope="module")
def cameras() -> dict[str, list[Scene]]:
    return {
        "/wide": [sized_scene(*WIDE, number) for number in range(FRAMES)],
        "/tall": [sized_scene(*TALL, 50 + number) for number in range(FRAMES)],
    }


@pytest.fixture(scope="module")
def two(cameras: dict[str, list[Scene]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cameras of different size whose images come in turn, with labels of each."""
    messages = []
    for number in range(FRAMES):
        for topic, own in cameras.items():
            messages.append(image_of("mono16", own[number], number, topic))
            grey = Scene(own[number].pixels, own[number].boxes, 0 * own[number].labels)
            messages.append(labelled(grey, number, f"{topic}/truth"))
    return write_bag(tmp_path_factory.mktemp("cameras") / "two", messages)


def yolo(folder: Path, scenes: list[Scene]) -> Path:
    """Labels by the number of the frame, in parts of width and height."""
    folder.mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    for number, scene in enumerate(scenes):
        height, width = scene.pixels.shape[:2]
        lines = []
        for box in scene.boxes:
            x1, y1, x2, y2 = box / np.array([width, height] * 2)
            lines.append(f"0 {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}\n")
        (folder / f"frame_{number:06}.txt").write_text("".join(lines))
    return folder


def coco(path: Path, scenes: list[Scene]) -> Path:
    """Labels by the stamp, made on images of twice the size."""
    annotations, images = [], []
    for number, scene in enumerate(scenes, 1):
        height, width = scene.pixels.shape[:2]
        stamp = START + (number - 1) * PERIOD
        images.append({"id": number, "height": 2 * height, "width": 2 * width})
        images[-1] |= {"timestamp_ns": stamp, "file_name": ""}
        for x1, y1, x2, y2 in (2 * scene.boxes).tolist():
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": 1.0, "iscrowd": 0}
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": 1, **box}
            )
    content = {"images": images, "annotations": annotations}
    path.write_text(json.dumps(content | {"categories": [{"id": 1, "name": "red"}]}))
    return path


@pytest.mark.parametrize(
    ("labels", "options"),
    [("topic", ()), ("yolo", ()), ("coco", ()), ("topic", ("--latency", "1"))],
)
def test_two_cameras_of_different_size_are_evaluated(
    two: Path,
    cameras: dict[str, list[Scene]],
    model: str,
    tmp_path: Path,
    labels: str,
    options: tuple[str, ...],
) -> None:
    sources = {
        topic: {
            "topic": lambda topic, own: f"{topic}/truth",
            "yolo": lambda topic, own: yolo(tmp_path / topic.strip("/"), own),
            "coco": lambda topic, own: coco(tmp_path / f"{topic.strip('/')}.json", own),
        }[labels](topic, own)
        for topic, own in cameras.items()
    }
    truth = [f"{topic}={source}" for topic, source in sources.items()]
    arguments = ["--bag", str(two), "--model", model, "--out", str(tmp_path / "out")]
    arguments += ["--topic", "/wide", "/tall", "--ground-truth", *truth, *options]
    assert main(arguments) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["accuracy"]["images"] == 2 * FRAMES
    assert results["accuracy"]["objects"] == 4 * FRAMES
    assert results["accuracy"]["summary"]["AP"] == 1.0


def test_what_is_written_has_the_size_of_each_camera(
    two: Path, cameras: dict[str, list[Scene]], model: str, tmp_path: Path
) -> None:
    arguments = ["--bag", str(two), "--model", model, "--out", str(tmp_path), "--video"]
    assert main([*arguments, "--topic", "/wide", "/tall"]) == 0
    content = json.loads((tmp_path / "detections.json").read_text())
    sizes = {entry["topic"]: (entry["width"], entry["height"]) for entry in content["images"]}
    assert sizes == {"/wide": WIDE, "/tall": TALL}
    found: dict[int, set[tuple[int, ...]]] = {entry["id"]: set() for entry in content["images"]}
    for row in content["annotations"]:
        if row["score"] >= THRESHOLD:
            x, y, width, height = map(round, row["bbox"])
            found[row["image_id"]].add((x, y, x + width, y + height, row["category_id"] - 1))
    order = [scene for pair in zip(*cameras.values(), strict=True) for scene in pair]
    assert list(found.values()) == [drawn(scene, grey=True) for scene in order]
    with Reader(tmp_path / "detections") as reader:
        first: dict[str, object] = {}
        for connection, _, data in reader.messages():
            array = CODEC.store.deserialize_cdr(data, connection.msgtype)
            first.setdefault(connection.topic, array)
    for topic, own in cameras.items():
        boxes = [d.bbox for d in first[f"{topic}/detections"].detections]  # type: ignore[attr-defined]
        centres = {(box.center.position.x, box.center.position.y) for box in boxes}
        assert centres == {((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in own[0].boxes}
    for name, own, (width, height) in (
        ("wide.mp4", cameras["/wide"], WIDE),
        ("tall.mp4", cameras["/tall"], TALL),
    ):
        video = cv2.VideoCapture(str(tmp_path / name))
        for scene in own:
            ok, frame = video.read()
            assert ok and frame.shape == (height, width, 3)
            bright = {tuple(box.astype(int)) for box in scene.boxes}
            for x1, y1, x2, y2 in bright:
                assert frame[(y1 + y2) // 2, (x1 + x2) // 2].mean() > 128


LONG = Detections(
    np.array([[10.0, 20.0, 70.0, 30.0], [1.5, 2.5, 3.0, 12.0]], np.float32),
    np.array([0.9, 0.4], np.float32),
    np.array([2, 0], np.int32),
)
"""One box is wider than it is high, the other one is not: x1, y1, x2, y2."""


def test_boxes_that_are_not_square_are_written_as_they_are(tmp_path: Path) -> None:
    result = FrameResult("/eye", START, START, "camera", ANSWERED, Size(80, 40), LONG)
    (read,) = [FrameResult.from_line(result.to_line())]
    assert (tuple(read.size), read.detections.boxes.tolist()) == ((80, 40), LONG.boxes.tolist())
    write_coco(tmp_path / "detections.json", lambda: iter([result]), CLASSES)
    content = json.loads((tmp_path / "detections.json").read_text())
    assert [row["bbox"] for row in content["annotations"]] == [
        [10, 20, 60, 10],
        [1.5, 2.5, 1.5, 9.5],
    ]
    assert [row["area"] for row in content["annotations"]] == [600, 14.25]
    assert [row["category_id"] for row in content["annotations"]] == [3, 1]
    write_detections_recording(tmp_path / "detections", [result], CLASSES, Selection(THRESHOLD))
    bag = Bag([tmp_path / "detections"])
    (message,) = bag.messages(list(bag.topics))
    array = Codec(bag.topics.values()).read(message)
    boxes = [d.bbox for d in array.detections]
    centres = [(box.center.position.x, box.center.position.y) for box in boxes]
    assert centres == [(40, 25), (2.25, 7.25)]
    assert [(box.size_x, box.size_y) for box in boxes] == [(60, 10), (1.5, 9.5)]
    assert [d.results[0].hypothesis.class_id for d in array.detections] == ["blue", "red"]
    labels = read_frame_labels("/eye/detections", bag, CLASSES)
    assert labels.truths[0].boxes.tolist() == LONG.boxes.tolist()
    labels = read_frame_labels(str(tmp_path / "detections.json"), bag, CLASSES)
    assert labels.truths[0].boxes.tolist() == LONG.boxes.tolist()


def test_a_video_shows_the_answered_frames_only(
    two: Path, cameras: dict[str, list[Scene]], model: str, tmp_path: Path
) -> None:
    """By hand: images come every 100 ms and each takes 250 ms, so that 0, 2 and 5 are answered."""
    arguments = ["--bag", str(two), "--model", model, "--out", str(tmp_path), "--video"]
    assert main([*arguments, "--topic", "/tall", "--latency", "250"]) == 0
    video = cv2.VideoCapture(str(tmp_path / "tall.mp4"))
    for number in (0, 2, 5):
        ok, frame = video.read()
        assert ok
        shown = frame.max(2) > 100
        lit = cameras["/tall"][number].pixels.max(2) > 100
        assert (shown & lit).sum() > 0.7 * lit.sum()
    assert not video.read()[0]


def test_a_frame_for_the_report_is_the_one_that_was_evaluated(
    bag: Path, scenes: dict[str, list[Scene]]
) -> None:
    opened = Bag([bag])
    codec = Codec(opened.topics.values())
    for kind in ("rgb8", "bgra8", "bayer_rggb8", "nv12", "png", "foxglove"):
        place = KINDS.index(kind)
        for number in (0, EACH - 1):
            time = START + (EACH * place + number) * PERIOD + 5_000_000
            shown = read_pixels(opened, codec, f"/{kind}", time)
            assert shown is not None
            expected = scenes[kind][number].pixels[..., ::-1]
            assert shown.shape == expected.shape
            # Interpolated colours are wrong at the edges of the squares only.
            assert np.mean(np.abs(shown.astype(int) - expected) > 30) < 0.02
    assert read_pixels(opened, codec, "/rgb8", START) is None


def test_answers_of_a_live_node_are_those_of_images_of_their_size(
    two: Path, cameras: dict[str, list[Scene]], model: str, tmp_path: Path
) -> None:
    answers = [
        labelled(Scene(s.pixels, s.boxes, 0 * s.labels), n, "/detector/detections", late=0)
        for n, s in enumerate(cameras["/tall"])
    ]
    node = write_bag(tmp_path / "node", answers)
    arguments = ["--bag", str(two), "--topic", "/tall", "--recorded", str(node)]
    arguments += ["--model", model, "--out", str(tmp_path / "out")]
    labels = str(yolo(tmp_path / "labels", cameras["/tall"]))
    assert main([*arguments, "--ground-truth", labels]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["accuracy"]["summary"]["AP"] == 1.0
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {(e["width"], e["height"]) for e in content["images"]} == {TALL}


def test_pictures_differ(scenes: dict[str, list[Scene]]) -> None:
    """Else another frame's detections would not be noticed."""
    for kind, own in scenes.items():
        for before, after in pairwise(own):
            assert drawn(before, kind in GREY) != drawn(after, kind in GREY)


@pytest.mark.parametrize("realtime", [False, True])
def test_a_video_is_evaluated_as_its_pictures(model: str, tmp_path: Path, realtime: bool) -> None:
    """Also one that begins without a keyframe, in parts, and drawn again afterwards."""
    scenes = [sized_scene(320, 224, number) for number in range(24)]
    pictures = [scene.pixels for scene in scenes]
    packets = encode("h264", 24, size=(320, 224), gop=8, pictures=pictures, crf="3")
    topic = "/eye/ffmpeg"
    messages = [
        Recorded(topic, FFMPEG, START + n * PERIOD, ffmpeg_packet(packet, START + n * PERIOD))
        for n, packet in enumerate(packets)
    ]
    bag = write_bag(tmp_path / "bag", messages[3:])
    latency = 0.001 if realtime else None
    results = played(bag, model, tmp_path / "out", realtime=realtime, latency=latency)
    assert [result.outcome for result in results] == ["image video"] * 5 + [ANSWERED] * 16
    for number, result in enumerate(results[5:], 8):
        assert result.stamp == START + number * PERIOD
        assert seen(result.detections) == drawn(scenes[number])
    opened = Bag([bag])
    pixels = read_pixels(opened, Codec(opened.topics.values()), topic, results[-1].time)
    assert pixels is not None
    assert np.abs(pixels[..., ::-1].astype(int) - scenes[-1].pixels).mean() < 3
