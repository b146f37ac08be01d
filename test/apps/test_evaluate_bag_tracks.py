# SPDX-License-Identifier: Apache-2.0
"""Tracks of a recording: followed, compared with labels that have tracks, and written."""

from __future__ import annotations

import json
from pathlib import Path

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
    image,
    write_bag,
)
from toy_model import CLASSES

from compact_yolo_ros.apps.evaluate_bag.command import main
from compact_yolo_ros.apps.evaluate_bag.results import TrackingResults, read_results
from compact_yolo_ros.detection.detection_array import DETECTION_ARRAY
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.recordings.reader import Bag

FRAMES, HIDDEN = 12, 6
SCENE = draw_scene(3)
EMPTY = Scene(np.zeros_like(SCENE.pixels), SCENE.boxes[:0], SCENE.labels[:0])
IDS = np.array([5, 6, 9])
"""Three objects that stand still; in one frame they cannot be seen."""


def labelled(number: int) -> Recorded:
    stamp = START + number * PERIOD
    found = Detections(SCENE.boxes, np.ones(3, np.float32), SCENE.labels, IDS)
    data = CODEC.write_detections(stamp, "camera", found, CLASSES)
    return Recorded("/truth", DETECTION_ARRAY, stamp, data)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    messages = [
        message
        for number in range(FRAMES)
        for message in (image(EMPTY if number == HIDDEN else SCENE, number), labelled(number))
    ]
    return write_bag(tmp_path_factory.mktemp("tracks") / "bag", messages)


def rows() -> list[tuple[int, int, list[float], int]]:
    """Frame, track, x y width height and label of each object."""
    return [
        (number, int(track), [x1, y1, x2 - x1, y2 - y1], int(label))
        for number in range(FRAMES)
        for (x1, y1, x2, y2), label, track in zip(
            SCENE.boxes.tolist(), SCENE.labels, IDS, strict=True
        )
    ]


def coco(path: Path) -> Path:
    content = {
        "images": [
            {"id": n, "file_name": f"frame_{n:06}.jpg", "width": SIZE, "height": SIZE}
            for n in range(FRAMES)
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(CLASSES)],
        "annotations": [
            {"id": n, "image_id": frame, "category_id": label, "bbox": box, "track_id": track}
            for n, (frame, track, box, label) in enumerate(rows())
        ],
    }
    path.write_text(json.dumps(content))
    return path


def mot(path: Path) -> Path:
    lines = [
        f"{frame + 1},{track},{','.join(map(str, box))},1,{label + 1},1"
        for frame, track, box, label in rows()
    ]
    path.write_text("\n".join(lines))
    (path.parent / "labels.txt").write_text("\n".join(CLASSES))
    return path


def evaluate(bag: Path, out: Path, toy: str, *more: str) -> TrackingResults | None:
    arguments = ["--bag", str(bag), "--topic", TOPIC, "--model", toy, "--out", str(out), *more]
    assert main(arguments) == 0
    return read_results(out).tracking


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("form", ["topic", "coco", "mot"])
def test_tracks_are_compared_with_labels_of_each_format(
    tmp_path: Path, bag: Path, toy: str, form: str
) -> None:
    source = {
        "topic": "/truth",
        "coco": str(coco(tmp_path / "labels.json")),
        "mot": str(mot(tmp_path / "gt.txt")),
    }[form]
    more = ("--tracking", "bytetrack", "--ground-truth", source)
    tracking = evaluate(bag, tmp_path / "out", toy, *more)
    assert tracking is not None and tracking.accuracy is not None
    accuracy = tracking.accuracy
    assert (accuracy.objects, accuracy.frames, accuracy.object_tracks) == (36, 12, 3)
    # The first frame has no ids yet, and nothing is seen in one.
    assert (accuracy.missed, accuracy.false, accuracy.switches) == (6, 0, 0)
    assert accuracy.mota == pytest.approx(30 / 36)
    assert accuracy.idf1 == pytest.approx(60 / 66)
    assert accuracy.fragmentations == 0  # the frame without any track is passed over
    found = tracking.topics[TOPIC]
    assert (found.tracks, found.interruptions, found.fragmentation) == (3, 3, 1)
    assert found.median_seconds == pytest.approx(1.0)


