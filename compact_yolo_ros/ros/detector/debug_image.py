# SPDX-License-Identifier: Apache-2.0
"""The debug image: drawn for people, and so that looking does not slow the detections down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.drawing import annotated
from compact_yolo_ros.detection.tracking.trails import Trails
from compact_yolo_ros.pixels.decoding import DecodedImage
from compact_yolo_ros.pixels.image_header import time_of
from compact_yolo_ros.ros.detector.settings import Settings

Pack = Callable[[Header, NDArray[np.uint8]], Any]
"""Puts an image, (h, w, 3) uint8 BGR, into a message."""


class DebugImageWriter:
    """Makes the messages of one topic of one camera, as small and as rare as the settings say."""

    def __init__(
        self, classes: Sequence[str], pack: Pack, clock: Callable[[], float] = monotonic
    ) -> None:
        """Begin with the next image.

        Args:
            classes: name of each label.
            pack: makes the message.
            clock: seconds that never jump.
        """
        self._classes = classes
        self._pack = pack
        self._clock = clock
        self._last = float("-inf")
        self._trails = Trails()

    def write(
        self,
        header: Header,
        image: DecodedImage,
        detections: Detections,
        settings: Settings,
        tracks: Detections | None = None,
    ) -> Any:
        """The message for an image; None if the settings want none, or if it is too early.

        Args:
            header: of the image.
            image: its pixels.
            detections: what is drawn.
            settings: whether, how large and how often.
            tracks: the objects with a track, whose trails are drawn; None if nothing is tracked.
        """
        if not settings.debug_image:
            return None
        trails = self._trails.add(time_of(header), tracks) if tracks else []
        if not self._is_due(settings.debug_image_rate):
            return None
        longest = settings.debug_image_size
        return self._pack(header, annotated(image, detections, self._classes, longest, trails))

    def _is_due(self, rate: float) -> bool:
        """Whether another message may be sent; then it counts as sent."""
        if rate <= 0:
            return True
        now, period = self._clock(), 1 / rate
        due = self._last + period
        if now < due:
            return False
        # From the time it was due, so that a camera of 30 Hz gives 10 Hz and not 7.5.
        self._last = due if now < due + period else now
        return True
