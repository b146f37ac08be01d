# SPDX-License-Identifier: Apache-2.0
"""Detections as a value: taking some of them, joining them, and keeping them inside an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.pixels.letterbox import Placement


def some(ids: bool = False) -> Detections:
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    scores = np.array([0.9, 0.5, 0.3], np.float32)
    labels = np.array([2, 0, 1], np.int32)
    return Detections(boxes, scores, labels, np.array([7, 8, 9]) if ids else None)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (np.array([True, False, True]), [2, 1]),
        (slice(1, None), [0, 1]),
        ([2, 0], [1, 2]),
        (np.array([1, 1]), [0, 0]),
        ([], []),
        (np.zeros(3, bool), []),
    ],
)
@pytest.mark.parametrize("ids", [False, True])
def test_some_are_taken_by_mask_slice_or_positions(
    index: Any, expected: list[int], ids: bool
) -> None:
    found = some(ids)
    taken = found[index]
    assert taken.labels.tolist() == expected
    places = [found.labels.tolist().index(label) for label in expected]
    np.testing.assert_array_equal(taken.boxes, found.boxes[places])
    np.testing.assert_array_equal(taken.scores, found.scores[places])
    assert (taken.ids is None) != ids
    if ids:
        assert taken.ids.tolist() == [7 + place for place in places]


def test_a_single_number_is_refused_with_what_to_write_instead() -> None:
    with pytest.raises(TypeError, match=r"found\[\[1\]\]"):
        some()[1]  # type: ignore[index]
    with pytest.raises(IndexError):
        some()[[3]]


def test_results_are_joined_in_their_order() -> None:
    joined = Detections.concatenate([some(True), some(True)[:1]])
    assert joined.labels.tolist() == [2, 0, 1, 2]
    assert joined.ids is not None and joined.ids.tolist() == [7, 8, 9, 7]
    assert len(Detections.concatenate([])) == 0
    assert len(Detections.concatenate([Detections.empty(), some()])) == 3
    with pytest.raises(ValueError, match="cannot be joined"):
        Detections.concatenate([some(True), some()])


def test_arrays_that_do_not_fit_are_refused() -> None:
    found = some()
    with pytest.raises(ValueError, match=r"ids have shape \(2,\), expected \(3,\)"):
        Detections(found.boxes, found.scores, found.labels, np.array([1, 2]))


def test_boxes_are_clipped_to_the_image_and_those_outside_are_left_out() -> None:
    boxes = np.array(
        [[-50, -50, 400, 400], [10, 10, 20, 20], [640, 0, 700, 50], [5, 480, 9, 600]], np.float32
    )
    found = Detections(boxes, np.ones(4, np.float32), np.arange(4, dtype=np.int32))
    inside = found.in_image(640, 480)
    np.testing.assert_array_equal(inside.boxes, [[0, 0, 400, 400], [10, 10, 20, 20]])
    assert inside.labels.tolist() == [0, 1]


def test_boxes_of_the_network_come_back_in_the_image_and_those_in_the_padding_go() -> None:
    placement = Placement.fit((640, 480), (320, 320))  # half size, 40 rows of padding above
    boxes = np.array([[0, 30, 320, 300], [0, 0, 320, 39]], np.float32)
    found = Detections(boxes, np.ones(2, np.float32), np.zeros(2, np.int32))
    np.testing.assert_allclose(found.to_source(placement).boxes, [[0, 0, 640, 480]])
