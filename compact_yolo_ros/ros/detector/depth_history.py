# SPDX-License-Identifier: Apache-2.0
"""The last depth images of a camera: that of an image comes before it, or while it is in work."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Protocol

from std_msgs.msg import Header

from compact_yolo_ros.pixels.image_header import stamp_of

MOST_IMAGES, MOST_BYTES = 30, 64 * 2**20
"""What is kept: a second of most cameras, and no more than this memory."""


class DepthImage(Protocol):
    """A depth image as it came, its pixels not read yet."""

    @property
    def header(self) -> Header:
        """Stamp and frame."""

    @property
    def width(self) -> int:
        """In pixels."""

    @property
    def height(self) -> int:
        """In pixels."""

    @property
    def data(self) -> memoryview:
        """The received bytes."""


class DepthHistory:
    """Keeps depth images that one thread brings, and finds them for another."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = Lock()
        self._images: deque[DepthImage] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._images)

    def add(self, image: DepthImage) -> None:
        """Keep an image, and the newest of those before it."""
        with self._lock:
            self._images.append(image)
            self._bytes += image.data.nbytes
            while len(self._images) > MOST_IMAGES or self._bytes > MOST_BYTES:
                self._bytes -= self._images.popleft().data.nbytes

    def clear(self) -> None:
        """Forget all images."""
        with self._lock:
            self._images.clear()
            self._bytes = 0

    def nearest(self, header: Header) -> tuple[DepthImage, float] | None:
        """The image whose stamp is nearest to that of ``header``, and the seconds between them."""
        with self._lock:
            images = tuple(self._images)
        if not images:
            return None
        stamp = stamp_of(header)
        nearest = min(images, key=lambda image: abs(stamp_of(image.header) - stamp))
        return nearest, abs(stamp_of(nearest.header) - stamp) * 1e-9
