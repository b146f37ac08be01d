# SPDX-License-Identifier: Apache-2.0
"""Selection of detections against a slow, obvious reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_model import CARD

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.selection import (
    Selection,
    class_thresholds,
    label_thresholds,
)
from compact_yolo_ros.detection.suppression import select


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (areas - shared)


def greedy(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, wanted: Selection) -> list:
    kept: list[int] = []
    for i in range(len(scores)):
        if scores[i] < wanted.score_threshold:
            continue
        if wanted.labels is not None and labels[i] not in wanted.labels:
            continue
        rivals = [k for k in kept if labels[k] == labels[i]]
        if all(iou(boxes[k], boxes[i]) <= wanted.iou_threshold for k in rivals):
            kept.append(i)
    return kept[: wanted.max_detections]


@st.composite
def candidates(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = draw(st.integers(0, 30))
    # Whole pixels and distinct scores: ties and rounding are no part of the definition.
    scale = draw(st.sampled_from([1, 16]))  # inputs of 80 and 1280 pixels
    objects = np.array([[-20, 0, 20, 30], [5, 5, 40, 40], [40, 40, 20, 10], [44, 38, 20, 18]])
    # Most boxes lie about an object, so that many overlap.
    near = st.tuples(*[st.integers(-4, 4)] * 4)
    places = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    raw = objects[np.array(places, int)].astype(float)
    raw += np.reshape(draw(st.lists(near, min_size=count, max_size=count)), (-1, 4))
    raw[:, 2:] += raw[:, :2]
    raw *= scale
    levels = draw(st.lists(st.integers(1, 999), min_size=count, max_size=count, unique=True))
    scores = np.array(sorted(levels, reverse=True), np.float32) / 1000
    labels = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    return raw.astype(np.float32), scores, np.array(labels, np.int32)


@given(
    candidates(),
    st.sampled_from([0.0, 0.25, 0.5]),
    st.sampled_from([0.3501, 0.4501, 0.6001]),
    st.integers(1, 40),
    st.sampled_from([None, frozenset({1}), frozenset({0, 2})]),
)
def test_equals_the_definition(found, score, overlap, most, labels) -> None:
    wanted = Selection(score, overlap, most, labels, box_voting=False)
    expected = greedy(*found, wanted)
    result = select(*found, wanted)
    np.testing.assert_array_equal(result.boxes, found[0][expected])
    np.testing.assert_array_equal(result.scores, found[1][expected])
    np.testing.assert_array_equal(result.labels, found[2][expected])


def mean_of_voters(found: tuple, kept: int, overlap: float) -> np.ndarray:
    """Gidaris and Komodakis (2015): the weighted mean of the boxes on an object; weights as NMW."""
    boxes, scores, labels = found
    total, weights = np.zeros(4), 0.0
    for box, score, label in zip(boxes.astype(float), scores.tolist(), labels, strict=True):
        shared = iou(boxes[kept].astype(float), box)
        if label == labels[kept] and shared >= overlap and score >= scores[kept] / 10:
            total += score * shared * box
            weights += score * shared
    return total / weights


@given(candidates(), st.sampled_from([0.0, 0.25, 0.5]), st.sampled_from([0.3501, 0.4501, 0.6001]))
def test_the_boxes_of_voters_are_averaged(found, score, overlap) -> None:
    plain = Selection(score, overlap, 40, box_voting=False)
    result = select(*found, plain.change(box_voting=True))
    kept = greedy(*found, plain)
    expected = [mean_of_voters(found, place, overlap) for place in kept]
    np.testing.assert_allclose(result.boxes, np.reshape(expected, (-1, 4)), rtol=0, atol=1e-3)
    np.testing.assert_array_equal(result.scores, found[1][kept])
    np.testing.assert_array_equal(result.labels, found[2][kept])


@given(candidates(), st.sampled_from([0.1, 0.3, 0.6]))
def test_a_threshold_moves_no_box(found, score) -> None:
    """What a user's threshold leaves is what evaluation saw above it."""
    low, high = select(*found, Selection(0.001)), select(*found, Selection(score))
    np.testing.assert_array_equal(low[low.scores >= np.float32(score)].boxes, high.boxes)


