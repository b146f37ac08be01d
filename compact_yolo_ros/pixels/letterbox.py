# SPDX-License-Identifier: Apache-2.0
"""Bringing an image of any size into a network input, and boxes back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

PADDING = 114
"""Grey value around a letterboxed image, as in training."""


@dataclass(frozen=True)
class Placement:
    """Where an image of ``source`` size lies in a network input of ``target`` size.

    Sizes are (height, width) in pixels. An image point (x, y) is at
    (x * scale_x + left, y * scale_y + top) of the input, both with the origin at the top left
    corner of the top left pixel.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    left: int
    top: int
    width: int
    height: int

    @classmethod
    def fit(
        cls,
        source: tuple[int, int],
        target: tuple[int, int],
        resize: Literal["letterbox", "stretch"] = "letterbox",
    ) -> Placement:
        """Place ``source`` into ``target``: centred with its aspect ratio kept, or stretched.

        Raises:
            ValueError: a side is not positive.
        """
        if min(*source, *target) <= 0:
            raise ValueError(
                f"cannot fit an image of {source} into {target}: a side is not positive"
            )
        if resize == "stretch":
            return cls(source, target, 0, 0, target[1], target[0])
        scale = min(target[0] / source[0], target[1] / source[1])
        height = max(1, min(target[0], round(source[0] * scale)))
        width = max(1, min(target[1], round(source[1] * scale)))
        left, top = (target[1] - width) // 2, (target[0] - height) // 2
        return cls(source, target, left, top, width, height)

    @property
    def scale_x(self) -> float:
        """Input pixels per image pixel, horizontally (rounding makes it differ from scale_y)."""
        return self.width / self.source[1]

    @property
    def scale_y(self) -> float:
        """Input pixels per image pixel, vertically."""
        return self.height / self.source[0]

    def to_input(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Boxes (n, 4) xyxy in image pixels, as boxes in input pixels."""
        return (boxes * self._scales + self._offsets).astype(np.float32)

    def to_source(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Boxes (n, 4) xyxy in input pixels, as boxes in image pixels, clipped to the image."""
        out = ((boxes - self._offsets) / self._scales).astype(np.float32, copy=False)
        np.maximum(out, 0, out=out)
        np.minimum(out, self._limits, out=out)
        return out

    # Kept, because a camera's images are all placed alike.

    @cached_property
    def _scales(self) -> NDArray[np.float32]:
        return np.array([self.scale_x, self.scale_y] * 2, np.float32)

    @cached_property
    def _offsets(self) -> NDArray[np.float32]:
        return np.array([self.left, self.top] * 2, np.float32)

    @cached_property
    def _limits(self) -> NDArray[np.float32]:
        return np.array([self.source[1], self.source[0]] * 2, np.float32)


Colour = Literal["bgr", "rgb", "bgra", "rgba", "grey"]
"""Channel order of an 8-bit image: (h, w, 3), (h, w, 4), or (h, w) for grey."""

TO_RGB: dict[str, int] = {
    "bgr": cv2.COLOR_BGR2RGB,
    "bgra": cv2.COLOR_BGRA2RGB,
    "rgba": cv2.COLOR_RGBA2RGB,
    "grey": cv2.COLOR_GRAY2RGB,
}


class Letterbox:
    """Resizes 8-bit images into one network input buffer.

    The border is painted and the scratch buffer allocated only when the size of the images
    changes, so a camera stream costs one resize and one conversion of the small image a frame.
    """

    def __init__(
        self, out: NDArray[np.uint8], resize: Literal["letterbox", "stretch"] = "letterbox"
    ) -> None:
        """Write into ``out``, (H, W, 3) uint8, RGB; nobody else may write to it."""
        self._out = out
        self._resize = resize
        self._placement: Placement | None = None
        self._scratch: NDArray[np.uint8] | None = None

    def __call__(self, image: NDArray[np.uint8], colour: Colour) -> Placement:
        """Fill the buffer from ``image`` (see ``Colour``) and return where the image lies in it."""
        placement = self._place(image.shape[0], image.shape[1])
        top, left = placement.top, placement.left
        window = self._out[top : top + placement.height, left : left + placement.width]
        size = (placement.width, placement.height)
        if colour == "rgb":
            cv2.resize(image, size, dst=window, interpolation=cv2.INTER_LINEAR)
            return placement
        self._scratch = cv2.resize(image, size, dst=self._scratch, interpolation=cv2.INTER_LINEAR)
        cv2.cvtColor(self._scratch, TO_RGB[colour], dst=window)
        return placement

    def _place(self, height: int, width: int) -> Placement:
        placement = self._placement
        if placement is None or placement.source != (height, width):
            target = (self._out.shape[0], self._out.shape[1])
            placement = Placement.fit((height, width), target, self._resize)
            self._placement = placement
            self._out[...] = PADDING
        return placement
