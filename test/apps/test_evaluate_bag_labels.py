# SPDX-License-Identifier: Apache-2.0
"""Labels of a recording are read from wherever people keep them, and found by time or number."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bag_writer import (
    PERIOD,
    SIZE,
    START,
    TOPIC,
    draw_scene,
    labelled,
    write_bag,
    write_labelled_bag,
)
from hypothesis import given
from hypothesis import strategies as st
from toy_model import CLASSES

from compact_yolo_ros.apps.evaluate_bag.accuracy import shared_classes
from compact_yolo_ros.apps.evaluate_bag.frame_labels import (
    FrameLabels,
    read_frame_labels,
)
from compact_yolo_ros.apps.evaluate_bag.frame_names import first_number, frame_of_name
from compact_yolo_ros.apps.evaluate_bag.label_matching import match
from compact_yolo_ros.labels.ground_truth import GroundTruth, LabelError
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError

SCENES = [draw_scene(number) for number in range(3)]


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Bag:
    return Bag([write_labelled_bag(tmp_path_factory.mktemp("labels") / "bag", len(SCENES))])


def coco(names: list[str], size: int = SIZE) -> dict:
    """The scenes as COCO's JSON; with another ``size``, as if larger pictures were labelled."""
    scale = size / SIZE
    annotations = [
        {
            "id": 100 * number + place,
            "image_id": number,
            "category_id": 7 + int(label),
            "bbox": [scale * x1, scale * y1, scale * (x2 - x1), scale * (y2 - y1)],
        }
        for number, scene in enumerate(SCENES[: len(names)])
        for place, ((x1, y1, x2, y2), label) in enumerate(
            zip(scene.boxes.tolist(), scene.labels, strict=True)
        )
    ]
    return {
        "images": [
            {"id": n, "file_name": name, "height": size, "width": size}
            for n, name in enumerate(names)
        ],
        "categories": [{"id": 7 + n, "name": name} for n, name in enumerate(CLASSES)],
        "annotations": annotations,
    }


def assert_scenes(labels: FrameLabels) -> None:
    for label, scene in zip(labels.truths, SCENES, strict=True):
        truth = label.in_pixels_of(Size.square(SIZE))
        assert np.allclose(truth.boxes, scene.boxes)
        names = [labels.classes[number] for number in truth.labels]
        assert names == [CLASSES[number] for number in scene.labels]


@pytest.mark.parametrize("size", [SIZE, 2 * SIZE])
@pytest.mark.parametrize("form", ["{s}.{n:09}.jpg", "left/cam_{ns}.png", "frame_{k:06}.jpg"])
def test_coco_labels(tmp_path: Path, bag: Bag, size: int, form: str) -> None:
    stamps = [START + number * PERIOD for number in range(len(SCENES))]
    names = [form.format(s=ns // 10**9, n=ns % 10**9, ns=ns, k=k) for k, ns in enumerate(stamps)]
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(coco(names, size)))
    labels = read_frame_labels(str(path), bag, CLASSES)
    assert_scenes(labels)
    if "{k" in form:
        assert labels.numbers is not None and labels.numbers.tolist() == [0, 1, 2]
    else:
        assert labels.times is not None and labels.times.tolist() == stamps


def test_coco_crowds_are_ignored_and_a_timestamp_goes_before_the_name(
    tmp_path: Path, bag: Bag
) -> None:
    content = coco(["a.jpg", "b.jpg", "c.jpg"])
    for number, entry in enumerate(content["images"]):
        entry["timestamp_ns"] = START + number * PERIOD
    content["annotations"][0]["iscrowd"] = 1
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    labels = read_frame_labels(str(path), bag, CLASSES)
    assert len(labels.truths[0].boxes) == len(SCENES[0].boxes) - 1
    assert np.allclose(labels.truths[0].ignored, SCENES[0].boxes[:1])


def write_yolo(folder: Path, names: list[str]) -> Path:
    (folder / "labels").mkdir(parents=True)
    (folder / "data.yaml").write_text(f"names: {list(CLASSES)}\n")
    for scene, name in zip(SCENES, names, strict=True):
        rows = [
            f"{label} {(x1 + x2) / 2 / SIZE} {(y1 + y2) / 2 / SIZE} "
            f"{(x2 - x1) / SIZE} {(y2 - y1) / SIZE}\n"
            for (x1, y1, x2, y2), label in zip(scene.boxes.tolist(), scene.labels, strict=True)
        ]
        (folder / "labels" / f"{name}.txt").write_text("".join(rows))
    return folder / "labels"


def test_yolo_labels(tmp_path: Path, bag: Bag) -> None:
    folder = write_yolo(tmp_path, ["0", "1", "2"])
    labels = read_frame_labels(str(folder), bag, CLASSES)
    assert_scenes(labels)
    (folder / "2.txt").write_text("7 .5 .5 .1 .1\n")
    with pytest.raises(BagError, match=r"2\.txt: line 1 has class 7, outside 0\.\.2"):
        read_frame_labels(str(folder), bag, CLASSES)


def test_yolo_labels_in_a_folder_that_is_linked_to(tmp_path: Path, bag: Bag) -> None:
    folder = write_yolo(tmp_path, ["0", "1", "2"])
    folder.rename(tmp_path / "elsewhere")
    folder.mkdir()
    (folder / "part").symlink_to(tmp_path / "elsewhere")
    assert_scenes(read_frame_labels(str(folder), bag, CLASSES))


def test_an_export_of_darknet_is_read(tmp_path: Path, bag: Bag) -> None:
    write_yolo(tmp_path, ["frame_000000", "frame_000001", "frame_000002"])
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "labels").rename(tmp_path / "obj_train_data")
    (tmp_path / "obj.names").write_text("".join(f"{name}\n" for name in CLASSES))
    (tmp_path / "train.txt").write_text("data/obj_train_data/frame_000000.png\n")
    file = tmp_path / "obj_train_data/frame_000002.txt"
    file.rename(file.with_suffix(".TXT"))
    assert_scenes(read_frame_labels(str(tmp_path), bag, CLASSES))