def test_other_classes_weak_boxes_and_boxes_beside_have_no_vote() -> None:
    starts = np.array([100, 104, 108, 160, 110], np.float32)
    tops = np.full(5, 100, np.float32)
    boxes = np.stack([starts, tops, starts + 100, tops + 100], axis=1)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.08], np.float32)
    labels = np.array([0, 1, 0, 0, 0], np.int32)
    found = select(boxes, scores, labels, Selection())
    overlap = 92 / 108  # of the first and the third
    moved = 100 + 8 * 0.7 * overlap / (0.9 + 0.7 * overlap)
    np.testing.assert_allclose(found.boxes[0], [moved, 100, moved + 100, 200], atol=1e-3)
    np.testing.assert_array_equal(found.boxes[1:], boxes[[1, 3]])
    np.testing.assert_array_equal(
        select(boxes, scores, labels, Selection(box_voting=False)).boxes, boxes[[0, 1, 3]]
    )


@pytest.mark.parametrize("labels", [(0, 1), (1, 0), (3, 4), (79, 78), (0, 65_535)])
@pytest.mark.parametrize("side", [160, 320, 1280])
def test_objects_of_two_classes_never_suppress_each_other(
    side: int, labels: tuple[int, int]
) -> None:
    """One object of a class, and objects of another one all over the input and far around it."""
    corners = np.arange(-side, 4 * side, 16, dtype=np.float32)
    around = np.stack((corners, corners, corners + 32, corners + 32), axis=1)
    for x in (0, side / 2, side - 32):
        boxes = np.vstack(([[x, x, x + 32, x + 32]], around)).astype(np.float32)
        scores = np.linspace(0.9, 0.8, len(boxes), dtype=np.float32)
        numbers = np.array([labels[0], *[labels[1]] * len(around)], np.int32)
        found = select(boxes, scores, numbers, Selection(0.3, 0.3, 1000))
        assert len(found) == len(boxes)
        assert len(select(boxes, scores, numbers * 0, Selection(0.3, 0.3, 1000))) < len(boxes)


@pytest.mark.parametrize("far", [1e9, 1e30, np.inf])
def test_a_box_without_bound_does_not_touch_the_others(far: float) -> None:
    boxes = np.array(
        [
            [0, 0, far, far],
            [-far, 5, 10, 10],
            [10, 10, 50, 50],
            [10, 10, 50, 49],
            [200, 9, 240, 49],
        ],
        np.float32,
    )
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
    labels = np.array([1, 1, 1, 1, 2], np.int32)
    found = select(boxes, scores, labels, Selection(0.3, 0.5, 10))
    own, other = 0.7, 0.6 * 39 / 40  # score times IoU
    boxes[2, 3] = (50 * own + 49 * other) / (own + other)
    np.testing.assert_allclose(found.boxes, boxes[[0, 1, 2, 4]], rtol=1e-6)


@pytest.mark.parametrize(
    "bad", [[np.nan, 0, 10, 10], [np.nan] * 4, [300, 0, 0, 100], [0, 300, 100, 0], [5, 5, 5, 90]]
)
def test_a_box_without_area_does_not_hide_the_others(bad: list[float]) -> None:
    """It is in no image, but has the highest score."""
    objects = np.array([[10, 10, 50, 50], [5, 90, 150, 150], [10, 10, 50, 50]], np.float32)
    boxes = np.concatenate([np.array([bad], np.float32), objects])
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    found = select(boxes, scores, np.array([0, 0, 0, 1], np.int32), Selection(0.3, 0.5, 3))
    np.testing.assert_array_equal(found.in_image(320, 320).boxes, objects)


