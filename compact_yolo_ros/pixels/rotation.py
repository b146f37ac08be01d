# SPDX-License-Identifier: Apache-2.0
"""Sizes of images that are turned for the network, and boxes that are turned back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROTATIONS = (0, 90, 180, 270)
"""Degrees clockwise."""


def turned(size: tuple[int, int], rotation: int) -> tuple[int, int]:
    """Width and height of what has ``size`` before it is turned."""
    return size if rotation % 180 == 0 else (size[1], size[0])


def turn_back(
    boxes: NDArray[np.float32], rotation: int, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Boxes of a turned image as they are before that.

    Args:
        boxes: (n, 4) x1 y1 x2 y2 in pixels of the turned image.
        rotation: degrees clockwise by which it was turned.
        size: its width and height before that, in pixels.
    """
    width, height = size
    x1, y1, x2, y2 = boxes.T
    if rotation == 90:  # (x, y) has become (height - y, x)
        corners = y1, height - x2, y2, height - x1
    elif rotation == 180:
        corners = width - x2, height - y2, width - x1, height - y1
    elif rotation == 270:  # (x, y) has become (y, width - x)
        corners = width - y2, x1, width - y1, x2
    else:
        return boxes
    return np.stack(corners, axis=1)
