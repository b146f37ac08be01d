# SPDX-License-Identifier: Apache-2.0
"""One result from those of overlapping tiles, in which the same object was found several times.

As in SAHI (Akyon, Altinuc and Temizel, "Slicing aided hyper inference and fine-tuning for small
object detection", ICIP 2022, arXiv 2202.06934), boxes are merged greedily, the best first, where
their intersection is more than half of the smaller one: a tile shows a part of an object that its
edge cuts. Other than there, this holds only for boxes that an edge of their tile cuts. Others are
whole: they are the same object if they overlap as suppression says, and a person in front of a
larger one stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.boxes import areas_of, intersections
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.view import Area

LEAST_SHARE = 0.5
"""Of the smaller box that two boxes have in common, where an edge cuts one (SAHI's default)."""
EDGE = 0.02
"""Share of a tile's side within which a box touches its edge."""


def merge(parts: Sequence[Detections], areas: Sequence[Area], iou_threshold: float) -> Detections:
    """The objects that were found in parts of an image, each of them once.

    Args:
        parts: what was found in each area, in pixels of the image.
        areas: the first one holds all others.
        iou_threshold: overlap above which two whole boxes are one object.

    Returns:
        Best first. A box that was cut is as large as what it was merged with.
    """
    found = Detections.concatenate(parts)
    order = np.argsort(-found.scores, kind="stable")
    found = found[order]
    boxes = found.boxes.astype(np.float64)
    source = np.repeat(np.arange(len(parts)), [len(part) for part in parts])[order]
    cut = np.concatenate(
        [_is_cut(part.boxes, area, areas[0]) for part, area in zip(parts, areas, strict=True)]
    )[order]
    free = np.ones(len(found), bool)
    kept = []
    for best in range(len(found)):
        if not free[best]:
            continue
        kept.append(best)
        others = np.flatnonzero(
            free & (source != source[best]) & (found.labels == found.labels[best])
        )
        others = others[others > best]
        same = others[_are_same(boxes, best, others, cut, iou_threshold)]
        free[same] = False
        if cut[best]:
            joined = boxes[[best, *same]]
            boxes[best] = [*joined[:, :2].min(0), *joined[:, 2:].max(0)]
    return Detections(boxes[kept].astype(np.float32), found.scores[kept], found.labels[kept])


def _is_cut(boxes: NDArray[np.float32], area: Area, whole: Area) -> NDArray[np.bool_]:
    """(n,) which boxes touch an edge of their area that is inside the whole."""
    starts, ends = np.array(area[:2]), np.array(area[:2]) + area[2:]
    margin = np.maximum(2.0, EDGE * np.array(area[2:]))
    inner_starts = starts > whole[:2]
    inner_ends = ends < np.array(whole[:2]) + whole[2:]
    touches = (boxes[:, :2] < starts + margin) & inner_starts
    touches |= (boxes[:, 2:] > ends - margin) & inner_ends
    return np.asarray(touches.any(axis=1))


def _are_same(
    boxes: NDArray[np.float64],
    best: int,
    others: NDArray[np.intp],
    cut: NDArray[np.bool_],
    iou_threshold: float,
) -> NDArray[np.bool_]:
    """(m,) which of the others are the object of the best box."""
    common = intersections(boxes[[best]], boxes[others])[0]
    area, areas = areas_of(boxes[[best]])[0], areas_of(boxes[others])
    is_part = common > LEAST_SHARE * np.minimum(area, areas)
    overlaps = common > iou_threshold * (area + areas - common)
    return np.asarray(np.where(cut[others] | cut[best], is_part, overlaps))
