# SPDX-License-Identifier: Apache-2.0
"""The size of a network's input: width x height in pixels, as cameras and messages have it.

An ``InputSize`` of one number fits the camera: ``fitted`` makes a ``Size`` of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

STRIDE = 32
"""Width and height of every network input are multiples of this many pixels."""
MIN_SIDE, MAX_SIDE = 160, 1280
"""Sides of a square network input in pixels. No input has fewer pixels than the smallest square:
below that a two-scale detector has under 300 candidates."""


def check_side(side: int) -> int:
    """Return ``side`` (pixels) if a network can be run at a square of it.

    Raises:
        ValueError: it cannot; the sentence says which sides can be used.
    """
    if side % STRIDE or not MIN_SIDE <= side <= MAX_SIDE:
        raise ValueError(
            f"input size {side} is not usable: give a multiple of {STRIDE} "
            f"from {MIN_SIDE} to {MAX_SIDE}"
        )
    return side


class Size(NamedTuple):
    """Width and height of a network input in pixels; as text ``320x224``."""

    width: int
    height: int

    @classmethod
    def square(cls, side: int) -> Size:
        """A square input."""
        return cls(side, side)

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read ``320`` (a square) or ``320x224`` (width x height).

        Raises:
            ValueError: the text has another form.
        """
        sides = text.lower().split("x")
        try:
            width, height = map(int, sides * 2 if len(sides) == 1 else sides)
        except ValueError:
            raise ValueError(f"'{text}' is not of the form 320 or WIDTHxHEIGHT") from None
        return cls(width, height)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width), the order of an array's axes."""
        return self.height, self.width

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    def check(self) -> Size:
        """Return the size if a network can be run at it, else raise ValueError."""
        check_side(max(self))
        if min(self) % STRIDE or min(self) <= 0:
            check_side(min(self))
        if self.area < MIN_SIDE**2:
            raise ValueError(
                f"input size {self} is not usable: give at least the pixels of "
                f"{MIN_SIDE}x{MIN_SIDE}"
            )
        return self

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


class OwnSize(Size):
    """The size that a network was made for, which need not be one that all can be run at."""

    __slots__ = ()

    def check(self) -> Size:
        """Return the size: the network's file vouches for it."""
        return self


InputSize = int | Size
"""What a user gives. A number is the long side in pixels of an input that fits the camera."""

ANY_IMAGE = Size(1, 1)
"""Stands for an image that is not known yet: what fits it is a square, which holds all images."""


def parse_input_size(text: str) -> InputSize:
    """Read ``320`` (the long side) or ``320x224`` (width x height).

    Raises:
        ValueError: the text has another form, or no network can be run at that size.
    """
    size = Size.parse(text).check()
    return size if "x" in text.lower() else size.width


def check_input_size(size: InputSize) -> InputSize:
    """Return the size if a network can be run at it, else raise ValueError."""
    return check_side(size) if isinstance(size, int) else size.check()


def long_side(size: InputSize) -> int:
    """The longer side in pixels."""
    return size if isinstance(size, int) else max(size)


def fitted(size: InputSize, image: tuple[int, int]) -> Size:
    """The input that an image needs.

    Args:
        size: a size as it is; or the long side (pixels), and then the short side is the smallest
            multiple of ``STRIDE`` that holds the image at that scale (rounded to whole pixels, as
            the letterbox does), and makes the input no smaller than ``Size.check`` allows.
        image: (width, height) in pixels.
    """
    if not isinstance(size, int):
        return size
    rows = round(size * min(image) / max(image))
    short = STRIDE * max(-(-rows // STRIDE), -(-(MIN_SIDE**2) // (size * STRIDE)))
    return Size(size, short) if image[0] >= image[1] else Size(short, size)


def nearest(sizes: Iterable[Size], wanted: Size) -> Size:
    """The size to use while only ``sizes`` are open: ``wanted`` itself if it is among them.

    Else the one that makes an image least smaller than ``wanted`` would, and of several the
    smallest.
    """

    def usefulness(size: Size) -> tuple[float, int]:
        scale = min(size.width / wanted.width, size.height / wanted.height)
        return min(1.0, scale), -size.area

    return max(sizes, key=usefulness)