def test_outlines_and_keypoints_are_taken_for_boxes_and_said(tmp_path: Path, bag: Bag) -> None:
    folder = write_yolo(tmp_path, ["0", "1", "2"])
    for file in folder.iterdir():
        lines = [line.split() for line in file.read_text().splitlines()]
        pairs = [f"{' '.join(line)} 0.1 0.2 0.3 0.4\n" for line in lines]
        file.write_text("".join(pairs))
    (tmp_path / "data.yaml").write_text(f"names: {list(CLASSES)}\nkpt_shape: [2, 2]\n")
    labels = read_frame_labels(str(folder), bag, CLASSES)
    assert_scenes(labels)
    assert labels.source == "labels (boxes of boxes with keypoints) (frames counted from 0)"


def test_topics_of_this_and_of_another_recording(tmp_path: Path, bag: Bag) -> None:
    assert_scenes(read_frame_labels("/truth", bag, CLASSES))
    other = [labelled(scene, number, "/others") for number, scene in enumerate(SCENES)]
    path = write_bag(tmp_path / "other", other, "sqlite3")
    assert_scenes(read_frame_labels(f"{path}:/others", bag, CLASSES))
    with pytest.raises(BagError, match="labels are vision_msgs/msg/Detection2DArray"):
        read_frame_labels(TOPIC, bag, CLASSES)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "cannot be read"),
        ("[]", "has no list 'images'"),
        ('{"images": [], "annotations": [], "categories": []}', "categories are missing"),
        (json.dumps(coco([])), "labels no frame"),
        (json.dumps(coco(["a", "b", "c"])), "does not say which frame it is"),
        (json.dumps(coco(["1.jpg", "1.jpg", "2.jpg"])), "the frame 1 is labelled twice"),
        (json.dumps(coco(["1.jpg", "2.jpg", "1700000000.000000000.jpg"])), "choose one"),
    ],
)
def test_bad_labels_are_said_in_one_sentence(
    tmp_path: Path, bag: Bag, content: str, sentence: str
) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(BagError, match=sentence):
        read_frame_labels(str(path), bag, CLASSES)


def test_a_source_that_is_not_there_lists_what_is(bag: Bag) -> None:
    with pytest.raises(BagError, match="its topics of detections are /truth"):
        read_frame_labels("/nowhere", bag, CLASSES)


def labels_at(times: list[int]) -> FrameLabels:
    truths, keys = [GroundTruth.empty()] * len(times), np.array(sorted(times), np.int64)
    return FrameLabels("labels", CLASSES, truths, times=keys)


@given(
    frames=st.lists(st.integers(0, 1000), min_size=1, max_size=12, unique=True),
    labels=st.lists(st.integers(0, 1000), min_size=1, max_size=12, unique=True),
    tolerance=st.integers(0, 100),
)
def test_matching_by_time_is_mutual_near_and_one_to_one(
    frames: list[int], labels: list[int], tolerance: int
) -> None:
    stamps, known = np.array(frames, np.int64), labels_at(labels)
    assert known.times is not None
    try:
        matching = match(known, stamps, tolerance)
    except BagError:
        assert min(abs(f - t) for f in frames for t in labels) > tolerance
        return
    used = matching.label_of[matching.label_of >= 0]
    assert len(set(used.tolist())) == len(used)
    for frame, label in zip(frames, matching.label_of, strict=True):
        if label < 0:
            continue
        distance = abs(int(known.times[label]) - frame)
        assert distance <= tolerance
        assert distance == min(abs(time - frame) for time in labels)
        assert distance == min(abs(int(known.times[label]) - other) for other in frames)


