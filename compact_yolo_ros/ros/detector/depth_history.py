# SPDX-License-Identifier: Apache-2.0
"""The last depth images of a camera: that of an image comes before it, or while it is in work."""

from __future__ import annotations

from collections import deque
from threading import Lock

from std_msgs.msg import Header

from compact_yolo_ros.ros.received_images import ReceivedImage

MOST_IMAGES, MOST_BYTES = 30, 64 * 2**20
"""What is kept: a second of most cameras, and no more than this memory."""


class DepthHistory:
    """Keeps depth images that one thread brings, and finds them for another."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = Lock()
        self._images: deque[ReceivedImage] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._images)

    def add(self, image: ReceivedImage) -> None:
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

    def nearest(self, header: Header) -> tuple[ReceivedImage, float] | None:
        """The image whose stamp is nearest to that of ``header``, and the seconds between them."""
        with self._lock:
            images = tuple(self._images)
        if not images:
            return None
        stamp = _nanoseconds(header)
        nearest = min(images, key=lambda image: abs(_nanoseconds(image.header) - stamp))
        return nearest, abs(_nanoseconds(nearest.header) - stamp) * 1e-9


def _nanoseconds(header: Header) -> int:
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)
