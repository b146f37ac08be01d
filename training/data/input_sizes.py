# SPDX-License-Identifier: Apache-2.0
"""Input sizes of training and evaluation: a number is the side of a square."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from compact_yolo_ros.model.sizes import Size, fitted


class SettingsSize(Size):
    """A size as recipes have it: ``320`` is a square, ``320x256`` is width x height."""

    __slots__ = ()

    @classmethod
    def from_settings(cls, value: Any, where: str = "size") -> SettingsSize:
        """Read a number or a text; raises ValueError that names ``where``."""
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError(f"{where} must be a number or WIDTHxHEIGHT, not {value!r}")
        try:
            return cls(*Size.parse(str(value)))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    def to_settings(self) -> int | str:
        """Return what ``from_settings`` reads."""
        return self.width if self.width == self.height else str(self)


def as_size(size: int | Size) -> Size:
    """Return a size; a number is the side of a square in pixels."""
    return Size.square(size) if isinstance(size, int) else size


def holding(side: int, images: Iterable[Size]) -> Size:
    """Return the smallest input that holds each of some images as its own fitted input does.

    Args:
        side: the long side of each image in the input, in pixels.
        images: their sizes.
    """
    inputs = [fitted(side, image) for image in images]
    return Size(max(size.width for size in inputs), max(size.height for size in inputs))
