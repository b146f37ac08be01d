# SPDX-License-Identifier: Apache-2.0
"""The pixels of image files that somebody keeps on a disk."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.pixels.grey_levels import to_8_bits
from compact_yolo_ros.pixels.jpeg_pixels import decode
from compact_yolo_ros.pixels.mono16_bits import STRETCH


def picture_of(data: bytes) -> NDArray[np.uint8] | None:
    """Decode an image file, turned as its EXIF orientation says.

    Grey levels of 16 bits are stretched as those of a camera's mono16 are. OpenCV alone would take
    the higher eight bits, in which the images of most such cameras are black.

    Args:
        data: the file; see ``decodable``.

    Returns:
        (H, W, 3) uint8 BGR; None if it cannot be decoded.
    """
    pixels = decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if pixels is None or pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16 and (pixels == pixels[..., :1]).all():
        grey = to_8_bits(np.ascontiguousarray(pixels[..., 0]), STRETCH)
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)
    return decode(data, cv2.IMREAD_COLOR)
