# SPDX-License-Identifier: Apache-2.0
"""The size of an input that fits a camera, against its definition."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compact_yolo_ros.model.sizes import (
    ANY_IMAGE,
    MAX_SIDE,
    STRIDE,
    Size,
    fitted,
    nearest,
    parse_input_size,
)
from compact_yolo_ros.pixels.letterbox import Placement

SIDES = range(160, MAX_SIDE + 1, STRIDE)
sides = st.sampled_from(SIDES)
pixels = st.integers(1, 20000)
images = st.tuples(pixels, pixels)
ALL = [Size(*pair) for pair in product(range(STRIDE, MAX_SIDE + 1, STRIDE), repeat=2)]


@pytest.mark.parametrize(
    ("side", "image", "expected"),
    [
        (320, (640, 480), "320x256"),
        (320, (1280, 720), "320x192"),
        (320, (1920, 1080), "320x192"),
        (320, (720, 1280), "192x320"),
        (320, (480, 640), "256x320"),
        (320, (500, 500), "320x320"),
        (320, (640, 384), "320x192"),
        (416, (1280, 720), "416x256"),
        (224, (1280, 720), "224x128"),
        (160, (1280, 720), "160x160"),
        (640, (1280, 720), "640x384"),
        (320, (4096, 1), "320x96"),
        (320, (1, 1), "320x320"),
    ],
)
def test_cameras_as_they_are(side: int, image: tuple[int, int], expected: str) -> None:
    assert str(fitted(side, image)) == expected


@given(sides, images)
def test_it_is_the_smallest_input_that_shows_the_image_as_large_as_the_square_does(
    side: int, image: tuple[int, int]
) -> None:
    size = fitted(side, image)
    assert size.check() == size
    assert max(size) == side
    found, square = Placement.fit(image, size), Placement.fit(image, (side, side))
    # The same pixels, but for a row or column that rounding may take.
    assert abs(found.width - square.width) <= 1 and abs(found.height - square.height) <= 1
    short = min(size) - STRIDE
    smaller = Size(side, short) if size.width == side else Size(short, side)
    is_allowed = short > 0 and smaller.area >= 160 * 160
    rows = round(side * min(image) / max(image))
    assert not (is_allowed and rows <= short)


@given(sides, images)
def test_a_turned_image_has_a_turned_input(side: int, image: tuple[int, int]) -> None:
    width, height = fitted(side, image)
    assert fitted(side, image[::-1]) == Size(height, width)


@given(st.sampled_from([size for size in ALL if size.area >= 160 * 160]), images)
def test_a_given_size_stays_as_it_is(size: Size, image: tuple[int, int]) -> None:
    assert fitted(size, image) == size
    assert parse_input_size(str(size)) == size.check()


@given(st.lists(st.sampled_from(ALL), min_size=1, max_size=8, unique=True), st.sampled_from(ALL))
def test_the_nearest_size_loses_least_of_the_scale(sizes: list[Size], wanted: Size) -> None:
    def scale(size: Size) -> float:
        return min(1.0, size.width / wanted.width, size.height / wanted.height)

    found = nearest(sizes, wanted)
    assert scale(found) == max(map(scale, sizes))
    assert found.area == min(size.area for size in sizes if scale(size) == scale(found))
    assert nearest([*sizes, wanted], wanted) == wanted


def test_the_square_serves_until_an_image_is_known() -> None:
    assert fitted(320, ANY_IMAGE) == Size.square(320)
    assert nearest([Size.square(320), Size.square(224)], Size(224, 128)) == Size.square(224)


@pytest.mark.parametrize("text", ["330", "128", "1312", "320x100", "160x96", "320x0", "0", "-320"])
def test_what_no_network_can_be_run_at_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not usable"):
        parse_input_size(text)


def test_a_number_is_a_long_side() -> None:
    assert parse_input_size("320") == 320
    assert parse_input_size("320x320") == Size.square(320)
