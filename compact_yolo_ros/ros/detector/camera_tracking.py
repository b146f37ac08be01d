# SPDX-License-Identifier: Apache-2.0
"""The tracks of one camera; nothing of it is imported before an image is to be tracked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING

from compact_yolo_ros.pixels.image_header import time_of
from compact_yolo_ros.ros.detector.topics import FrameResult

if TYPE_CHECKING:
    from compact_yolo_ros.detection.tracking.bytetrack import ByteTracker

_IDS = count(1)
"""Ids of all tracks of the process: no id comes twice, from whichever camera, also after a loop of
a recording or when the node was configured again."""


class CameraTracking:
    """Follows the objects in the images of one camera.

    ``follow`` is for the worker.

    Attributes:
        facts: counts since activation for /diagnostics; empty before the first image.
    """

    def __init__(self, log: Callable[[str], object]) -> None:
        """Begin without tracks; ``log`` takes a sentence for people."""
        self.facts: Mapping[str, int] = {}
        self._log = log
        self._tracker: ByteTracker | None = None

    def follow(self, result: FrameResult) -> FrameResult:
        """The result for an image with ids and tracks, and without what only they needed.

        Its settings must have ``tracking``.
        """
        settings = result.settings
        assert settings.tracking is not None
        if self._tracker is None:
            from compact_yolo_ros.detection.tracking.bytetrack import ByteTracker

            self._tracker = ByteTracker(settings.tracking, _IDS)
        tracker = self._tracker
        tracker.options = settings.tracking
        resets, before = tracker.counts.resets, tracker.source
        source = result.header.frame_id, result.image.size
        tracked = tracker.step(time_of(result.header), result.detections, source)
        if resets == 0 and tracker.counts.resets:
            self._log(f"{_why(source != before)} (further times are counted in /diagnostics)")
        self.facts = {
            "tracks_active": tracker.active,
            **{f"tracks_{name}": number for name, number in vars(tracker.counts).items()},
        }
        return result._replace(
            detections=settings.published(tracked.found),
            tracks=tracked.tracks.in_image(*result.image.size),
        )


def _why(is_other: bool) -> str:
    """Why all tracks ended; ``is_other``: the images have another frame or size than before."""
    if is_other:
        return (
            "the images have another size or frame_id than before, so that all tracks ended: "
            "another camera, or another resolution"
        )
    return (
        "the stamps of the images went back, so that all tracks ended: a recording began again, or "
        "the time was set back"
    )
