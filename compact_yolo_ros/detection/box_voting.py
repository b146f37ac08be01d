# SPDX-License-Identifier: Apache-2.0
"""Box voting: what suppression removes still says where the object is.

A network finds an object in several cells and with several anchors, and the box with the best score
is seldom the one with the best place. The mean of all of them is steadier. Box voting is of
Gidaris and Komodakis, "Object detection via a multi-region and semantic segmentation-aware CNN
model" (ICCV 2015, arXiv 1505.01749); the weights, score times IoU, are those of Zhou et al., "CAD:
scale invariant framework for real-time object detection" (ICCV 2017 workshops).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.boxes import bounded, has_area, ious

LEAST_SHARE = 0.1
"""Candidates below this share of an object's score have no vote. So a user's threshold changes no
box, as long as candidates are known down to this share of it."""


def vote(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: NDArray[np.int32],
    keep: NDArray[np.intp],
    iou_threshold: float,
) -> NDArray[np.float32]:
    """The boxes (n, 4) of objects, each the mean of its own and of those that overlap it.

    Args:
        boxes: (k, 4) of all candidates, x1 y1 x2 y2 in pixels of the network input.
        scores: (k,).
        labels: (k,).
        keep: (n,) which candidates are the objects that suppression has kept.
        iou_threshold: candidates of an object's class whose boxes overlap its own by this IoU or
            more have a vote, weighted with their score times that IoU.

    Returns:
        The box of an object that no other candidate overlaps stays as it is.
    """
    corners = bounded(boxes)
    corners[~has_area(corners)] = 0  # they overlap nothing, and a NaN has no place in a mean
    weights = ious(corners[keep], corners)
    has_vote = weights >= iou_threshold
    has_vote &= labels[keep, None] == labels
    has_vote &= scores >= LEAST_SHARE * scores[keep, None]
    weights *= has_vote
    weights *= scores
    others = np.count_nonzero(weights, axis=1) > 1
    means = boxes[keep]
    weights = weights[others]
    means[others] = np.dot(weights, corners) / weights.sum(axis=1, keepdims=True)
    return means
