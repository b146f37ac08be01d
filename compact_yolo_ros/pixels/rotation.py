# SPDX-License-Identifier: Apache-2.0
"""Images that are turned for the network, and boxes that are turned back.

The small input is turned, not the large image: that takes a tenth of a millisecond.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.pixels.letterbox import Colour, Letterbox, Placement

ROTATIONS = (0, 90, 180, 270)
"""Degrees clockwise."""
_CODES = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


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


class TurnedLetterbox:
    """A ``Letterbox`` whose result is turned."""

    def __init__(
        self,
        out: NDArray[np.uint8],
        resize: Literal["letterbox", "corner", "stretch"],
        rotation: int,
    ) -> None:
        """Write into ``out``, (H, W, 3) uint8 RGB, turned by 90, 180 or 270 degrees clockwise."""
        self._out = out
        self._code = _CODES[rotation]
        height, width = turned(out.shape[:2], rotation)
        self._upright = np.empty((height, width, 3), np.uint8)
        self._letterbox = Letterbox(self._upright, resize)

    def __call__(self, image: NDArray[np.uint8], colour: Colour) -> Placement:
        """Fill the buffer; return where the image lies in it before it is turned."""
        placement = self._letterbox(image, colour)
        cv2.rotate(self._upright, self._code, dst=self._out)
        return placement