@pytest.mark.parametrize(
    "bad", [[np.nan, 10, 48, 50], [10, np.nan, 50, 48], [10, 10, np.nan, 50], [10, 10, 50, np.nan]]
)
def test_a_box_that_is_no_number_has_no_vote(bad: list[float]) -> None:
    objects = [[10, 10, 50, 50], [10, 10, 50, 46]]
    boxes = np.array([objects[0], bad, objects[1]], np.float32)
    scores, labels = np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int32)
    without = select(boxes[[0, 2]], scores[[0, 2]], labels[:2], Selection())
    np.testing.assert_array_equal(select(boxes, scores, labels, Selection()).boxes, without.boxes)


def test_nothing_in_nothing_out() -> None:
    nothing = Detections.empty()
    assert len(select(nothing.boxes, nothing.scores, nothing.labels, Selection())) == 0


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"score_threshold": -0.1}, "score_threshold is -0.1: give a value from 0 to 1"),
        ({"iou_threshold": 1.5}, "iou_threshold is 1.5"),
        ({"iou_threshold": float("nan")}, "iou_threshold is nan"),
        ({"max_detections": 0}, "max_detections is 0: give at least 1"),
    ],
)
def test_values_out_of_range_are_refused(values: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Selection().change(**values)


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (12,)])
def test_detections_that_do_not_fit_together_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="boxes have shape"):
        Detections(np.zeros(shape, np.float32), np.zeros(3, np.float32), np.zeros(3, np.int32))


@settings(max_examples=20)
@given(candidates(), st.tuples(*[st.sampled_from([0.0, 0.2, 0.5, 0.9])] * 3))
def test_thresholds_of_classes_equal_a_selection_of_each_class(found, thresholds) -> None:
    boxes, scores, labels = found
    together = select(boxes, scores, labels, Selection(0.99, thresholds=thresholds))
    rows: list[tuple[float, list[float]]] = []
    for label, least in enumerate(thresholds):
        alone = select(boxes, scores, labels, Selection(least, labels=frozenset({label})))
        rows += zip(alone.scores.tolist(), alone.boxes.tolist(), strict=True)
    assert list(zip(together.scores.tolist(), together.boxes.tolist(), strict=True)) == sorted(
        rows, key=lambda row: -row[0]
    )


def test_thresholds_of_classes_are_read_and_refused() -> None:
    assert class_thresholds(["person:0.6", "", "traffic light: 1", "a:b:0"]) == {
        "person": 0.6,
        "traffic light": 1.0,
        "a:b": 0.0,
    }
    for text in ("person", "person:", ":0.5", "person:1.1", "person:nan", "person:-0.1"):
        with pytest.raises(ValueError, match="not of the form person:0.6"):
            class_thresholds([text])
    with pytest.raises(ValueError, match="two thresholds"):
        class_thresholds(["person:0.6", "person:0.5"])
    assert label_thresholds({"green": 0.9}, CARD, 0.3) == (0.3, 0.9, 0.3)
    assert label_thresholds({}, CARD, 0.3) is None
    with pytest.raises(ValueError, match="no class 'pink'"):
        label_thresholds({"pink": 0.9}, CARD, 0.3)


def test_boxes_of_other_sizes_are_left_out() -> None:
    sizes = [(10, 10), (10, 9), (9, 10), (20, 30), (21, 30), (20, 31)]
    boxes = np.array([(5, 5, 5 + w, 5 + h) for w, h in sizes], np.float32)
    found = Detections(boxes, np.ones(6, np.float32), np.zeros(6, np.int32))

    def kept(**limits: tuple[int, int]) -> list[int]:
        rows = Selection(**limits).of_size(found).boxes.tolist()
        return [place for place, box in enumerate(boxes.tolist()) if box in rows]

    assert kept(min_size=(10, 10)) == [0, 3, 4, 5]
    assert kept(max_size=(20, 30)) == [0, 1, 2, 3]
    assert kept(min_size=(10, 0), max_size=(0, 30)) == [0, 1, 3, 4]
    with pytest.raises(ValueError, match="width of at least 30 and at most 20"):
        Selection(min_size=(30, 0), max_size=(20, 0))
