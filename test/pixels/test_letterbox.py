# SPDX-License-Identifier: Apache-2.0
"""Letterbox geometry: boxes map into the input and back, and pixels lie where it says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compact_yolo_ros.pixels.letterbox import PADDING, Letterbox, Placement

SIDES = st.integers(1, 4000)
TARGETS = st.sampled_from([(320, 320), (224, 224), (416, 416), (320, 256), (1280, 160)])


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    resize = draw(st.sampled_from(["letterbox", "corner", "stretch"]))
    return Placement.fit((draw(SIDES), draw(SIDES)), draw(TARGETS), resize)


@given(placements(), st.data())
def test_a_box_maps_into_the_input_and_back(placement: Placement, data: st.DataObject) -> None:
    width, height = placement.source
    xs = sorted(data.draw(st.tuples(*[st.floats(0, width)] * 2)))
    ys = sorted(data.draw(st.tuples(*[st.floats(0, height)] * 2)))
    box = np.array([[xs[0], ys[0], xs[1], ys[1]]], np.float32)
    back = placement.to_source(placement.to_input(box))
    np.testing.assert_allclose(back, box, atol=2e-3 * max(1, max(height, width) / 320))


@given(placements())
def test_the_whole_image_fills_its_window_and_the_window_fits(placement: Placement) -> None:
    width, height = placement.source
    corners = placement.to_input(np.array([[0, 0, width, height]], np.float32))[0]
    expected = [
        placement.left,
        placement.top,
        placement.left + placement.width,
        placement.top + placement.height,
    ]
    np.testing.assert_allclose(corners, expected, atol=1e-2)
    assert 0 <= placement.top <= placement.top + placement.height <= placement.target[1]
    assert 0 <= placement.left <= placement.left + placement.width <= placement.target[0]


@given(SIDES, SIDES, TARGETS, st.sampled_from([2, 4, 8]), st.data())
def test_boxes_of_a_reduced_image_are_in_the_pixels_of_the_larger_one(
    width: int, height: int, target: tuple[int, int], reduction: int, data: st.DataObject
) -> None:
    """A reduced pixel at (x, y) begins at (x, y) * reduction of the image."""
    small = Placement.fit((-(-width // reduction), -(-height // reduction)), target)
    large = small.of_larger((width, height), reduction)
    assert large.source == (width, height)
    box = np.array([[data.draw(st.floats(0, side)) for side in small.source * 2]], np.float32)
    seen = small.to_input(box)
    np.testing.assert_allclose(large.to_source(seen), box * reduction, rtol=1e-4, atol=0.05)
    np.testing.assert_allclose(large.to_input(box * reduction), seen, rtol=1e-4, atol=0.05)


@given(SIDES, SIDES, TARGETS)
def test_a_letterbox_touches_two_opposite_sides_and_is_centred(
    width: int, height: int, target: tuple[int, int]
) -> None:
    placed = Placement.fit((width, height), target)
    assert placed.width == target[0] or placed.height == target[1]
    assert abs(target[0] - placed.width - 2 * placed.left) <= 1
    assert abs(target[1] - placed.height - 2 * placed.top) <= 1


def test_an_image_in_the_corner_has_all_padding_right_and_below() -> None:
    buffer = np.zeros((160, 320, 3), np.uint8)
    placed = Letterbox(buffer, "corner")(np.full((479, 333, 3), 7, np.uint8), "rgb")
    # 333 * 160 / 479 is 111.2 columns, which YOLOX cuts off
    assert (placed.left, placed.top, placed.width, placed.height) == (0, 0, 111, 160)
    assert (buffer[:, :111] == 7).all() and (buffer[:, 111:] == PADDING).all()


@pytest.mark.parametrize("resize", ["letterbox", "corner", "stretch"])
@pytest.mark.parametrize("source", [(4000, 1), (1, 4000), (30_000, 3), (2, 65_535)])
def test_a_very_thin_image_still_shows_a_row_or_column(
    source: tuple[int, int], resize: str
) -> None:
    out = np.zeros((320, 320, 3), np.uint8)
    image = np.full((source[1], source[0], 3), (10, 20, 30), np.uint8)
    placement = Letterbox(out, resize)(image, "rgb")
    assert min(placement.width, placement.height) >= 1
    shown = (out == (10, 20, 30)).all(axis=2)
    assert shown.sum() == placement.width * placement.height
    assert (out[~shown] == PADDING).all()
    whole = np.array([[0, 0, *source]], np.float32)
    np.testing.assert_allclose(placement.to_source(placement.to_input(whole)), whole, rtol=1e-3)


@pytest.mark.parametrize("source", [(0, 10), (10, 0), (-1, 5)])
def test_an_image_without_pixels_is_refused(source: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="a side is not positive"):
        Placement.fit(source, (320, 320))


@pytest.mark.parametrize(
    ("colour", "pixel"),
    [
        ("rgb", (10, 20, 30)),
        ("bgr", (30, 20, 10)),
        ("rgba", (10, 20, 30, 99)),
        ("bgra", (30, 20, 10, 99)),
    ],
)
def test_every_colour_order_becomes_rgb_on_grey_padding(
    colour: str, pixel: tuple[int, ...]
) -> None:
    out = np.zeros((320, 320, 3), np.uint8)
    Letterbox(out)(np.full((480, 640, len(pixel)), pixel, np.uint8), colour)
    assert (out[40:280] == (10, 20, 30)).all()
    assert (out[:40] == PADDING).all()
    assert (out[280:] == PADDING).all()


def test_the_same_buffer_equals_a_fresh_one_after_the_image_size_changed() -> None:
    rng = np.random.default_rng(0)
    reused = np.zeros((320, 320, 3), np.uint8)
    letterbox = Letterbox(reused)
    for shape in [(480, 640), (640, 480), (100, 100), (480, 640), (31, 977)]:
        image = rng.integers(0, 256, (*shape, 3), np.uint8)
        fresh = np.zeros((320, 320, 3), np.uint8)
        Letterbox(fresh)(image, "bgr")
        letterbox(image, "bgr")
        np.testing.assert_array_equal(reused, fresh)


def test_a_stretch_is_a_plain_resize() -> None:
    image = np.random.default_rng(1).integers(0, 256, (100, 300, 3), np.uint8)
    out = np.zeros((224, 224, 3), np.uint8)
    Letterbox(out, "stretch")(image, "rgb")
    np.testing.assert_array_equal(out, cv2.resize(image, (224, 224)))
