# SPDX-License-Identifier: Apache-2.0
"""The last depth images of a camera: that of an image comes before it, or while it is in work."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import partial
from threading import Lock
from typing import Protocol

from std_msgs.msg import Header

from compact_yolo_ros.pixels.image_header import stamp_of

MOST_IMAGES, MOST_BYTES = 30, 64 * 2**20
"""What is kept: a second of most cameras, and no more than this memory; besides these only the one
that is nearest to the image in work, which may take longer."""
OTHER_CLOCK = 60.0
"""Seconds between stamps of clocks that differ: no image waits as long."""


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
        self._has_dropped = False
        self._expected: int | None = None
        self._held: DepthImage | None = None

    def __len__(self) -> int:
        return len(self._images)

    def add(self, image: DepthImage) -> None:
        """Keep an image, and the newest of those before it."""
        with self._lock:
            self._images.append(image)
            self._bytes += image.data.nbytes
            if self._expected is not None:
                self._held = _nearest(self._expected, (self._held, image))
            while len(self._images) > MOST_IMAGES or self._bytes > MOST_BYTES:
                self._bytes -= self._images.popleft().data.nbytes
                self._has_dropped = True

    def expect(self, header: Header) -> None:
        """Hold the image nearest to ``header``, of those that are kept or come, until the next."""
        with self._lock:
            self._expected = stamp_of(header)
            self._held = _nearest(self._expected, (*reversed(self._images), self._held))

    def clear(self) -> None:
        """Forget all images."""
        with self._lock:
            self._images.clear()
            self._bytes = 0
            self._has_dropped = False
            self._expected = self._held = None

    def nearest(self, header: Header) -> tuple[DepthImage, float] | None:
        """The image whose stamp is nearest to that of ``header``, and the seconds between them."""
        stamp = stamp_of(header)
        nearest = _nearest(stamp, self._all())
        return None if nearest is None else (nearest, _between(stamp, nearest) * 1e-9)

    def is_too_short(self, header: Header) -> bool:
        """Whether only images newer than ``header`` are left, and older ones may have been here."""
        stamps = [stamp_of(image.header) for image in self._all() if image is not None]
        newer_by = (min(stamps, default=0) - stamp_of(header)) * 1e-9
        return self._has_dropped and 0 < newer_by < OTHER_CLOCK

    def _all(self) -> tuple[DepthImage | None, ...]:
        with self._lock:
            return self._held, *self._images


def _nearest(stamp: int, images: Iterable[DepthImage | None]) -> DepthImage | None:
    """The image whose stamp is nearest, the first of several; None if there is none."""
    there = (image for image in images if image is not None)
    return min(there, key=partial(_between, stamp), default=None)


def _between(stamp: int, image: DepthImage) -> int:
    """Nanoseconds between a stamp and that of an image."""
    return abs(stamp_of(image.header) - stamp)
