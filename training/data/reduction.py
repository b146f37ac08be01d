# SPDX-License-Identifier: Apache-2.0
"""Halve the pictures of a camera once, when they are read.

Views halve them further, as the node does before it resizes them. But halving a picture of 12
megapixels for every view would cost more than the view itself, and so would keeping its pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.model.sizes import Size

REDUCTIONS = (1, 2, 4, 8, 16, 32, 64)
"""Pixels along a side that can become one."""


def reduction_of(picture: Size, least: Size | None) -> int:
    """Return how many pixels along a side of a picture become one.

    Args:
        picture: its size.
        least: letterboxed into this size, what is left is not enlarged: it has the width or the
            height; None: the picture stays whole.
    """
    fitting = [number for number in REDUCTIONS if least and _holds(picture, number, least)]
    return max(fitting, default=1)


def fits(picture: Size, least: Size) -> bool:
    """Return whether a picture has no more pixels than this along either side."""
    return picture.width <= least.width and picture.height <= least.height


def reduced_size(picture: Size, reduction: int) -> Size:
    """Return the size of a picture that is reduced; what remains of an odd side is no pixel."""
    return Size(picture.width // reduction, picture.height // reduction)


def reduced(image: NDArray[np.uint8], reduction: int) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) in which so many pixels along a side are one, as their mean."""
    for _ in range(REDUCTIONS.index(reduction)):
        height, width = image.shape[:2]
        # Of even sides this is what the node computes, the mean of four pixels.
        image = np.asarray(cv2.resize(image, (width // 2, height // 2), None, 0, 0, cv2.INTER_AREA))
    return image


def _holds(picture: Size, reduction: int, least: Size) -> bool:
    width, height = reduced_size(picture, reduction)
    return min(width, height) > 0 and (width >= least.width or height >= least.height)
