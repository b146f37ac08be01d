# SPDX-License-Identifier: Apache-2.0
"""The sizes of what the network sees of the cameras' images, which its inputs fit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from compact_yolo_ros.model.sizes import ANY_IMAGE, Size

SETTLED = 5
"""Images of another size in a row after which it is the camera's new size: two cameras on one topic
must not have networks opened without end."""


Sizes = tuple[tuple[int, int], ...]
"""Width and height, as the network sees it, of each different thing that it is shown of an image:
of its tiles and of the whole, or of the whole alone."""


class ImageSizes:
    """Remembers the sizes that belong to the images of each camera. For one thread.

    The first image of a camera counts at once.
    """

    def __init__(self, cameras: Iterable[str]) -> None:
        """Know nothing yet of these cameras."""
        self._known: dict[str, Sizes] = dict.fromkeys(cameras, (ANY_IMAGE,))
        self._others: dict[str, _Other] = {}

    @property
    def all(self) -> tuple[Size, ...]:
        """Those of each camera; ``ANY_IMAGE`` for one that has sent no image."""
        return tuple(Size(*size) for sizes in self._known.values() for size in sizes)

    def see(self, camera: str, sizes: Sizes) -> bool:
        """Note the sizes (pixels) for an image; return whether that changes what is known."""
        known = self._known[camera]
        if sizes == known:
            self._others.pop(camera, None)
            return False
        other = self._others.get(camera)
        images = other.images + 1 if other and other.sizes == sizes else 1
        if images < SETTLED and known != (ANY_IMAGE,):
            self._others[camera] = _Other(sizes, images)
            return False
        self._others.pop(camera, None)
        self._known[camera] = sizes
        return True


class _Other(NamedTuple):
    """Other sizes than the known ones, and how many images in a row had them."""

    sizes: Sizes
    images: int
