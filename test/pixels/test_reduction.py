# SPDX-License-Identifier: Apache-2.0
"""Large images are averaged before they are resized: noise goes, and nothing moves."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compact_yolo_ros.pixels.letterbox import Letterbox
from compact_yolo_ros.pixels.reduction import Halving

CAMERAS = [(1920, 1080), (1280, 720), (1280, 960), (1920, 1200), (3840, 2160), (2592, 1944)]


def seen(image: NDArray[np.uint8], side: int = 320) -> NDArray[np.uint8]:
    """What the network sees of an image, without the padding."""
    out = np.empty((side, side, 3), np.uint8)
    colour = "rgb" if image.ndim == 3 else "grey"
    placement = Letterbox(out)(image, colour)
    return out[placement.top :][: placement.height, placement.left :][:, : placement.width]


@pytest.mark.parametrize("size", CAMERAS)
def test_noise_of_the_sensor_is_averaged(size: tuple[int, int]) -> None:
    """The mean of n independent values has 1 / sqrt(n) of their deviation: four rows are read."""
    width, height = size
    noise = np.random.default_rng(0).normal(128, 25, (height, width)).astype(np.uint8)
    linear = cv2.resize(noise, (320, 320 * height // width), interpolation=cv2.INTER_LINEAR)
    deviation = seen(noise).std()
    assert deviation < 1.03 * 25 / np.sqrt(4 * width / 320)
    assert deviation < 0.55 * linear.std()


@pytest.mark.parametrize("side", [320, 416, 224])
@pytest.mark.parametrize("size", [*CAMERAS, (1366, 768), (801, 601), (640, 480), (1921, 1081)])
def test_nothing_moves(size: tuple[int, int], side: int) -> None:
    """A ramp is the same ramp at every size; half a pixel is the most that rows may be off."""
    width, height = size
    across = np.linspace(0, 255, width, dtype=np.float32)
    down = np.linspace(0, 255, height, dtype=np.float32)[:, None]
    for ramp in (np.broadcast_to(across, (height, width)), np.broadcast_to(down, (height, width))):
        image = np.ascontiguousarray(ramp.round(), np.uint8)
        shown = seen(image, side)[..., 0]
        size = (shown.shape[1], shown.shape[0])
        expected = cv2.resize(ramp.copy(), size, interpolation=cv2.INTER_AREA)
        assert np.abs(shown - expected).max() <= 1.5
        assert abs((shown - expected).mean()) <= 0.5 + 0.5 * 255 / height


@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    target=st.tuples(st.integers(1, 160), st.integers(1, 160)),
    channels=st.sampled_from([1, 3, 4]),
)
@settings(max_examples=200)
def test_every_size_keeps_a_plain_colour_and_its_channels(
    width: int, height: int, target: tuple[int, int], channels: int
) -> None:
    shape = (height, width) if channels == 1 else (height, width, channels)
    small = Halving()(np.full(shape, 77, np.uint8), target)
    assert small.shape[2:] == shape[2:]
    assert (small == 77).all()
    assert min(small.shape[0], target[1]) <= small.shape[0] <= height
    assert min(width, target[0]) <= small.shape[1] <= width


def test_rows_may_be_padded_and_sizes_may_change() -> None:
    random, halving = np.random.default_rng(1), Halving()
    for height, width in [(720, 1280), (1080, 1920), (720, 1280), (33, 50)]:
        padded = random.integers(0, 256, (height, width + 5, 3), np.uint8)
        view = padded[:, :width]
        fresh = Halving()(view.copy(), (320, 180))
        np.testing.assert_array_equal(halving(view, (320, 180)), fresh)


@pytest.mark.parametrize("size", [(800, 600), (640, 480), (320, 240), (100, 80)])
def test_an_image_of_a_few_more_pixels_is_left_as_it_is(size: tuple[int, int]) -> None:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    assert Halving()(image, (320, 240)) is image
