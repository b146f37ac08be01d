# SPDX-License-Identifier: Apache-2.0
"""From the network's ranked candidates to the objects that are kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.model.sizes import MAX_SIDE


@dataclass(frozen=True)
class Selection:
    """Which objects are kept.

    Attributes:
        score_threshold: candidates below it are dropped, 0 to 1.
        iou_threshold: of two boxes of one class that overlap by more, the weaker goes, 0 to 1.
        max_detections: at most this many objects, best first, at least 1.
        labels: label numbers to keep; None keeps all.

    Raises:
        ValueError: a value is out of its range.
    """

    score_threshold: float = 0.3
    iou_threshold: float = 0.5
    max_detections: int = 100
    labels: frozenset[int] | None = None

    def __post_init__(self) -> None:
        for name in ("score_threshold", "iou_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a value from 0 to 1")
        if self.max_detections < 1:
            raise ValueError(f"max_detections is {self.max_detections}: give at least 1")

    def change(self, **values: Any) -> Selection:
        """Return a copy with some values changed, checked like a new one."""
        return replace(self, **values)


EVERYTHING = Selection(score_threshold=0.001, iou_threshold=0.5, max_detections=100)
"""What average precision is computed of, as for the papers' tables: it needs nearly all candidates.
A user's threshold, applied afterwards, gives what that user would have got: suppression never lets
a weaker box remove a stronger one."""


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
        The survivors, best first, boxes still in pixels of the network input.
    """
    # Scores descend, so the candidates above the threshold are a prefix and slicing copies nothing.
    count = int(np.count_nonzero(scores >= selection.score_threshold))
    boxes, scores, labels = boxes[:count], scores[:count], labels[:count]
    if selection.labels is not None:
        wanted = np.isin(labels, list(selection.labels))
        boxes, scores, labels = boxes[wanted], scores[wanted], labels[wanted]
    keep = _suppress(boxes, scores, labels, selection.iou_threshold)[: selection.max_detections]
    return Detections(boxes, scores, labels)[keep]


def _suppress(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: NDArray[np.int32],
    iou_threshold: float,
) -> NDArray[np.intp]:
    """Positions that survive, best first: greedy suppression among boxes of the same label."""
    if len(boxes) < 2:
        return np.arange(len(boxes))
    # Classes are moved apart, so that one call suppresses within each of them.
    corners = np.maximum(boxes, -FARTHEST, dtype=np.float64)
    np.minimum(corners, FARTHEST, out=corners)
    corners += (labels * (2.0 * FARTHEST + 1.0))[:, None]
    corners[:, 2:] -= corners[:, :2]
    kept = cv2.dnn.NMSBoxes(corners, scores, 0.0, iou_threshold)  # type: ignore[arg-type]
    return np.asarray(kept, np.intp).reshape(-1)
