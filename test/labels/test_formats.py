# SPDX-License-Identifier: Apache-2.0
"""Every format becomes the same ground truth, and a bad label is refused in the same words."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compact_yolo_ros.labels.coco import read_coco, read_coco_classes
from compact_yolo_ros.labels.detections_topic import read_detections_topic
from compact_yolo_ros.labels.ground_truth import ANY_CLASS, GroundTruth, LabelError
from compact_yolo_ros.labels.voc import read_voc
from compact_yolo_ros.labels.yolo import (
    find_class_names,
    keypoint_numbers,
    parse_labels,
)
from compact_yolo_ros.labels.yolo_line import KEYPOINTS, POLYGONS
from compact_yolo_ros.model.sizes import Size

SIZE = Size(80, 40)
CLASSES = ("cat", "dog")
BOXES = [[10.0, 5.0, 30.0, 25.0], [0.0, 0.0, 80.0, 40.0]]
LABELS = [1, 0]


def yolo(_: Path) -> GroundTruth:
    return parse_labels(["1 .25 .375 .25 .5", "", "0 .5 .5 1 1"], len(CLASSES))


def coco(folder: Path) -> GroundTruth:
    boxes = [[10, 5, 20, 20], [0, 0, 80, 40]]
    content = {
        "images": [{"id": 4, "file_name": "a.png", "width": 80, "height": 40}],
        "categories": [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": n, "image_id": 4, "category_id": (9, 2)[n], "bbox": box}
            for n, box in enumerate(boxes)
        ],
    }
    file = folder / "labels.json"
    file.write_text(json.dumps(content))
    assert read_coco_classes(file) == (CLASSES, ())
    (image,) = read_coco(file).images
    return image.truth()


def voc(folder: Path) -> GroundTruth:
    objects = "".join(
        f"<object><name>{CLASSES[label]}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, (x1, y1, x2, y2) in zip(LABELS, BOXES, strict=True)
    )
    file = folder / "a.xml"
    file.write_text(f"<annotation>{objects}</annotation>")
    return read_voc(file, {name: number for number, name in enumerate(CLASSES)})


def hypothesis(class_id: str, score: float) -> Any:
    return SimpleNamespace(hypothesis=SimpleNamespace(class_id=class_id, score=score))


def detection(box: list[float], *results: Any) -> Any:
    x1, y1, x2, y2 = box
    centre = SimpleNamespace(x=(x1 + x2) / 2, y=(y1 + y2) / 2)
    box_message = SimpleNamespace(
        center=SimpleNamespace(position=centre), size_x=x2 - x1, size_y=y2 - y1
    )
    return SimpleNamespace(bbox=box_message, results=results)


def topic(_: Path) -> GroundTruth:
    """The best hypothesis counts, by name or by number; a detection without one does not."""
    message = SimpleNamespace(
        detections=[
            detection(BOXES[0], hypothesis("cat", 0.2), hypothesis("1", 0.8)),
            detection([1, 1, 2, 2]),
            detection(BOXES[1], hypothesis("cat", 1.0)),
        ]
    )
    classes, ((stamp, truth),) = read_detections_topic([(7, message)], CLASSES)
    assert (classes, stamp) == (("dog", "cat"), 7), "in the order in which they occur"
    return truth.renumbered(np.array([1, 0]))


def polygons(_: Path) -> GroundTruth:
    """A triangle and an octagon whose outermost points are those of the boxes."""
    octagon = "0 .3 0 .7 0 1 .3 1 .7 .7 1 .3 1 0 .7 0 .3"
    return parse_labels(["1 .125 .625 .25 .125 .375 .625", octagon], len(CLASSES))


def rotated_boxes(_: Path) -> GroundTruth:
    """Corners as YOLO-OBB lists them: the first box stands on one corner."""
    first = "1 .25 .125 .375 .375 .25 .625 .125 .375"
    return parse_labels([first, "0 0 0 1 0 1 1 0 1"], len(CLASSES))


def keypoints(_: Path) -> GroundTruth:
    """Three keypoints with their visibility, the last one unknown."""
    points = "0.2 0.3 2 .25 .5 1 0 0 0"
    return parse_labels([f"1 .25 .375 .25 .5 {points}", f"0 .5 .5 1 1 {points}"], len(CLASSES))


def flat_keypoints(_: Path) -> GroundTruth:
    """Two keypoints without visibility: kpt_shape says that these are no polygons."""
    numbers = keypoint_numbers({"kpt_shape": [2, 2]})
    lines = ["1 .25 .375 .25 .5 .2 .3 .25 .5", "0 .5 .5 1 1 0 0 1 1"]
    return parse_labels(lines, len(CLASSES), numbers)


@pytest.mark.parametrize(
    "read", [yolo, coco, voc, topic, polygons, rotated_boxes, keypoints, flat_keypoints]
)
def test_every_format_is_the_same_ground_truth(read: Any, tmp_path: Path) -> None:
    truth = read(tmp_path).in_pixels_of(SIZE).clipped()
    assert truth.boxes.tolist() == BOXES and truth.labels.tolist() == LABELS
    assert truth.size == SIZE and len(truth.ignored) == 0 and truth.confidence is None
    shapes = {polygons: POLYGONS, rotated_boxes: POLYGONS, keypoints: KEYPOINTS}
    assert truth.drawn_as == shapes.get(read, KEYPOINTS if read is flat_keypoints else "")


def test_the_seventeen_keypoints_of_coco_are_no_polygon() -> None:
    line = "0 .5 .5 .2 .2 " + " ".join(["0.55 0.45 2.000000"] * 16 + ["0 0 0"])
    truth = parse_labels([line], 1)
    assert truth.boxes == pytest.approx(np.array([[0.4, 0.4, 0.6, 0.6]]))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=40))
def test_the_box_of_a_polygon_is_as_small_as_can_be(corners: list[tuple[float, float]]) -> None:
    line = " ".join(["0", *(f"{value!r}" for corner in corners for value in corner)])
    truth = parse_labels([line], 1)
    if truth.drawn_as == POLYGONS:
        low, high = np.min(corners, 0), np.max(corners, 0)
        assert truth.boxes.tolist() == [[*low, *high]]
    else:  # along the border of the image a polygon may look like keypoints
        assert 2.0 in np.ravel(corners)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0 .1 .1 .2 .2 .3 .3 .4", "has 8 numbers, but a box has 5 or 6"),
        ("0 .1 .1 .2 .1 .2 9 .1 .2", "a corner at 9, which is outside the image"),
        ("0 .1 .1 .2 .1 .2 nan .1 .2", "is not five numbers"),
        ("ball .1 .1 .2 .1", "is not five numbers"),
        ("0 .5 .5 1 9 .5 .5 2", "a height of 9"),
    ],
)
def test_a_line_of_no_kind_is_an_error(line: str, says: str) -> None:
    with pytest.raises(LabelError, match=f"^line 2 .*{says}"):
        parse_labels(["", line], 1)


def test_the_shape_of_keypoints_must_fit() -> None:
    assert keypoint_numbers({"kpt_shape": [17, 3]}) == 51 and keypoint_numbers({}) == 0
    for shape in ([17], [17, 4], [0, 3], "17", [17, "3"], [1e9, 3], [10**9, 3]):
        with pytest.raises(LabelError, match="number of keypoints, 2 or 3"):
            keypoint_numbers({"kpt_shape": shape})
    with pytest.raises(LabelError, match="kpt_shape"):
        parse_labels(["0 .5 .5 .2 .2 .5 .5"], 1, keypoints=6)


def test_messages_of_foxy_are_read() -> None:
    """vision_msgs 3: no hypothesis of its own, id instead of class_id, a Pose2D as centre."""
    box = SimpleNamespace(center=SimpleNamespace(x=5.0, y=4.0), size_x=2.0, size_y=4.0)
    found = SimpleNamespace(bbox=box, results=[SimpleNamespace(id="dog", score=0.9)])
    message = SimpleNamespace(detections=[found])
    classes, ((_, truth),) = read_detections_topic([(0, message)], ())
    assert classes == ("dog",) and truth.boxes.tolist() == [[4, 2, 6, 6]]


@pytest.mark.parametrize("new", [True, False])
def test_the_box_of_a_turned_one_in_a_message_holds_all_of_it(new: bool) -> None:
    """As that of a rotated box in the other formats."""
    angles = {0.0: (4, 2), math.pi / 2: (2, 4), math.pi / 4: (math.sqrt(18), math.sqrt(18))}
    angles |= {-3 * math.pi / 4: (math.sqrt(18), math.sqrt(18)), math.pi: (4, 2)}
    things = []
    for theta in angles:
        place = {"x": 10.0, "y": 20.0}
        fields = {"position": SimpleNamespace(**place)} if new else place
        centre = SimpleNamespace(theta=theta, **fields)
        box = SimpleNamespace(center=centre, size_x=4.0, size_y=2.0)
        things.append(SimpleNamespace(bbox=box, results=[hypothesis("dog", 1.0)], id=""))
    _, ((_, truth),) = read_detections_topic([(0, SimpleNamespace(detections=things))], ())
    sizes = truth.boxes[:, 2:] - truth.boxes[:, :2]
    np.testing.assert_allclose(sizes, list(angles.values()), atol=1e-9)
    np.testing.assert_allclose((truth.boxes[:, 2:] + truth.boxes[:, :2]) / 2, [[10, 20]] * 5)


def truth_of(boxes: list[list[float]], size: Size | None) -> GroundTruth:
    return GroundTruth(
        np.array(boxes, float).reshape(-1, 4), np.zeros(len(boxes), np.int64), size=size
    )


def test_boxes_are_clipped_where_the_size_is_known() -> None:
    assert truth_of([[-5, -5, 90, 9]], SIZE).clipped().boxes.tolist() == [[0, 0, 80, 9]]
    assert truth_of([[-5, -5, 90, 9]], None).clipped().boxes.tolist() == [[-5, -5, 90, 9]]


def test_an_image_may_be_stated_to_be_larger_than_a_number_of_the_machine() -> None:
    truth = truth_of([[-5, -5, 90, 9]], Size(10**400, 10**30)).clipped()
    assert truth.boxes.tolist() == [[0, 0, 90, 9]]


def test_a_score_of_hundreds_of_digits_is_an_error(tmp_path: Path) -> None:
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 10**400}
    content = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "car"}]}
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({**content, "annotations": [row]}))
    (image,) = read_coco(path).images
    with pytest.raises(LabelError, match="'score' of annotation 1 is not a number"):
        image.truth(0.5)


@pytest.mark.parametrize("box", [[9, 9, 9, 20], [20, 9, 9, 20], [80, 0, 90, 9], [-9, 0, 0, 9]])
def test_a_box_of_which_nothing_is_left_is_an_error(box: list[float]) -> None:
    with pytest.raises(LabelError, match=r"^box 2 \(.*\) is empty or outside the image$"):
        truth_of([[0, 0, 1, 1], box], SIZE).clipped()
    ignored = GroundTruth(
        np.zeros((0, 4)), np.zeros(0, int), size=SIZE, ignored=np.array([box], float)
    )
    with pytest.raises(LabelError, match="ignored box 1"):
        ignored.clipped()


def test_without_a_size_an_empty_box_is_an_error() -> None:
    with pytest.raises(LabelError, match=r"box 1 \(3, 3, 3, 9\) is empty$"):
        truth_of([[3, 3, 3, 9]], None).clipped()


@given(st.lists(st.tuples(*[st.floats(0, 100, width=16)] * 4), max_size=4), st.integers(1, 9))
def test_labels_of_a_larger_image_are_scaled(rows: list[tuple[float, ...]], times: int) -> None:
    large = truth_of([list(row) for row in rows], Size(80 * times, 40 * times))
    np.testing.assert_allclose(large.in_pixels_of(SIZE).boxes * times, large.boxes)


def test_other_numbers_for_the_classes() -> None:
    truth = GroundTruth(
        np.array([[0, 0, 1, 1], [1, 1, 2, 2], [2, 2, 3, 3]]),
        np.array([0, 1, 2]),
        ignored=np.array([[0, 0, 9, 9], [1, 0, 9, 9], [2, 0, 9, 9]]),
        ignored_labels=np.array([0, 1, ANY_CLASS]),
        unlabelled=frozenset({0, 2}),
        confidence=np.array([0.1, 0.2, 0.3], np.float32),
    )
    new = truth.renumbered(np.array([-1, 3, 0]), frozenset({5}))
    assert new.labels.tolist() == [3, 0] and new.boxes[:, 0].tolist() == [1, 2]
    assert new.ignored_labels is not None and new.ignored_labels.tolist() == [3, ANY_CLASS]
    assert new.ignored[:, 0].tolist() == [1, 2] and new.unlabelled == {0, 5}
    assert new.confidence is not None and new.confidence.tolist() == pytest.approx([0.2, 0.3])


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_a_file_of_names_in_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    """PowerShell writes UTF-16."""
    (tmp_path / "classes.txt").write_text("F\u00fc\u00dfe\r\n", encoding)
    with pytest.raises(LabelError, match=r"classes\.txt: 'utf-8' .*: save it as UTF-8"):
        find_class_names(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("data.yaml", "names: {1: dog, 0: cat}", CLASSES),
        ("classes.txt", "\ufeffcat\r\ndog\r\n", CLASSES),
        ("classes.txt", "cat \n\tdog\n \n\n", CLASSES),
        ("obj.names", "cat\n\ndog\n", "obj.names must have the name of a class on each line"),
        ("classes.txt", "cat\ncat\n", "none of them twice"),
        ("classes.txt", "\n", "classes.txt must have the name"),
        ("data.yaml", "names: [a, a]", "twice"),
        ("data.yaml", "names: [on]", "put it in quotes"),
        ("data.yaml", "names: {1: a}", "must list the classes"),
        ("data.yaml", "train: x", "does not list the classes"),
        ("data.yaml", "[", "cannot be read"),
        ("data.yaml", "names: [[a]]", "one of 'names' is a list"),
        ("data.yaml", "names: [a]\nnames: [b]", "the key 'names' twice"),
        ("data.yaml", "names: " + "[" * 200_000, "nested deeper"),
        ("other.txt", "", "neither a data.yaml nor a classes.txt"),
    ],
)
def test_names_of_the_classes_are_found(
    tmp_path: Path, file: str, content: str, says: str | tuple[str, ...]
) -> None:
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / file).write_text(content, "utf-8")
    if isinstance(says, tuple):
        assert find_class_names(tmp_path / "labels" / "train") == says
    else:
        with pytest.raises(LabelError, match=says):
            find_class_names(tmp_path / "labels" / "train")
