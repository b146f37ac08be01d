# SPDX-License-Identifier: Apache-2.0
"""How the network sees the images of a camera: turned, a part of them, or in tiles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.rotation import ROTATIONS, turned

if TYPE_CHECKING:  # it needs OpenCV, which parameters do without
    from compact_yolo_ros.pixels.jpeg_pixels import Window

MOST_TILES = 8
"""Along a side."""
MOST_OVERLAP = 0.5


class Area(NamedTuple):
    """A rectangle of an image in pixels, from its top left corner on."""

    x: int
    y: int
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    def __str__(self) -> str:
        return f"[{self.x}, {self.y}, {self.width}, {self.height}]"


ALL = Area(0, 0, 0, 0)
"""Stands for the whole image."""


@dataclass(frozen=True)
class View:
    """What the network is shown of an image. Boxes are in pixels of the whole image all the same.

    Attributes:
        rotation: degrees clockwise by which it is turned, so that it is upright.
        roi: the part that is shown, in pixels of the image before it is turned; ``ALL`` is all.
        tiles: columns and rows of tiles that are shown one by one, besides the whole part.
        overlap: share of a tile's side that it has in common with the next one.

    Raises:
        ValueError: a value is out of its range.
    """

    rotation: int = 0
    roi: Area = ALL
    tiles: tuple[int, int] = (1, 1)
    overlap: float = 0.2

    def __post_init__(self) -> None:
        if self.rotation not in ROTATIONS:
            raise ValueError(f"rotation is {self.rotation}: give 0, 90, 180 or 270 degrees")
        if min(self.roi) < 0 or (self.roi != ALL and min(self.roi.size) < 1):
            raise ValueError(f"roi {self.roi} is not x, y, width and height of a part of an image")
        if not 1 <= min(self.tiles) <= max(self.tiles) <= MOST_TILES:
            raise ValueError(f"tiles are 1 to {MOST_TILES} along each side, as in 3x2")
        if not 0 <= self.overlap <= MOST_OVERLAP:
            raise ValueError(f"tile_overlap is {self.overlap}: give 0 to {MOST_OVERLAP}")

    @cached_property
    def is_plain(self) -> bool:
        """Whether the whole image is shown as it is."""
        return self.rotation == 0 and self.roi == ALL and not self.has_tiles

    @property
    def has_tiles(self) -> bool:
        """Whether an image is shown in tiles."""
        return self.tiles != (1, 1)

    def part(self, size: tuple[int, int]) -> Area:
        """What is shown of an image of ``size`` (width, height).

        Raises:
            ImageError: it has none of the region of interest.
        """
        width, height = size
        if self.roi == ALL:
            return Area(0, 0, width, height)
        right = min(width, self.roi.x + self.roi.width)
        bottom = min(height, self.roi.y + self.roi.height)
        if self.roi.x >= right or self.roi.y >= bottom:
            raise ImageError(
                "roi",
                f"the image has {width}x{height} pixels, none of them in the roi {self.roi}: set "
                "roi to a part of it",
            )
        return Area(self.roi.x, self.roi.y, right - self.roi.x, bottom - self.roi.y)

    def areas(self, size: tuple[int, int]) -> list[Area]:
        """What is shown of an image of ``size``, one after the other: the whole part, then tiles.

        Raises:
            ImageError: see ``part``.
        """
        part = self.part(size)
        if not self.has_tiles:
            return [part]
        columns = _cut(part.x, part.width, self.tiles[0], self.overlap)
        rows = _cut(part.y, part.height, self.tiles[1], self.overlap)
        return [part, *(Area(x, y, w, h) for y, h in rows for x, w in columns)]

    def seen(self, size: tuple[int, int]) -> tuple[Size, ...]:
        """The sizes, as the network sees them, of what its runs show of an image of ``size``.

        That of a tile comes first, where there are some, then that of the whole part.

        Raises:
            ImageError: see ``part``.
        """
        whole, *tiles = (Size(*turned(area.size, self.rotation)) for area in self.areas(size))
        return (*tiles[:1], whole)

    def window(self, window: Window) -> Window:
        """How many pixels of the image are needed, from how many are of what is shown of it."""

        def needed(size: tuple[int, int]) -> tuple[int, int]:
            area = self.areas(size)[-1]
            width, height = turned(window(turned(area.size, self.rotation)), self.rotation)
            return -(-width * size[0] // area.width), -(-height * size[1] // area.height)

        return needed


PLAIN = View()


def parse_tiles(text: str) -> tuple[int, int]:
    """Read ``3x2``, columns and rows.

    Raises:
        ValueError: the text has another form.
    """
    found = re.fullmatch(r"([1-9])x([1-9])", text)
    if not found or int(max(found.groups())) > MOST_TILES:
        raise ValueError(f"tiles '{text[:20]}' are not like 3x2, with 1 to {MOST_TILES} a side")
    return int(found[1]), int(found[2])


def _cut(start: int, length: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """Start and length of ``count`` equal pieces that overlap by a share of their length."""
    piece = max(1, min(length, round(length / (count - (count - 1) * overlap))))
    step = (length - piece) / max(1, count - 1)
    return [(start + round(number * step), piece) for number in range(count)]
