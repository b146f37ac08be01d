# SPDX-License-Identifier: Apache-2.0
"""The pixels of a JPEG: all of them, or every block of 8 x 8 as 4 x 4, 2 x 2 or 1.

The decoder makes the smaller blocks from the low frequencies alone, which is less work than to make
all pixels and to resize them, and free of aliasing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCK = 8
"""Rows and columns of pixels in a block."""
WHOLE = 1
Size = tuple[int, int]
"""Width and height in pixels."""
Window = Callable[[Size], Size]
"""Tells how many pixels are needed of an image of a size."""

_COLOUR = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_GREY = {
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


class JpegPixels(NamedTuple):
    """A checked JPEG file that can be decoded at several sizes.

    Attributes:
        data: the file.
        size: of the image.
        is_grey: whether it has one component.
    """

    data: bytes
    size: Size
    is_grey: bool

    def decode(self, reduction: int) -> NDArray[np.uint8] | None:
        """Decode it as the camera holds it: an EXIF orientation is left alone.

        Args:
            reduction: pixels along a side that become one: 1, 2, 4 or 8.

        Returns:
            (H, W, 3) BGR or (H, W); a rest at the right or lower edge is a pixel too. None if it
            cannot be decoded, or not to this size.
        """
        pixels = decode(self.data, self._flags(reduction))
        width, height = (-(-side // reduction) for side in self.size)
        return pixels if pixels is not None and pixels.shape[:2] == (height, width) else None

    def _flags(self, reduction: int) -> int:
        if reduction == WHOLE:
            return cv2.IMREAD_UNCHANGED
        return (_GREY if self.is_grey else _COLOUR)[reduction] | cv2.IMREAD_IGNORE_ORIENTATION


def reduction_to(needed: Size, size: Size) -> int:
    """The largest reduction of an image of ``size`` that leaves as many pixels as are needed."""
    for reduction in (8, 4, 2):
        if size[0] // reduction >= needed[0] and size[1] // reduction >= needed[1]:
            return reduction
    return WHOLE


def decode(data: bytes, flags: int = cv2.IMREAD_UNCHANGED) -> NDArray[np.uint8] | None:
    """Decode a file; None if that is not possible."""
    try:
        pixels: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # of a file that claims more pixels than OpenCV takes, or an empty one
        return None
    return pixels
