# SPDX-License-Identifier: Apache-2.0
"""Grey images of 10 to 16 bits show something, whichever of the bits their camera uses."""

from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from compact_yolo_ros.pixels.decoding import ImageDecoder
from compact_yolo_ros.pixels.grey_levels import to_8_bits

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def raw(values: NDArray[np.uint16], encoding: str = "mono16", padding: int = 0) -> Any:
    rows = np.pad(values.astype("<u2").view(np.uint8), ((0, 0), (0, padding)))
    height, width = values.shape
    return SimpleNamespace(
        encoding=encoding,
        width=width,
        height=height,
        step=rows.shape[1],
        is_bigendian=0,
        data=array("B", rows.tobytes()),
    )


def png(values: NDArray[np.uint16], format_: str = "mono16; png compressed mono16") -> Any:
    data = cv2.imencode(".png", values)[1].tobytes()
    return SimpleNamespace(format=format_, data=array("B", data))


def scene(low: int, high: int, height: int = 60, width: int = 80) -> NDArray[np.uint16]:
    """A ramp over the levels of a camera."""
    return np.linspace(low, high, height * width).reshape(height, width).astype(np.uint16)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@given(data=st.data())
@settings(max_examples=30)
def test_the_bits_of_a_camera_become_black_to_white(bits: int, data: Any) -> None:
    values = data.draw(arrays(np.uint16, data.draw(SHAPES)))
    expected = np.clip(values * (255 / (2**bits - 1)), 0, 255)
    np.testing.assert_allclose(to_8_bits(values, bits), expected, atol=0.51)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1023), (0, 4095), (0, 16383), (0, 65535), (21000, 24000), (65000, 65535)]
)
def test_by_default_the_levels_of_an_image_use_the_whole_range(low: int, high: int) -> None:
    pixels = ImageDecoder().image(raw(scene(low, high))).pixels
    assert pixels.min() == 0
    assert pixels.max() == 255
    np.testing.assert_allclose(pixels, scene(0, 255), atol=3)


def test_a_broken_and_a_hot_pixel_do_not_darken_the_rest() -> None:
    values = scene(21000, 24000)
    values[5, 5], values[9, 9] = 0, 65535
    pixels = ImageDecoder().image(raw(values)).pixels
    assert pixels[5, 5] == 0
    assert pixels[9, 9] == 255
    others = np.delete(pixels.ravel(), [5 * 80 + 5, 9 * 80 + 9])
    np.testing.assert_allclose(others, np.delete(scene(0, 255).ravel(), [405, 729]), atol=3)


@given(low=st.integers(0, 65300), spread=st.integers(0, 200))
def test_noise_is_not_stretched(low: int, spread: int) -> None:
    """A covered lens stays dark: one level of the camera is at most one of the result."""
    values = np.random.default_rng(0).integers(low, low + spread, (20, 30), np.uint16, True)
    pixels = to_8_bits(values, 0)
    assert int(pixels.max()) - int(pixels.min()) <= spread


@pytest.mark.parametrize("shape", [(h, w) for h in range(1, 6) for w in range(1, 6)])
def test_images_of_a_few_pixels_are_stretched_too(shape: tuple[int, int]) -> None:
    values = np.full(shape, 20000, np.uint16)
    values[-1, -1] = 30000
    expected = np.zeros(shape)
    expected[-1, -1] = 255
    if values.size == 1:
        expected[:] = 0  # it is its own darkest level
    np.testing.assert_allclose(to_8_bits(values, 0), expected, atol=8)


def test_large_images_are_judged_by_a_sample() -> None:
    values = scene(100, 3000, 1200, 1600)
    np.testing.assert_allclose(to_8_bits(values, 0), scene(0, 255, 1200, 1600), atol=3)


@pytest.mark.parametrize("bits", [0, 12])
@given(values=arrays(np.uint16, SHAPES), padding=st.sampled_from([0, 1, 2, 7]))
@settings(max_examples=30)
def test_raw_and_png_give_the_same_picture(
    bits: int, values: NDArray[np.uint16], padding: int
) -> None:
    decoder = ImageDecoder(mono16_bits=bits)
    first = decoder.image(raw(values, padding=padding))
    second = ImageDecoder(mono16_bits=bits).compressed(png(values))
    assert first.colour == second.colour == "grey"
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_big_endian_values_are_read_as_such() -> None:
    values = scene(0, 4095, 7, 9)
    message = raw(values)
    message.data = array("B", values.astype(">u2").tobytes())
    message.is_bigendian = 1
    np.testing.assert_array_equal(
        ImageDecoder().image(message).pixels, ImageDecoder().image(raw(values)).pixels
    )
