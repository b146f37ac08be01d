# SPDX-License-Identifier: Apache-2.0
"""Labels in a topic of vision_msgs/Detection2DArray: a message an image, found by its stamp."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from compact_yolo_ros.detection.detection_array import class_name, read_detection_array
from compact_yolo_ros.labels.ground_truth import GroundTruth, LabelError


def read_detections_topic(
    messages: Iterable[tuple[int, Any]], model_classes: Sequence[str]
) -> tuple[tuple[str, ...], list[tuple[int, GroundTruth]]]:
    """Read labels from messages; an object's class is its best hypothesis.

    Args:
        messages: stamp in ns and Detection2DArray of every labelled image.
        model_classes: names of the classes that a ``class_id`` counts which is a number.

    Returns:
        The names of the classes in the order in which they occur, and stamp and objects of every
        image; boxes in pixels of the image, whose size is not known, see ``GroundTruth.clipped``.
        They have ``tracks`` if every object of the image has an ``id``.

    Raises:
        LabelError: a box is not finite.
    """
    numbers: dict[str, int] = {}
    tracks: dict[str, int] = {}
    truths = []
    for stamp, message in messages:
        boxes, _, class_ids, ids = read_detection_array(message)
        names = (class_name(text, model_classes) for text in class_ids)
        labels = [numbers.setdefault(name, len(numbers)) for name in names]
        if not np.isfinite(boxes).all():
            raise LabelError(f"the message of {stamp} ns has a box that is not finite")
        own = None
        if "" not in ids:
            own = np.array([tracks.setdefault(text, len(tracks)) for text in ids], np.int64)
        truths.append((stamp, GroundTruth(boxes, np.array(labels, np.int64), tracks=own)))
    return tuple(numbers), truths
