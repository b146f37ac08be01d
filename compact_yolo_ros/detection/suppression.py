# SPDX-License-Identifier: Apache-2.0
"""From the network's ranked candidates to the objects that are kept."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.model.sizes import MAX_SIDE

FARTHEST = 100.0 * MAX_SIDE
"""Pixels from the origin at which suppression cuts off boxes: a network draws them without bound.

Of 65,536 classes that are moved apart by twice as much, float64 still tells 0.000002 pixels."""


def select(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: NDArray[np.int32],
    selection: Selection,
) -> Detections:
    """Apply thresholds, class filter and per-class non-maximum suppression.

    Args:
        boxes: (k, 4) xyxy in pixels of the network input.
        scores: (k,), descending.
        labels: (k,).
        selection: what to keep.

    Returns:
        The survivors, best first, boxes still in pixels of the network input, whatever their size;
        more than ``max_detections`` if some of them are still to be dropped for it.
    """
    # Scores descend, so the candidates above the threshold are a prefix and slicing copies nothing.
    count = int(np.count_nonzero(scores >= selection.least))
    boxes, scores, labels = boxes[:count], scores[:count], labels[:count]
    if selection.thresholds is not None:
        wanted = selection.above(scores, labels)
        boxes, scores, labels = boxes[wanted], scores[wanted], labels[wanted]
    if selection.labels is not None:
        wanted = np.isin(labels, list(selection.labels))
        boxes, scores, labels = boxes[wanted], scores[wanted], labels[wanted]
    keep = suppress(boxes, scores, labels, selection.iou_threshold)
    if not selection.limits_size:
        keep = keep[: selection.max_detections]
    return Detections(boxes, scores, labels)[keep]


def suppress(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: NDArray[np.int32],
    iou_threshold: float,
) -> NDArray[np.intp]:
    """Positions that survive, best first: greedy suppression among boxes of the same label.

    Of several boxes, those without an area (turned inside out, or not a number) are dropped: they
    are in no image, and OpenCV would take them to cover all others.
    """
    if len(boxes) < 2:
        return np.arange(len(boxes))
    # Classes are moved apart, so that one call suppresses within each of them.
    corners = np.maximum(boxes, -FARTHEST, dtype=np.float64)
    np.minimum(corners, FARTHEST, out=corners)
    corners += (labels * (2.0 * FARTHEST + 1.0))[:, None]
    corners[:, 2:] -= corners[:, :2]
    there = np.flatnonzero((corners[:, 2:] > 0).all(1))
    corners, scores = corners[there], scores[there]
    kept = cv2.dnn.NMSBoxes(corners, scores, 0.0, iou_threshold)  # type: ignore[arg-type]
    return there[np.asarray(kept, np.intp).reshape(-1)]
