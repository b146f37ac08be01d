# SPDX-License-Identifier: Apache-2.0
"""The sizes of the images that the cameras send, which the network's inputs fit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from compact_yolo_ros.model.sizes import ANY_IMAGE, Size

SETTLED = 5
"""Images of another size in a row after which it is the camera's new size: two cameras on one topic
must not have networks opened without end."""


class ImageSizes:
    """Remembers the size of each camera's images. For one thread.

    The first image of a camera counts at once.
    """

    def __init__(self, cameras: Iterable[str]) -> None:
        """Know nothing yet of these cameras."""
        self._known = dict.fromkeys(cameras, ANY_IMAGE)
        self._others: dict[str, _Other] = {}

    @property
    def all(self) -> tuple[Size, ...]:
        """One of each camera; ``ANY_IMAGE`` for those that have sent none."""
        return tuple(self._known.values())

    def see(self, camera: str, width: int, height: int) -> bool:
        """Note the size (pixels) of an image; return whether that changes what is known."""
        known, size = self._known[camera], (width, height)
        if size == known:
            self._others.pop(camera, None)
            return False
        other = self._others.get(camera)
        images = other.images + 1 if other and other.size == size else 1
        if images < SETTLED and known != ANY_IMAGE:
            self._others[camera] = _Other(size, images)
            return False
        self._others.pop(camera, None)
        self._known[camera] = Size(*size)
        return True


class _Other(NamedTuple):
    """Another size than the known one, and how many images in a row had it."""

    size: tuple[int, int]
    images: int
