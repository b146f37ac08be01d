# SPDX-License-Identifier: Apache-2.0
"""Where tracked objects were in the last images, for those who look."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.detections import Detections

LENGTH = 2_000_000_000
"""Ns that a trail goes back."""
MOST_IMAGES = 128
"""Images that a trail goes back at most: those of two seconds at 60 Hz, and some."""


class Trail(NamedTuple):
    """Where one object was.

    Attributes:
        track: its id.
        points: (n, 2) float32 middles of its boxes in pixels, the oldest first, n > 1.
    """

    track: int
    points: NDArray[np.float32]


class Trails:
    """Remembers the last boxes of the tracks of one camera."""

    def __init__(self) -> None:
        """Begin with the next image."""
        self._images: deque[_Seen] = deque(maxlen=MOST_IMAGES)

    def add(self, stamp: int, tracks: Detections) -> list[Trail]:
        """Take the next image, and return the trails of the objects in it.

        Args:
            stamp: of the image, in ns. Where it goes back, the trails begin anew.
            tracks: its tracked objects, with ids.
        """
        if self._images and stamp < self._images[-1].stamp:
            self._images.clear()
        while self._images and self._images[0].stamp < stamp - LENGTH:
            self._images.popleft()
        assert tracks.ids is not None
        middles = (tracks.boxes[:, :2] + tracks.boxes[:, 2:]) / 2
        places = dict(zip(tracks.ids.tolist(), middles, strict=True))
        self._images.append(_Seen(stamp, places))
        trails = []
        for track in places:
            way = [image.places[track] for image in self._images if track in image.places]
            if len(way) > 1:
                trails.append(Trail(track, np.array(way)))
        return trails


class _Seen(NamedTuple):
    """The places of the tracks in one image, and its stamp."""

    stamp: int
    places: dict[int, NDArray[np.float32]]
