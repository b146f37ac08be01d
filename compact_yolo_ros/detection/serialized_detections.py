# SPDX-License-Identifier: Apache-2.0
"""Detections as the bytes of a vision_msgs/Detection2DArray (4.x), without its objects.

A Detection2D is a tree of eight Python objects, which rclpy reads field by field: 100 of them take
0.8 ms. Of their bytes, all but a few numbers are the same in each.

The layout is plain CDR, little-endian: a value of n bytes begins at a multiple of n behind the
encapsulation header, a text has its length in front and a NUL behind. A detection ends with its
id; where that is empty, the next one begins at a multiple of eight.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.detections import NO_TRACK, Detections

ENCAPSULATION = b"\0\1\0\0"
SCORE, CENTRE, SIZE, COLUMNS = 0, 44, 47, 50
"""Places in a detection's numbers: score, pose with covariance (43), centre x y theta, size x y,
and the eight bytes of the empty id with the padding up to the next detection."""
ROW, STAMP = 8 * COLUMNS, 8
"""Bytes of a detection's numbers, and of a stamp."""
EMPTY_ID = 8
"""Bytes of an empty id with the padding behind it."""
ORIENTATION_W = 7
ID_PADDING = 3
"""Bytes of padding behind the last detection, which nothing follows."""


class SerializedDetectionWriter:
    """Writes detections; its memory is used again for the next image."""

    def __init__(self) -> None:
        """Start without memory: there will be as much as the fullest image needs."""
        self._numbers = _numbers(0)

    def write(self, header: Any, detections: Detections, class_ids: Sequence[str]) -> bytes:
        """Serialize the detections of one image.

        Args:
            header: that of the image; the array and every detection carry it.
            detections: boxes in pixels of that image. The id of one without a track is empty.
            class_ids: ``class_id`` of each label.
        """
        if detections.ids is not None:
            return self._write_tracked(header, detections, class_ids, detections.ids)
        stamp = struct.pack("<iI", header.stamp.sec, header.stamp.nanosec)
        start = stamp + _text(header.frame_id) + struct.pack("<I", len(detections))
        names = partial(_names, header.frame_id)
        labels = detections.labels.tolist()
        lead = [stamp + names(class_ids[label]) for label in labels]
        if labels:  # the first detection may begin in the middle of eight bytes, the others do not
            lead[0] = stamp + names(class_ids[labels[0]], begin=len(start) % 8)
        data = self._filled(detections).tobytes()
        rows = [data[at : at + ROW] for at in range(0, len(data), ROW)]
        parts = [ENCAPSULATION, start, *chain.from_iterable(zip(lead, rows, strict=True))]
        parts[-1] = parts[-1][: -ID_PADDING if labels else None]
        return b"".join(parts)

    def _write_tracked(
        self,
        header: Any,
        detections: Detections,
        class_ids: Sequence[str],
        tracks: NDArray[np.int64],
    ) -> bytes:
        """Serialize detections whose ids differ in length, so that each has its own padding."""
        stamp = struct.pack("<iI", header.stamp.sec, header.stamp.nanosec)
        parts = [stamp, _text(header.frame_id), struct.pack("<I", len(detections))]
        begin, padding = sum(map(len, parts)) % 8, 0
        data = self._filled(detections).tobytes()
        for number, (label, track) in enumerate(
            zip(detections.labels.tolist(), tracks.tolist(), strict=True)
        ):
            name = "" if track == NO_TRACK else str(track)
            text = _text(name)
            lead = _names(header.frame_id, class_ids[label], begin)
            at = number * ROW
            parts += [stamp, lead, data[at : at + ROW - EMPTY_ID], text]
            begin, padding = len(text) % 8, -(len(name) + 1) % 4
        data = b"".join([ENCAPSULATION, *parts])
        return data[: len(data) - padding]

    def _filled(self, detections: Detections) -> NDArray[np.float64]:
        """The numbers of all detections, (n, 50)."""
        count = len(detections)
        if count > len(self._numbers):
            self._numbers = _numbers(count)
        numbers = self._numbers[:count]
        boxes = detections.boxes.astype(np.float64)
        numbers[:, SCORE] = detections.scores
        numbers[:, CENTRE : CENTRE + 2] = (boxes[:, :2] + boxes[:, 2:]) / 2
        numbers[:, SIZE : SIZE + 2] = boxes[:, 2:] - boxes[:, :2]
        return numbers


def _numbers(count: int) -> NDArray[np.float64]:
    """The numbers of ``count`` detections, (count, 50): an identity pose, and no box yet."""
    numbers = np.zeros((count, COLUMNS), "<f8")
    numbers[:, ORIENTATION_W] = 1.0
    numbers.view("<u8")[:, -1] = 1  # the length of an empty text, its NUL, and the padding
    return numbers


@lru_cache(maxsize=1024)
def _names(frame_id: str, class_id: str, begin: int = 0) -> bytes:
    """What a detection has between the stamp and its numbers: frame, count of results, class.

    ``begin`` is where the detection begins, modulo 8.
    """
    names = _text(frame_id) + struct.pack("<I", 1) + _text(class_id)
    return names + bytes(-(begin + STAMP + len(names)) % 8)


@lru_cache(maxsize=1024)
def _text(text: str) -> bytes:
    """A text, padded up to a multiple of four bytes."""
    data = text.encode() + b"\0"
    return struct.pack("<I", len(data)) + data + bytes(-len(data) % 4)
