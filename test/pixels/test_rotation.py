# SPDX-License-Identifier: Apache-2.0
"""Turned images and boxes that are turned back, against numpy's own rotation."""

from __future__ import annotations

import numpy as np
import pytest

from compact_yolo_ros.pixels.letterbox import Letterbox
from compact_yolo_ros.pixels.rotation import turn_back, turned
from compact_yolo_ros.pixels.turned_letterbox import TurnedLetterbox


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_box_is_turned_back_to_the_pixels_that_it_was_made_of(rotation: int) -> None:
    upright = np.zeros((40, 60), bool)
    upright[5:9, 20:50] = True
    seen = np.rot90(upright, -rotation // 90)
    rows, columns = np.nonzero(seen)
    box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    np.testing.assert_array_equal(turn_back(box, rotation, (60, 40)), [[20, 5, 50, 9]])
    assert turned((60, 40), rotation) == (seen.shape[1], seen.shape[0])


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_the_input_is_the_turned_one(rotation: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 240, 3), np.uint8)
    shape = (96, 64, 3) if rotation % 180 else (64, 96, 3)
    out, plain = np.empty(shape, np.uint8), np.empty((64, 96, 3), np.uint8)
    placement = TurnedLetterbox(out, "letterbox", rotation)(image, "bgr")
    assert placement == Letterbox(plain)(image, "bgr")
    np.testing.assert_array_equal(out, np.rot90(plain, -rotation // 90))
