# SPDX-License-Identifier: Apache-2.0
"""compressedDepth: what its publisher writes is read, in both forms, and never beyond its bytes."""

from __future__ import annotations

import struct
import tracemalloc
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compact_yolo_ros.pixels.compressed_depth import depth_file, depth_of_file
from compact_yolo_ros.pixels.file_limits import FileLimits
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.rvl import PIXEL_BYTES, WORST, decode_rvl


def rvl(pixels: np.ndarray) -> bytes:
    """The code of Wilson's paper, number by number."""
    pieces: list[int] = []

    def write(number: int) -> None:
        while number > 7:
            pieces.append(8 | number & 7)
            number >>= 3
        pieces.append(number)

    values, at, before = pixels.reshape(-1).tolist(), 0, 0
    while at < len(values):
        zeros = at
        while at < len(values) and values[at] == 0:
            at += 1
        write(at - zeros)
        begin = at
        while at < len(values) and values[at] != 0:
            at += 1
        write(at - begin)
        for value in values[begin:at]:
            change = value - before
            write(2 * change if change >= 0 else -2 * change - 1)
            before = value
    pieces += [0] * (-len(pieces) % 8)
    words = [
        sum(piece << 28 - 4 * n for n, piece in enumerate(pieces[w : w + 8]))
        for w in range(0, len(pieces), 8)
    ]
    return struct.pack(f"<{len(words)}I", *words)


def content(pixels: np.ndarray, form: str) -> bytes:
    if form == "rvl":
        return struct.pack("<II", pixels.shape[1], pixels.shape[0]) + rvl(pixels)
    return cv2.imencode(".png", pixels)[1].tobytes()


def message(pixels: np.ndarray, form: str, encoding: str, ab: tuple[float, float] = (0, 0)):
    data = struct.pack("<iff", 0, *ab) + content(pixels, form)
    return SimpleNamespace(header="h", format=f"{encoding}; compressedDepth {form}", data=data)


def scene() -> np.ndarray:
    """A floor, a wall and holes, (48, 64) in metres."""
    metres = np.tile(np.linspace(0.5, 9, 48, dtype=np.float32)[:, None], (1, 64))
    metres[10:30, 20:40] = 2.5
    metres[::5, ::3] = np.nan
    return metres


@pytest.mark.parametrize("form", ["png", "rvl"])
def test_millimetres_come_back_exactly(form: str) -> None:
    pixels = np.nan_to_num(scene() * 1000).astype(np.uint16)
    pixels[0, 0], pixels[0, 1] = 65535, 1
    file = depth_file(message(pixels, form, "16UC1"))
    assert file.header == "h" and (file.width, file.height) == (64, 48)
    read = depth_of_file(file)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("form", ["png", "rvl"])
def test_metres_come_back_within_their_quantisation(form: str) -> None:
    """Stored as in codec.cpp: depth_quantization 100 and depth_max 10 are its defaults."""
    metres = scene()
    quantum, most = 100.0, 10.0
    a = quantum * (quantum + 1)
    b = 1 - a / most
    with np.errstate(invalid="ignore"):
        stored = np.where(metres < most, a / metres + b, 0).astype(np.uint16)
    read = depth_of_file(depth_file(message(stored, form, "32FC1", (a, b))))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(read), np.isnan(metres))
    known = ~np.isnan(metres)
    # One step of the stored number is metres ** 2 / a.
    assert np.all(np.abs(read - metres)[known] <= metres[known] ** 2 / a * 1.01)


def test_older_publishers_do_not_name_the_form() -> None:
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    for text in ("16UC1", "16UC1; compressedDepth", "16UC1;compressedDepth png", "mono16"):
        given_ = message(pixels, "png", "16UC1")
        given_.format = text
        np.testing.assert_array_equal(depth_of_file(depth_file(given_)), pixels)


def test_rvl_by_hand() -> None:
    """Two zeros, two others: 5 (+5 is 10: pieces 1|010, 001), then 4 (-1 is 1)."""
    words = struct.pack("<I", 0x22A11000)
    assert decode_rvl(memoryview(words), 4).tolist() == [0, 0, 5, 4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "rgb8; jpeg compressed bgr8"}, "has format 'rgb8; jpeg"),
        ({"format": "16UC1; compressedDepth zstd"}, "png or rvl can be read"),
        ({"format": "16UC1; compressedDepth png"}, "no PNG file"),
        ({"format": "x" * 10_000}, "has format"),
        ({"data": b""}, "incomplete"),
        ({"data": bytes(12)}, "incomplete"),
        ({"data": bytes(15)}, "incomplete"),
        ({"data": bytes(20)}, "cannot be used"),
        ({"data": bytes(12) + struct.pack("<II", 2**16, 2**16)}, "cannot be used"),
        ({"data": bytes(12) + struct.pack("<II", 4000, 4000)}, "in RVL at most"),
    ],
)
def test_what_is_no_depth_image_is_refused(change: dict[str, object], words: str) -> None:
    good = message(np.ones((3, 4), np.uint16), "rvl", "16UC1")
    with pytest.raises(ImageError, match=words) as found:
        depth_file(SimpleNamespace(**{**vars(good), **change}))
    assert len(str(found.value)) < 250


def test_a_png_must_have_16_bits_and_keep_to_the_limits() -> None:
    with pytest.raises(ImageError, match="channels of 8 bits"):
        depth_file(message(np.ones((3, 4), np.uint8), "png", "16UC1"))
    for form in ("png", "rvl"):
        large = message(np.full((1024, 1024), 5, np.uint16), form, "16UC1")
        with pytest.raises(ImageError, match="max_image_mb"):
            depth_file(large, FileLimits(megabytes=1))


@pytest.mark.parametrize("zeros", [True, False])
def test_rvl_takes_no_more_memory_than_is_counted(zeros: bool) -> None:
    """The most numbers that pixels can have, and data that go on with numbers of four bits."""
    pixels = np.tile(np.array([0, 1] if zeros else [1, 9000], np.uint16), 20_000)
    data = rvl(pixels) + bytes(WORST * len(pixels))
    tracemalloc.start()
    try:
        decode_rvl(memoryview(data), len(pixels))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < PIXEL_BYTES * len(pixels)


@pytest.mark.parametrize("form", ["png", "rvl"])
def test_incomplete_files_are_refused(form: str) -> None:
    pixels = np.nan_to_num(scene() * 1000).astype(np.uint16)
    whole = message(pixels, form, "16UC1")
    for length in (13, 20, 60, len(whole.data) // 2, len(whole.data) - 13):
        with pytest.raises(ImageError):
            depth_of_file(
                depth_file(SimpleNamespace(**{**vars(whole), "data": whole.data[:length]}))
            )


@settings(max_examples=50)
@given(st.lists(st.integers(0, 65535) | st.just(0), min_size=1, max_size=80))
def test_rvl_of_any_pixels(values: list[int]) -> None:
    pixels = np.array(values, np.uint16)
    np.testing.assert_array_equal(decode_rvl(memoryview(rvl(pixels)), len(values)), pixels)


@settings(max_examples=50)
@given(st.binary(max_size=80), st.integers(1, 1000))
def test_any_bytes_are_pixels_or_an_error(data: bytes, count: int) -> None:
    try:
        assert decode_rvl(memoryview(data), count).shape == (count,)
    except ImageError as error:
        assert error.kind in ("compressed", "truncated")
