# SPDX-License-Identifier: Apache-2.0
"""The header of an image, which its array of detections and every detection in it repeat."""

from __future__ import annotations

from time import monotonic_ns
from typing import Any

from compact_yolo_ros.pixels.image_error import ImageError

LONGEST_FRAME_ID = 256
"""Letters of a frame_id. One of megabytes would be published once for each detection."""


def stamp_of(header: Any) -> int:
    """The stamp of a std_msgs/Header in ns; 0 if it has none."""
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


def time_of(header: Any) -> int:
    """When an image was taken, in ns: its stamp or, if it has none, now on a steady clock."""
    return stamp_of(header) or monotonic_ns()


def check_header(header: Any) -> None:
    """Check the std_msgs/Header of an image.

    Raises:
        ImageError: its frame_id is too long.
    """
    letters = len(header.frame_id)
    if letters > LONGEST_FRAME_ID:
        raise ImageError(
            "header",
            f"the frame_id of the image has {letters} letters: set one of at most "
            f"{LONGEST_FRAME_ID} in the camera driver",
        )
