# SPDX-License-Identifier: Apache-2.0
"""Images that are turned for the network.

The small input is turned, not the large image: that takes a tenth of a millisecond.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.pixels.letterbox import Colour, Letterbox, Placement
from compact_yolo_ros.pixels.rotation import turned

_CODES = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


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