def test_the_tolerance_is_half_a_period_but_at_most_50_ms() -> None:
    fast, slow = np.arange(10) * 20_000_000, np.arange(10) * 10**9
    assert match(labels_at([9_000_000]), fast).tolerance == 10_000_000
    assert match(labels_at([9_000_000]), slow).tolerance == 50_000_000
    found = match(labels_at([30_000_000, 10**9 + 60_000_000]), slow).counts("labels")
    assert (found.matched, found.labels_without_frame) == (1, 1)
    assert found.mean_offset_ms == pytest.approx(30.0)


def test_without_overlap_the_error_gives_both_ranges() -> None:
    with pytest.raises(BagError, match=r"500\.000 to 500\.000 s.*0\.000 to 9\.000 s"):
        match(labels_at([500 * 10**9]), np.arange(10) * 10**9)
    numbered = FrameLabels("labels", CLASSES, labels_at([1]).truths, numbers=np.array([12]))
    with pytest.raises(BagError, match="frames 12 to 12, the recording 0 to 9"):
        match(numbered, np.arange(10) * 10**9)


def test_unknown_classes_are_suggested() -> None:
    labels = [labels_at([0])]
    with pytest.raises(BagError, match="share no class.*--rename"):
        shared_classes(["dog", "cat"], labels, {})
    with pytest.raises(BagError, match="did you mean 'green'"):
        shared_classes(["dog", "cat"], labels, {"dog": "gren"})
    assert shared_classes(["dog", "cat"], labels, {"dog": "green"}).classes == ("green",)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("1700000000.000000005.jpg", ("time", 1_700_000_000_000_000_005)),
        ("a/b_1700000000_000000005.png", ("time", 1_700_000_000_000_000_005)),
        ("1700000000000000005", ("time", 1_700_000_000_000_000_005)),
        ("cam2_000012.txt", ("number", 12)),
        # Seconds with a fraction: of TUM's data sets, of a float, of a simulated clock.
        ("rgb/1764000000.247886.png", ("time", 1_764_000_000_247_886_000)),
        ("1764000000.25.txt", ("time", 1_764_000_000_250_000_000)),
        ("left-1764000000.2478862.jpg", ("time", 1_764_000_000_247_886_200)),
        ("12.345678.png", ("time", 12_345_678_000)),
        ("cam1.000000042.png", ("time", 1_000_000_042)),
        # Whole s, ms, us and ns.
        ("1764000000.png", ("whole second", 1_764_000_000 * 10**9)),
        ("cam_1764000000247.png", ("time", 1_764_000_000_247_000_000)),
        ("1764000000247886.png", ("time", 1_764_000_000_247_886_000)),
        ("1764000000247886123.png", ("time", 1_764_000_000_247_886_123)),
        ("12345678901.png", ("time", 12_345_678_901)),
        # Numbers: ffmpeg's, KITTI's, with a prefix of Label Studio, of a session.
        ("frame_000001.jpg", ("number", 1)),
        ("0000000042.png", ("number", 42)),
        ("0a1b2c3d-frame_000007.jpg", ("number", 7)),
        ("session_1700000000_000042.jpg", ("number", 42)),
        ("images\\7.txt", ("number", 7)),
        # Roboflow adds a hash, and makes a dash of a full stop.
        ("front_1764000000247886123_png.rf.0a1b2c3d4e5f.jpg", ("time", 1_764_000_000_247_886_123)),
        ("frame_000042_jpg.rf.a1b2c3.txt", ("number", 42)),
        ("frame_000042_JPG.rf.a1b2c3", ("number", 42)),
        ("1764000000-247886_png.rf.0a1b2c.txt", ("time", 1_764_000_000_247_886_000)),
    ],
)
def test_the_name_of_a_file_is_that_of_a_frame(name: str, key: tuple[str, int]) -> None:
    assert frame_of_name(name) == key


@pytest.mark.parametrize("name", ["a.jpg", "7b.png", "1764000000.2478860001.png", "", "a/.jpg"])
def test_a_name_that_means_no_frame_is_an_error(name: str) -> None:
    with pytest.raises(LabelError, match="does not say which frame it is"):
        frame_of_name(name)


