# SPDX-License-Identifier: Apache-2.0
"""Grey images of more than 8 bits, as industrial and thermal cameras send them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.pixels.mono16_bits import STRETCH

_IGNORED = 0.5
"""Percent of the pixels at either end that may be too dark or too bright: broken or very hot."""
_SAMPLES = 2**16
"""Pixels from which the levels of an image are estimated."""
_LEAST_RANGE = 255
"""A smaller range is not stretched: grey levels finer than those of the camera would be noise."""


def to_8_bits(
    values: NDArray[np.uint16], bits: int, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Map the levels of a 16-bit image to 0..255; levels outside become 0 or 255.

    Args:
        values: (H, W) grey levels.
        bits: how many of the 16 bits the camera uses, or ``STRETCH``.
        out: memory that may be used for the result.

    Returns:
        (H, W) grey levels.
    """
    low, high = _levels(values) if bits == STRETCH else (0, 2**bits - 1)
    above = _subtract(values, low) if low else values
    scaled: NDArray[np.uint8] = cv2.convertScaleAbs(above, out, alpha=255 / (high - low))
    return scaled


def _subtract(values: NDArray[np.uint16], low: int) -> NDArray[np.uint16]:
    """Subtract a level; what is below becomes 0."""
    # as one row: of an image of 4 x 1, OpenCV cannot tell the number from a second image
    return np.reshape(cv2.subtract(values.reshape(1, -1), low), values.shape)


def _levels(values: NDArray[np.uint16]) -> tuple[int, int]:
    """The levels that become 0 and 255."""
    step = max(1, int((values.size / _SAMPLES) ** 0.5))
    low, high = np.percentile(values[::step, ::step], (_IGNORED, 100 - _IGNORED))
    return int(low), int(low) + max(int(high) - int(low), _LEAST_RANGE)
