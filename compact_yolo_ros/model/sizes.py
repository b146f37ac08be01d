# SPDX-License-Identifier: Apache-2.0
"""The size of a network's input: width x height in pixels, as cameras and messages have it."""

from __future__ import annotations

from typing import NamedTuple

STRIDE = 32
"""Width and height of every network input are multiples of this many pixels."""
MIN_SIDE, MAX_SIDE = 160, 1280
"""Sides of a network input in pixels; below 160 a two-scale detector has under 300 candidates."""


def check_side(side: int) -> int:
    """Return ``side`` (pixels) if a network can be run at it.

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

    def check(self) -> Size:
        """Return the size if a network can be run at it, else raise ValueError."""
        for side in self:
            check_side(side)
        return self

    def scaled(self, height: int) -> Size:
        """Return the size of this height and about this shape, its width a multiple of STRIDE."""
        width = self.width * height / self.height
        return Size(max(MIN_SIDE, round(width / STRIDE) * STRIDE), height)

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


class OwnSize(Size):
    """The size that a network was made for, which need not be one that all can be run at."""

    __slots__ = ()

    def check(self) -> Size:
        """Return the size: the network's file vouches for it."""
        return self
