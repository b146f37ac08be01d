# SPDX-License-Identifier: Apache-2.0
"""One result from those of overlapping tiles, in which the same object was found several times.

As in SAHI (Akyon, Altinuc and Temizel, "Slicing aided hyper inference and fine-tuning for small
object detection", ICIP 2022, arXiv 2202.06934), the image is seen in tiles and as a whole. Boxes
that an edge of their tile cuts are left out: an object smaller than the overlap is whole in another
tile, and the whole image shows larger ones. To join their parts instead, as SAHI does, cost more
than tiles gain, since parts look like objects of their own. Of the others, suppression keeps one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.suppression import suppress
from compact_yolo_ros.detection.view import Area

EDGE = 0.02
"""Share of a tile's side within which a box touches its edge."""


def merge(parts: Sequence[Detections], areas: Sequence[Area], iou_threshold: float) -> Detections:
    """The objects that were found in parts of an image, each of them once, best first.

    Args:
        parts: what was found in each area, in pixels of the image.
        areas: the first one holds all others.
        iou_threshold: overlap above which two boxes are one object.
    """
    found = Detections.concatenate(
        [
            part[~_is_cut(part.boxes, area, areas[0])]
            for part, area in zip(parts, areas, strict=True)
        ]
    )
    return found[suppress(found.boxes, found.scores, found.labels, iou_threshold)]


def _is_cut(boxes: NDArray[np.float32], area: Area, whole: Area) -> NDArray[np.bool_]:
    """(n,) which boxes touch an edge of their area that is inside the whole."""
    starts, ends = np.array(area[:2]), np.array(area[:2]) + area[2:]
    margin = np.maximum(2.0, EDGE * np.array(area[2:]))
    inner_starts = starts > whole[:2]
    inner_ends = ends < np.array(whole[:2]) + whole[2:]
    touches = (boxes[:, :2] < starts + margin) & inner_starts
    touches |= (boxes[:, 2:] > ends - margin) & inner_ends
    return np.asarray(touches.any(axis=1))
