# SPDX-License-Identifier: Apache-2.0
"""Detections to and from vision_msgs/Detection2DArray.

The messages of rclpy and those that rosbags reads have the same fields, so that one reader and one
writer serve both; no message package is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, isfinite, sin
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.detections import NO_TRACK, Detections

DETECTION_ARRAY = "vision_msgs/msg/Detection2DArray"
MOST_DIGITS = 9
"""Of the number of a class; a ``class_id`` may be any text."""


class DetectionRows(NamedTuple):
    """The content of a message, an object a row.

    Attributes:
        boxes: (n, 4) x1 y1 x2 y2 in pixels of the image.
        scores: (n,).
        class_ids: n texts.
        ids: n texts, as trackers give them; empty where there is none.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    class_ids: tuple[str, ...]
    ids: tuple[str, ...]


def read_detection_array(message: Any) -> DetectionRows:
    """Read a message; a detection counts with its best hypothesis, and not at all without one."""
    boxes, scores, class_ids, ids = [], [], [], []
    for detection in message.detections:
        if not detection.results:
            continue
        score, class_id = max(map(_hypothesis, detection.results), key=lambda found: found[0])
        boxes.append(_corners(detection.bbox))
        scores.append(score)
        class_ids.append(class_id)
        # Before vision_msgs 4, there was another field for it.
        ids.append(str(getattr(detection, "id", "")))
    return DetectionRows(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(scores, np.float64),
        tuple(class_ids),
        tuple(ids),
    )


def _corners(box: Any) -> tuple[float, float, float, float]:
    """The box of a BoundingBox2D; around all of it if that is turned."""
    # Before vision_msgs 4 (ROS 2 Foxy), the centre was a Pose2D without a position of its own.
    centre = getattr(box.center, "position", box.center)
    x, y = box.size_x / 2, box.size_y / 2
    theta = getattr(box.center, "theta", 0.0)
    if theta and isfinite(theta):
        cosine, sine = abs(cos(theta)), abs(sin(theta))
        x, y = cosine * x + sine * y, sine * x + cosine * y
    return centre.x - x, centre.y - y, centre.x + x, centre.y + y


def _hypothesis(result: Any) -> tuple[float, str]:
    """Score and class of an object hypothesis."""
    # Before vision_msgs 4 (ROS 2 Foxy), they had no part of their own.
    found = getattr(result, "hypothesis", result)
    return found.score, str(found.class_id if hasattr(found, "class_id") else found.id)


def class_name(class_id: str, classes: Sequence[str]) -> str:
    """The class that a ``class_id`` means: its name, or its number in ``classes``."""
    if class_id in classes or not class_id.isdecimal() or len(class_id) > MOST_DIGITS:
        return class_id
    number = int(class_id)
    return classes[number] if number < len(classes) else class_id


def detections_of(message: Any, classes: Sequence[str]) -> Detections:
    """The content of a message as a detector of ``classes`` found it.

    Raises:
        ValueError: a ``class_id`` is neither the name nor the number of one of ``classes``.
    """
    boxes, scores, class_ids, _ = read_detection_array(message)
    names = [class_name(class_id, classes) for class_id in class_ids]
    if unknown := [name for name in names if name not in classes]:
        raise ValueError(f"there is no class '{unknown[0]}'")
    return Detections(
        boxes.astype(np.float32),
        scores.astype(np.float32),
        np.array([classes.index(name) for name in names], np.int32),
    )


class DetectionArrayWriter:
    """Writes detections into messages that are used again for the next image.

    A Detection2D is a tree of eight Python objects; making it costs more than filling it.
    """

    def __init__(self, new_array: Callable[[], Any], new_detection: Callable[[], Any]) -> None:
        """Start without messages: there will be as many as the fullest image needs.

        Args:
            new_array: makes a Detection2DArray.
            new_detection: makes a Detection2D with one hypothesis.
        """
        self._array = new_array()
        self._new_detection = new_detection
        self._pool: list[Any] = []
        self._has_ids = False

    def write(self, header: Any, detections: Detections, class_ids: Sequence[str]) -> Any:
        """Convert the detections of one image.

        Args:
            header: that of the image; the array and every detection carry it.
            detections: boxes in pixels of that image. The id of one without a track is empty.
            class_ids: ``class_id`` of each label.

        Returns:
            A Detection2DArray that is valid until the next call.
        """
        count = len(detections)
        while len(self._pool) < count:
            self._pool.append(self._new_detection())
        used = self._pool[:count]
        for message, (x1, y1, x2, y2), score, label in zip(
            used,
            detections.boxes.tolist(),
            detections.scores.tolist(),
            detections.labels.tolist(),
            strict=True,
        ):
            message.header = header
            hypothesis = message.results[0].hypothesis
            hypothesis.class_id = class_ids[label]
            hypothesis.score = score
            box = message.bbox
            box.center.position.x = (x1 + x2) / 2
            box.center.position.y = (y1 + y2) / 2
            box.size_x = x2 - x1
            box.size_y = y2 - y1
        self._write_ids(used, detections)
        self._array.header = header
        self._array.detections = used
        return self._array

    def _write_ids(self, used: Sequence[Any], detections: Detections) -> None:
        """Write the ids of the tracks, or remove those of an earlier image."""
        if detections.ids is not None:
            self._has_ids = True
            for message, track in zip(used, detections.ids.tolist(), strict=True):
                message.id = "" if track == NO_TRACK else str(track)
        elif self._has_ids:
            self._has_ids = False
            for message in self._pool:
                message.id = ""