@given(st.integers(946_684_800 * 10**9, 4_102_444_800 * 10**9 - 1), st.sampled_from([1, 2, 3]))
def test_a_stamp_is_read_in_every_unit(stamp: int, thousands: int) -> None:
    units = 1000**thousands  # a second has so many
    ticks = stamp * units // 10**9
    kept = ticks * (10**9 // units)
    seconds, rest = divmod(ticks, units)
    for name in (f"cam_{ticks}.jpg", f"{seconds}.{rest:0{3 * thousands}}.jpg"):
        if len(str(ticks)) > 9:
            assert frame_of_name(name) == ("time", kept)


def test_nanoseconds_without_their_zeros_are_an_error(tmp_path: Path, bag: Bag) -> None:
    folder = write_yolo(tmp_path, ["1700000000.0", "1700000000.100000000", "1700000000.200000000"])
    with pytest.raises(BagError, match="with nine digits"):
        read_frame_labels(str(folder), bag, CLASSES)


@pytest.mark.parametrize(
    ("numbers", "frames", "first"),
    [
        ([0, 1, 2], 3, 0),
        ([1, 2, 3], 3, 1),
        ([3, 2, 1], 0, 1),
        ([2, 3], 3, 1),
        ([1, 2], 100, 1),
        ([0, 3], 3, 0),
        ([10, 20], 100, 0),
    ],
)
def test_frames_are_counted_from_zero_or_one(numbers: list[int], frames: int, first: int) -> None:
    assert first_number(numbers, frames) == first


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("how", ["coco", "yolo"])
def test_the_first_number_is_found_and_said(tmp_path: Path, bag: Bag, first: int, how: str) -> None:
    names = [f"frame_{first + n:06}" for n in range(len(SCENES))]
    source = tmp_path / "labels.json"
    if how == "coco":
        source.write_text(json.dumps(coco([f"{name}.jpg" for name in names])))
    else:
        source = write_yolo(tmp_path, names)
    labels = read_frame_labels(str(source), bag, CLASSES, TOPIC)
    assert_scenes(labels)
    assert labels.numbers is not None and labels.numbers.tolist() == [0, 1, 2]
    assert labels.source == f"{source.name} (frames counted from {first})"


def test_labels_in_any_order_are_those_of_their_frames(tmp_path: Path, bag: Bag) -> None:
    """The third name is the first in the alphabet, and COCO lists images as it likes."""
    stamps = [999_999_999, 1_000_000_000, 10_000_000_000]
    names = [f"{stamp // 10**9}.{stamp % 10**9:09}" for stamp in stamps]
    content = coco([f"{name}.jpg" for name in names])
    content["images"].reverse()
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    for source in (path, write_yolo(tmp_path, names)):
        labels = read_frame_labels(str(source), bag, CLASSES)
        assert_scenes(labels)
        assert labels.times is not None and labels.times.tolist() == stamps
    shuffled = [labelled(SCENES[n], n, "/shuffled") for n in (2, 0, 1)]
    other = write_bag(tmp_path / "other", shuffled)
    assert_scenes(read_frame_labels(f"{other}:/shuffled", bag, CLASSES))


def test_frames_in_any_order_get_their_labels() -> None:
    labels = labels_at([0, 10**9, 2 * 10**9])
    stamps = np.array([2 * 10**9 + 1, 1, 10**9 + 1])
    found = match(labels, stamps, 10)
    assert found.label_of.tolist() == [2, 0, 1] and found.offset.tolist() == [-1, -1, -1]


def test_names_of_whole_seconds_are_known_as_such(tmp_path: Path, bag: Bag) -> None:
    """The scenes are ten a second, so such names cannot tell them apart."""
    folder = write_yolo(tmp_path, [str(START // 10**9 + n) for n in range(len(SCENES))])
    labels = read_frame_labels(str(folder), bag, CLASSES)
    assert_scenes(labels)
    stamps = START + np.arange(len(SCENES), dtype=np.int64) * PERIOD
    with pytest.raises(BagError, match="several a second"):
        match(labels, stamps)
    assert match(labels, START + np.array([7, 10**9 + 5])).label_of.tolist() == [0, 1]


def test_names_of_whole_seconds_need_one_frame_a_second() -> None:
    labels = replace(labels_at([5 * 10**9, 7 * 10**9]), whole_seconds=True)
    stamps = np.array([7_900_000_000, 6_000_000_000, 5_000_000_001])
    found = match(labels, stamps)
    assert found.label_of.tolist() == [1, -1, 0]
    assert found.offset.tolist() == [-900_000_000, 0, -1]
    with pytest.raises(BagError, match=r"several a second: name them <sec>\.<nanosec>\.jpg"):
        match(labels, np.array([5_000_000_001, 5_500_000_000]))
    with pytest.raises(BagError, match="no frame has a label"):
        match(labels, np.array([6_000_000_000]))