@pytest.mark.usefixtures("no_report")
def test_labels_that_lack_an_id_are_told(tmp_path: Path, bag: Path, toy: str) -> None:
    """There were no figures then, and no word about them."""
    file = coco(tmp_path / "labels.json")
    content = json.loads(file.read_text())
    del content["annotations"][4]["track_id"]
    file.write_text(json.dumps(content))
    more = ("--tracking", "bytetrack", "--ground-truth", str(file))
    tracking = evaluate(bag, tmp_path / "out", toy, *more)
    assert tracking is not None and tracking.accuracy is None
    told = f"the labels of {TOPIC} have no tracks in 1 of 12 images, where an object has no id"
    assert tracking.left_out.startswith(told)
    content["annotations"][4] |= {"iscrowd": 1}  # what is ignored needs none
    file.write_text(json.dumps(content))
    tracking = evaluate(bag, tmp_path / "crowd", toy, *more)
    assert tracking is not None and tracking.accuracy is not None
    assert tracking.accuracy.objects == 35


@pytest.mark.usefixtures("no_report")
def test_labels_that_give_all_objects_one_id_have_no_tracks(
    tmp_path: Path, bag: Path, toy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Datumaro does for objects without a track: no figure may be made of them."""
    file = mot(tmp_path / "gt.txt")
    lines = (line.split(",") for line in file.read_text().splitlines())
    file.write_text("\n".join(",".join([n, "-1", *box, "1,1,1"]) for n, _, *box, _, _, _ in lines))
    more = ("--tracking", "bytetrack", "--ground-truth", str(file))
    tracking = evaluate(bag, tmp_path / "out", toy, *more)
    assert tracking is not None and tracking.accuracy is None
    assert tracking.topics[TOPIC].tracks == 3
    told = f"the labels of {TOPIC} have no tracks of their own: an image has 3 objects"
    assert tracking.left_out.startswith(told) and tracking.left_out.endswith("with the id -1")
    assert "tracks in the labels" in capsys.readouterr().out


def test_what_is_written_has_the_ids(
    tmp_path: Path, bag: Path, toy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    tracking = evaluate(bag, out, toy, "--tracking", "bytetrack", "--track-buffer", "0.05")
    assert tracking is not None and tracking.accuracy is None
    assert tracking.options.buffer == 0.05
    assert "tracks of" in capsys.readouterr().out
    # The frames are further apart: what one of them does not show has another track afterwards.
    assert tracking.topics[TOPIC].tracks == 6

    tracking = evaluate(bag, tmp_path / "again", toy, "--tracking", "bytetrack")
    assert tracking is not None
    content = json.loads((tmp_path / "again" / "detections.json").read_text())
    sure = [row for row in content["annotations"] if row["score"] >= 0.3]
    assert {row.get("track_id") for row in sure if row["image_id"] > 1} == {1, 2, 3}
    written = Bag([tmp_path / "again" / "detections"])
    (topic,) = written.topics
    ids = [{d.id for d in CODEC.read(message).detections} for message in written.messages([topic])]
    assert ids[1] == ids[-1] == {"1", "2", "3"} and ids[0] == {""}
    assert "Tracks" in (tmp_path / "again" / "report.html").read_text()


@pytest.mark.usefixtures("no_report")
def test_without_the_option_nothing_is_followed(tmp_path: Path, bag: Path, toy: str) -> None:
    assert evaluate(bag, tmp_path / "out", toy, "--ground-truth", "/truth") is None


@pytest.mark.usefixtures("no_report")
def test_thresholds_of_classes_and_sizes_of_boxes_count_as_in_the_node(
    tmp_path: Path, bag: Path, toy: str
) -> None:
    label = int(SCENE.labels[0])
    others = int((SCENE.labels != label).sum())
    strict = ("--tracking", "bytetrack", "--class-threshold", f"{CLASSES[label]}:1")
    tracking = evaluate(bag, tmp_path / "strict", toy, *strict)
    assert tracking is not None and tracking.topics[TOPIC].tracks == others
    assert read_results(tmp_path / "strict").class_thresholds == {CLASSES[label]: 1.0}
    widest = int((SCENE.boxes[:, 2] - SCENE.boxes[:, 0]).max())
    large = ("--tracking", "bytetrack", "--min-box-size", f"{widest + 2}x1")
    tracking = evaluate(bag, tmp_path / "large", toy, *large)
    assert tracking is not None and tracking.topics[TOPIC].tracks == 0


@pytest.mark.parametrize(
    "more", [("--track-buffer", "-1"), ("--track-low-score", "2"), ("--tracking", "sort")]
)
def test_wrong_options_are_refused(tmp_path: Path, bag: Path, toy: str, more: tuple) -> None:
    with pytest.raises(SystemExit):
        evaluate(bag, tmp_path / "out", toy, *more)
