# SPDX-License-Identifier: Apache-2.0
"""Drawn pictures of any size, as messages of every encoding that cameras publish."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from bag_writer import CODEC, PERIOD, START, Recorded, Scene, foxglove_image, header_of
from numpy.typing import NDArray
from toy_model import CARD, CELL

from compact_yolo_ros.recordings.image_types import COMPRESSED_IMAGE, IMAGE

Pixels = NDArray[np.uint8]
GREY = ("mono8", "mono16", "mono16 big-endian", "8UC1", "mono16 png")
"""What has no colours; the toy detector takes grey for its first class, red."""


def sized_scene(width: int, height: int, number: int, objects: int = 2) -> Scene:
    """Bright squares on black in the cells that the toy detector sees, others for every number.

    The longer side is a multiple of the input's; letterboxed, the shorter one begins at a cell.
    """
    side = CELL * max(width, height) // CARD.default_size
    random = np.random.default_rng(number)
    pixels, boxes = np.zeros((height, width, 3), np.uint8), []
    columns, rows = width // side, height // side
    labels = random.integers(0, 3, objects)
    for cell, label in zip(random.choice(columns * rows, objects, False), labels, strict=True):
        y, x = side * np.array(divmod(int(cell), columns))
        pixels[y : y + side, x : x + side, label] = 255
        boxes.append((x, y, x + side, y + side))
    return Scene(pixels, np.array(boxes, np.float32), labels.astype(np.int32))


def odd_scene(width: int, height: int, number: int) -> Scene:
    """One square of a fifth of the longer side, so that it covers whole cells at any scale."""
    random, side = np.random.default_rng(number), max(width, height) // 5
    x, y = random.integers(0, (width - side, height - side))
    label = int(random.integers(0, 3))
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[y : y + side, x : x + side, label] = 255
    box = np.array([[x, y, x + side, y + side]], np.float32)
    return Scene(pixels, box, np.array([label], np.int32))


def _bt601(rgb: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    """Y, Cb and Cr (h, w) with limited range, from ITU-R BT.601-7, section 2.5."""
    red, green, blue = (rgb[..., channel] / 255 for channel in range(3))
    luma = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    blueness = 128 - 37.797 * red - 74.203 * green + 112 * blue
    redness = 128 + 112 * red - 93.786 * green - 18.214 * blue
    return tuple(np.rint(plane).astype(np.uint8) for plane in (luma, blueness, redness))  # type: ignore[return-value]


def _packed_yuv(rgb: Pixels, order: str) -> Pixels:
    """Two pixels in four bytes, such as ``uyvy``."""
    luma, blueness, redness = _bt601(rgb)
    planes = {"y": iter((luma[:, ::2], luma[:, 1::2]))}
    planes |= {"u": iter((blueness[:, ::2],)), "v": iter((redness[:, ::2],))}
    return np.stack([next(planes[letter]) for letter in order], 2).reshape(len(rgb), -1)


def _planar_yuv(rgb: Pixels, order: str) -> Pixels:
    """Luma, and below it chroma of 2 x 2 pixels, as ``uv`` or ``vu``."""
    luma, blueness, redness = _bt601(rgb)
    planes = {"u": blueness[::2, ::2], "v": redness[::2, ::2]}
    chroma = np.stack([planes[letter] for letter in order], 2).reshape(len(rgb) // 2, -1)
    return np.vstack([luma, chroma])


def _mosaic(rgb: Pixels, pattern: str) -> Pixels:
    """A Bayer pattern, such as ``rggb``: two rows of two pixels."""
    found = np.empty(rgb.shape[:2], np.uint8)
    for place, letter in enumerate(pattern):
        y, x = divmod(place, 2)
        found[y::2, x::2] = rgb[y::2, x::2, "rgb".index(letter)]
    return found


def _alpha(pixels: Pixels) -> Pixels:
    return np.dstack([pixels, np.full(pixels.shape[:2], 7, np.uint8)])


def _flat(pixels: NDArray[np.generic]) -> Pixels:
    return np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)


def _grey16(rgb: Pixels) -> NDArray[np.uint16]:
    return rgb.max(2).astype(np.uint16) * 257


ROWS: dict[str, Callable[[Pixels], Pixels]] = {
    "rgb8": _flat,
    "bgr8": lambda rgb: _flat(rgb[..., ::-1]),
    "8UC3": lambda rgb: _flat(rgb[..., ::-1]),
    "rgba8": lambda rgb: _flat(_alpha(rgb)),
    "bgra8": lambda rgb: _flat(_alpha(rgb[..., ::-1])),
    "8UC4": lambda rgb: _flat(_alpha(rgb[..., ::-1])),
    "mono8": lambda rgb: rgb.max(2),
    "8UC1": lambda rgb: rgb.max(2),
    "mono16": lambda rgb: _flat(_grey16(rgb).astype("<u2")),
    "mono16 big-endian": lambda rgb: _flat(_grey16(rgb).astype(">u2")),
    "bayer_rggb8": lambda rgb: _mosaic(rgb, "rggb"),
    "bayer_bggr8": lambda rgb: _mosaic(rgb, "bggr"),
    "bayer_gbrg8": lambda rgb: _mosaic(rgb, "gbrg"),
    "bayer_grbg8": lambda rgb: _mosaic(rgb, "grbg"),
    "uyvy": lambda rgb: _packed_yuv(rgb, "uyvy"),
    "yuv422": lambda rgb: _packed_yuv(rgb, "uyvy"),
    "yuyv": lambda rgb: _packed_yuv(rgb, "yuyv"),
    "yuv422_yuy2": lambda rgb: _packed_yuv(rgb, "yuyv"),
    "nv12": lambda rgb: _planar_yuv(rgb, "uv"),
    "nv21": lambda rgb: _planar_yuv(rgb, "vu"),
}
"""The rows of bytes (n, m) of a picture (h, w, 3) in each raw encoding."""
FILES: dict[str, Callable[[Pixels], tuple[str, bytes]]] = {
    "jpeg": lambda rgb: ("bgr8; jpeg compressed bgr8", _file(".jpg", rgb[..., ::-1])),
    "png": lambda rgb: ("rgb8; png compressed bgr8", _file(".png", rgb[..., ::-1])),
    "mono16 png": lambda rgb: ("mono16; png compressed mono16", _file(".png", _grey16(rgb))),
    "bayer png": lambda rgb: (
        "bayer_rggb8; png compressed bayer_rggb8",
        _file(".png", _mosaic(rgb, "rggb")),
    ),
}
"""The format and the content of a picture (h, w, 3) as an image file."""


def _file(ending: str, pixels: NDArray[np.generic]) -> bytes:
    return bytes(cv2.imencode(ending, np.ascontiguousarray(pixels))[1].tobytes())


def image_of(kind: str, scene: Scene, number: int, topic: str, padding: int = 0) -> Recorded:
    """A message of one of ``ROWS`` or ``FILES``, or ``foxglove``; received 5 ms after its stamp."""
    stamp = START + number * PERIOD
    height, width = scene.pixels.shape[:2]
    make = CODEC.store.types
    if kind == "foxglove":
        return foxglove_image(scene, stamp, topic, delay=5_000_000)
    if kind in FILES:
        format_, content = FILES[kind](scene.pixels)
        data = np.frombuffer(content, np.uint8)
        message, type_ = make[COMPRESSED_IMAGE](header_of(stamp), format_, data), COMPRESSED_IMAGE
    else:
        rows = np.pad(ROWS[kind](scene.pixels), ((0, 0), (0, padding)), constant_values=0xA5)
        encoding, _, big_endian = kind.partition(" big-endian")
        big_endian = int(kind != encoding)
        message, type_ = (
            make[IMAGE](
                header_of(stamp),
                height,
                width,
                encoding,
                big_endian,
                rows.shape[1],
                rows.reshape(-1),
            ),
            IMAGE,
        )
    data = bytes(CODEC.store.serialize_cdr(message, type_))
    return Recorded(topic, type_, stamp + 5_000_000, data)


KINDS = (*ROWS, *FILES, "foxglove")
