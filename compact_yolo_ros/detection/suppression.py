# SPDX-License-Identifier: Apache-2.0
"""From the network's ranked candidates to the objects that are kept."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.box_voting import LEAST_SHARE, vote
from compact_yolo_ros.detection.boxes import FARTHEST, bounded, has_area
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.selection import Selection


def select(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: NDArray[np.int32],
    selection: Selection,
) -> Detections:
    """Apply thresholds, class filter, per-class non-maximum suppression and box voting.

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
    # Those that vote are below it, too: suppression among them takes nothing from the others.
    least = selection.least * (LEAST_SHARE if selection.box_voting else 1.0)
    count = int(np.count_nonzero(scores >= least))
    boxes, scores, labels = boxes[:count], scores[:count], labels[:count]
    keep = suppress(boxes, scores, labels, selection.iou_threshold)
    keep = keep[selection.above(scores[keep], labels[keep])]
    if selection.labels is not None:
        keep = keep[np.isin(labels[keep], list(selection.labels))]
    if not selection.limits_size:
        keep = keep[: selection.max_detections]
    found = boxes[keep]
    if selection.box_voting and len(keep) < count:
        found = vote(boxes, scores, labels, keep, selection.iou_threshold)
    return Detections(found, scores[keep], labels[keep])


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
    corners = bounded(boxes)
    there = np.flatnonzero(has_area(corners))
    corners += (labels * (2.0 * FARTHEST + 1.0))[:, None]
    corners[:, 2:] -= corners[:, :2]
    corners, scores = corners[there], scores[there]
    kept = cv2.dnn.NMSBoxes(corners, scores, 0.0, iou_threshold)  # type: ignore[arg-type]
    return there[np.asarray(kept, np.intp).reshape(-1)]
