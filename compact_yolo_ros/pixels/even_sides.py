# SPDX-License-Identifier: Apache-2.0
"""Pictures as encoders of videos take them: with even sides."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def even(width: int, height: int) -> tuple[int, int]:
    """Return sides that are even: one pixel more where they are odd."""
    return width + width % 2, height + height % 2


def with_even_sides(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture (h, w, 3) with even sides: the last column and row of odd ones is doubled.

    OpenCV's encoders would cut them off instead, and refuse a picture of one pixel.
    """
    height, width = pixels.shape[:2]
    if not (width % 2 or height % 2):
        return pixels
    border = (0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.copyMakeBorder(pixels, *border), np.uint8)
