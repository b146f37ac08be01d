# SPDX-License-Identifier: Apache-2.0
"""Where tracked objects were in the last images."""

from __future__ import annotations

import numpy as np
import pytest

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.tracking.trails import MOST_IMAGES, Trails

SECOND = 10**9


def tracks(places: dict[int, tuple[float, float]]) -> Detections:
    """Boxes of 20 x 40 pixels around the places of tracks, by id."""
    half = np.array([10, 20])
    boxes = [
        np.concatenate([place - half, place + half]) for place in map(np.array, places.values())
    ]
    count = len(places)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.ones(count, np.float32),
        np.zeros(count, np.int32),
        np.array(list(places), np.int64),
    )


def ways(
    trails: Trails, stamp: float, **places: tuple[float, float]
) -> dict[int, list[list[float]]]:
    """The trails after an image at a time in seconds; ``t7`` is track 7."""
    found = trails.add(
        round(stamp * SECOND), tracks({int(name[1:]): place for name, place in places.items()})
    )
    return {trail.track: trail.points.tolist() for trail in found}


def test_a_trail_is_where_the_object_was_the_oldest_first() -> None:
    trails = Trails()
    assert ways(trails, 1, t7=(100, 50), t8=(0, 0)) == {}
    assert ways(trails, 1.1, t7=(110, 50)) == {7: [[100, 50], [110, 50]]}
    again = ways(trails, 1.2, t7=(120, 50), t8=(1, 2))
    assert again == {7: [[100, 50], [110, 50], [120, 50]], 8: [[0, 0], [1, 2]]}


@pytest.mark.parametrize("rate", [10, 30, 60])
def test_it_goes_back_two_seconds_however_many_images_that_are(rate: int) -> None:
    trails = Trails()
    for number in range(5 * rate):
        found = ways(trails, number / rate, t1=(number, 0))
    assert [x for x, _ in found[1]] == list(range(3 * rate - 1, 5 * rate))
    assert ways(trails, 60, t1=(0, 0)) == {}


def test_it_begins_anew_where_the_stamps_go_back() -> None:
    trails = Trails()
    ways(trails, 10, t1=(0, 0))
    assert ways(trails, 3, t1=(5, 5)) == {}
    assert ways(trails, 3.1, t1=(6, 6)) == {1: [[5, 5], [6, 6]]}


def test_memory_is_bounded_where_the_stamps_stand_still() -> None:
    trails = Trails()
    for number in range(3 * MOST_IMAGES):
        found = ways(trails, 0, t1=(number, 0))
    assert len(found[1]) == MOST_IMAGES
