# SPDX-License-Identifier: Apache-2.0
"""Resize an image of any size into a network input, and map boxes back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.reduction import Halving

PADDING = 114
"""Grey value around a letterboxed image, the same as in training."""


@dataclass(frozen=True)
class Placement:
    """Where an image lies in a network input.

    An image point (x, y) is at (x * scale_x + left, y * scale_y + top) of the input. Both frames
    have their origin at the top left corner of the top left pixel.

    Attributes:
        source: (width, height) of the image in pixels.
        target: (width, height) of the input in pixels.
        left: columns of padding left of the image, in input pixels.
        top: rows of padding above it.
        width: columns of the input that the image fills.
        height: rows of the input that it fills.
        reduction: pixels of the image, along a side, that were one pixel before it was resized.
            The last one may hold fewer.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    left: int
    top: int
    width: int
    height: int
    reduction: int = 1

    @classmethod
    def fit(
        cls,
        source: tuple[int, int],
        target: tuple[int, int],
        resize: Literal["letterbox", "corner", "stretch"] = "letterbox",
    ) -> Placement:
        """Place an image in an input: centred or in the top left corner with its aspect ratio kept,
        or stretched to fill it.

        Args:
            source: (width, height) of the image in pixels.
            target: (width, height) of the input in pixels.
            resize: ``letterbox`` (centred) and ``corner`` keep the aspect ratio, ``stretch`` does
                not. For ``corner`` sides are rounded down, as YOLOX does.

        Raises:
            ValueError: a side is not positive.
        """
        if min(*source, *target) <= 0:
            raise ValueError(
                f"cannot fit an image of {source} into {target}: a side is not positive"
            )
        if resize == "stretch":
            return cls(source, target, 0, 0, *target)
        scale = min(target[0] / source[0], target[1] / source[1])
        rounded = int if resize == "corner" else round
        width = max(1, min(target[0], rounded(source[0] * scale)))
        height = max(1, min(target[1], rounded(source[1] * scale)))
        if resize == "corner":
            return cls(source, target, 0, 0, width, height)
        left, top = (target[0] - width) // 2, (target[1] - height) // 2
        return cls(source, target, left, top, width, height)

    def of_larger(self, source: tuple[int, int], reduction: int) -> Placement:
        """Where an image lies that was placed at a fraction of its size.

        Args:
            source: (width, height) of the image in pixels.
            reduction: see there.
        """
        return replace(self, source=source, reduction=reduction)

    @property
    def scale_x(self) -> float:
        """Input pixels per image pixel, horizontally (rounding makes it differ from scale_y)."""
        return self.width / self._covered(self.source[0])

    @property
    def scale_y(self) -> float:
        """Input pixels per image pixel, vertically."""
        return self.height / self._covered(self.source[1])

    def _covered(self, side: int) -> int:
        """Image pixels that the reduced ones stand for, those beyond the edge included."""
        return -(-side // self.reduction) * self.reduction

    def to_input(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map boxes (n, 4) xyxy from image pixels to input pixels."""
        return (boxes * self._scales + self._offsets).astype(np.float32)

    def to_source(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map boxes (n, 4) xyxy from input pixels to image pixels; they may reach outside."""
        return ((boxes - self._offsets) / self._scales).astype(np.float32, copy=False)

    # Cached: all images of a camera are placed alike.

    @cached_property
    def _scales(self) -> NDArray[np.float32]:
        return np.array([self.scale_x, self.scale_y] * 2, np.float32)

    @cached_property
    def _offsets(self) -> NDArray[np.float32]:
        return np.array([self.left, self.top] * 2, np.float32)


Colour = Literal["bgr", "rgb", "bgra", "rgba", "grey"]
"""Channel order of an 8-bit image: (h, w, 3), (h, w, 4), or (h, w) for grey."""

TO_RGB: dict[str, int] = {
    "bgr": cv2.COLOR_BGR2RGB,
    "bgra": cv2.COLOR_BGRA2RGB,
    "rgba": cv2.COLOR_RGBA2RGB,
    "grey": cv2.COLOR_GRAY2RGB,
}


def check_pixels(image: NDArray[np.uint8], colour: Colour) -> None:
    """Check that an array is what ``Colour`` says of it; (h, w, 1) is grey, too.

    OpenCV writes into memory that it is given only if that fits; else the memory stays as it was.

    Raises:
        ImageError: it is something else.
    """
    if colour not in get_args(Colour):
        raise ImageError(
            "encoding", f"colour is '{colour}': give one of {', '.join(get_args(Colour))}"
        )
    is_grey = colour == "grey"
    channels = [(), (1,)] if is_grey else [(len(colour),)]
    if not isinstance(image, np.ndarray):
        problem = f"is a {type(image).__name__}"
    elif image.dtype != np.uint8:
        problem = f"has pixels of type {image.dtype}"
    elif image.size == 0 or image.ndim < 2 or image.shape[2:] not in channels:
        problem = f"has the shape {image.shape}"
    else:
        return
    shape = "(h, w)" if is_grey else f"(h, w, {len(colour)})"
    raise ImageError(
        "encoding", f"the image {problem}: give a numpy array of uint8, {shape}, for {colour}"
    )


class Letterbox:
    """Resizes 8-bit images into one network input buffer.

    The border is painted and the scratch buffer allocated only when the size of the images
    changes, so each frame of a camera costs a resize and one conversion of the small image. Large
    images are halved first. Whoever else writes into the buffer says so by ``paint_again``.
    """

    def __init__(
        self,
        out: NDArray[np.uint8],
        resize: Literal["letterbox", "corner", "stretch"] = "letterbox",
    ) -> None:
        """Write into ``out``, (H, W, 3) uint8 RGB."""
        self._out = out
        self._resize = resize
        self._placement: Placement | None = None
        self._scratch: NDArray[np.uint8] | None = None
        self._halving = Halving()

    def __call__(self, image: NDArray[np.uint8], colour: Colour) -> Placement:
        """Fill the buffer from ``image`` (see ``Colour``); return where the image lies in it."""
        placement = self._place((image.shape[1], image.shape[0]))
        top, left = placement.top, placement.left
        window = self._out[top : top + placement.height, left : left + placement.width]
        size = (placement.width, placement.height)
        image = self._halving(image, size)
        if colour == "rgb":
            cv2.resize(image, size, dst=window, interpolation=cv2.INTER_LINEAR)
            return placement
        self._scratch = cv2.resize(image, size, dst=self._scratch, interpolation=cv2.INTER_LINEAR)
        cv2.cvtColor(self._scratch, TO_RGB[colour], dst=window)
        return placement

    def paint_again(self) -> None:
        """Paint the border with the next image: something else was written into the buffer."""
        self._placement = None

    def _place(self, source: tuple[int, int]) -> Placement:
        placement = self._placement
        if placement is None or placement.source != source:
            target = (self._out.shape[1], self._out.shape[0])
            placement = Placement.fit(source, target, self._resize)
            self._placement = placement
            self._out[...] = PADDING
        return placement
